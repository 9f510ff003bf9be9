"""The seal of a run folder: the SHA-256 of every file in it, in the format that `sha256sum -c` reads."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from graphssl.errors import DataError
from graphssl.folders import file_written_whole, ordinary
from graphssl.progress import tracked

SEAL = "SHA256SUMS"


def seal(folder: str | os.PathLike[str], names: Iterable[str] | None = None) -> None:
    """Write down the hash of every file of a folder, or only those of some that were written anew.

    Args:
        folder: The folder.
        names: Files, or folders of files, below it whose hashes are taken anew, and which the others keep; all when left out. A folder without a
            seal gets none that way.

    Raises:
        DataError: If the seal that is there is damaged.
    """
    place = Path(folder)
    if names is None:
        sums = {name: file_hash(place / name) for name in files_of(place)}
    elif not (place / SEAL).is_file():
        return
    else:
        anew = tuple(names)
        sums = {name: known for name, known in read_seal(place).items() if not _is_below(name, anew)}
        sums |= {name: file_hash(place / name) for name in files_of(place) if _is_below(name, anew)}
    _write(place, sums)


def seal_replaced(folder: str | os.PathLike[str], name: str, content: Path) -> None:
    """Write down the hash of a file that is about to take the place of another, or to be added; where the disk is full neither has changed.

    Args:
        folder: The folder. Without a seal it gets none that way.
        name: The file, relative to the folder.
        content: Where its content lies.

    Raises:
        DataError: If the seal that is there is damaged.
        StorageError: If the disk is full, or must not be written to.
    """
    place = Path(folder)
    if (place / SEAL).is_file():
        _write(place, {**read_seal(place), name: file_hash(content)})


def _write(folder: Path, sums: dict[str, str]) -> None:
    with file_written_whole(folder / SEAL) as aside:
        aside.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="utf-8")


def unseal(folder: str | os.PathLike[str]) -> None:
    """Take the seal away, while a run writes."""
    (Path(folder) / SEAL).unlink(missing_ok=True)


def read_seal(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Hash by name of file.

    Raises:
        DataError: If there is none, or a line is no hash and name.
    """
    path = Path(folder) / SEAL
    try:
        # Only "\n" ends a line, the last one too.
        *lines, rest = ordinary(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Expected the hashes of a finished run in {path}, found none that can be read ({error}).") from error
    sums = {line[66:]: line[:64] for line in lines}
    wrong = [line for line in lines if line[64:66] != "  " or not set(line[:64]) <= set("0123456789abcdef")]
    if wrong or rest or len(sums) != len(lines):
        found = [*wrong, rest, "a name twice"] if wrong or rest else ["a name twice"]
        raise DataError(f"Expected a hash, two blanks and a name in each line of {path}, found {found[0][:80]!r}.")
    return sums


def broken(folder: str | os.PathLike[str]) -> list[str]:
    """What is no longer as it was sealed, a sentence each.

    Raises:
        DataError: If there is no seal, or a damaged one.
    """
    place, sums = Path(folder), read_seal(folder)
    found = set(files_of(place))
    kept = tracked(sorted(found & set(sums)), "Comparing files with their hashes")
    changed = [f"{name} was changed" for name in kept if file_hash(place / name) != sums[name]]
    return [*changed, *(f"{name} is gone" for name in sorted(set(sums) - found)), *(f"{name} was added" for name in sorted(found - set(sums)))]


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hex digits; of a symbolic link, that of where it points, which is then no file of the folder."""
    if path.is_symlink():
        return hashlib.sha256(f"link to {os.readlink(path)}".encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """Names of all files below a folder but the seal, the lock and what was never finished."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return sorted(name for name in found if name not in (SEAL, LOCK) and not any(part.endswith(_UNFINISHED) for part in name.split("/")))


# Held by the process that writes into a run folder.
LOCK = ".lock"
_UNFINISHED = (".part", ".old")


def _is_below(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)
