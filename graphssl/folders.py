"""Folders and files that are written whole or not at all."""

import errno
import hashlib
import itertools
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graphssl.errors import GraphSSLError, RunFolderError, StorageError


@contextmanager
def written_whole(folder: str | os.PathLike[str], *, marker: str, what: str) -> Iterator[Path]:
    """A folder beside the place, to write into; it takes the place at the end, unless an error came up.

    What stood there before is removed only once the new folder stands in its place; killed between the two moves, it lies beside it, whole, under
    a name ending in `.old`. Of several processes that write the same folder at once the last one stays. What a killed process left beside the place
    goes with the next folder that takes it.

    Args:
        folder: The place.
        marker: Name of a file that every folder of the kind has: only such a folder is replaced.
        what: The kind, for the error, such as `"a saved model"`.

    Raises:
        RunFolderError: If a file stands there, or a folder that holds other files.
        StorageError: If the disk is full, or must not be written to.
    """
    target = _place(folder)
    if _holds_others(target, marker):
        raise RunFolderError(f"Expected {target} to be absent, empty or {what}; found other files. Give another folder.")
    aside = _beside(target, _PART)
    with storing(target):
        aside.mkdir(parents=True)
    with _given_up(target, aside):
        yield aside
        _take_place(aside, target)
    _remove_abandoned(target)


@contextmanager
def file_written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside a file, to write to; what was written takes the place of the file at the end, unless an error came up.

    Folders above are made. Killed while it writes, it leaves the file as it was, and beside it a part under a name ending in `.part`, which goes when
    the file is next written. Several processes may write the same file at once: each writes a part of its own, and the last one stays.

    Args:
        path: The file.

    Raises:
        RunFolderError: If something else than a file stands there.
        StorageError: If the disk is full, or must not be written to.
    """
    target = _place(path)
    if target.exists() and not target.is_file():
        raise RunFolderError(f"Expected {target} to be absent or a file, found something else. Give another name.")
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(target, _PART)
    with _given_up(target, aside):
        yield aside
        os.replace(aside, target)
    _remove_abandoned(target)


@contextmanager
def storing(place: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever keeps a place from being written is said in one sentence.

    Args:
        place: What is written.

    Raises:
        StorageError: If the disk is full, or must not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FOUND:
            raise _refused(place, error) from error
        raise


def storage_error(error: OSError) -> StorageError | None:
    """A disk that is full or read-only in one sentence; None for any other error.

    Args:
        error: What the operating system said, wherever it came up.
    """
    return _refused(error.filename or "a file", error) if error.errno in _FULL or error.errno == errno.EROFS else None


def ordinary(path: Path) -> Path:
    """The path of an ordinary file: whoever opens a named pipe waits for its writer.

    Raises:
        FileNotFoundError: If it is none (Python's own error, which readers name with the file).
    """
    if not path.is_file():
        raise FileNotFoundError("no ordinary file")
    return path


_PART, _OLD = ".part", ".old"
_FULL = {errno.ENOSPC: "a full disk", errno.EDQUOT: "a quota that is used up", errno.EFBIG: "a file larger than is allowed"}
_FOUND = {
    **_FULL,
    errno.EROFS: "a read-only file system",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOTDIR: "a file in the place of a folder above it",
    errno.ENAMETOOLONG: "a name that is too long",
}
_PROBE = bytes(2**16)
_serial = itertools.count()


def _place(path: str | os.PathLike[str]) -> Path:
    """Where to write: what a symbolic link points to, not the link."""
    return Path(path).resolve() if Path(path).is_symlink() else Path(path)


def _holds_others(target: Path, marker: str) -> bool:
    """Whether a file stands there, or a folder of another kind; asked at one go, for another process may move the folder away at any time."""
    try:
        with os.scandir(target) as entries:
            found = {entry.name for entry in entries}
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return target.exists()
    return bool(found) and marker not in found and target.exists() and not (target / marker).is_file()


def _beside(target: Path, ending: str) -> Path:
    """A name beside a place that no other process and no other call takes, and that says whose it is."""
    return target.with_name(f"{target.name}.{_machine()}-{os.getpid()}-{next(_serial)}{ending}")


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _take_place(aside: Path, target: Path) -> None:
    """Move a folder to its place; what stands there, be it put there meanwhile, is moved away before and removed after."""
    moved: list[Path] = []
    try:
        while not _moved(aside, target):
            moved.append(_beside(target, _OLD))
            with suppress(FileNotFoundError):  # another process was faster
                os.replace(target, moved[-1])
    except BaseException:
        if moved and moved[-1].exists() and not target.exists():
            os.replace(moved[-1], target)
        raise
    for before in moved:
        shutil.rmtree(before, ignore_errors=True)


def _moved(aside: Path, target: Path) -> bool:
    try:
        os.replace(aside, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


@contextmanager
def _given_up(target: Path, aside: Path) -> Iterator[None]:
    """What was begun is removed when an error comes up; that of a disk is said in one sentence."""
    try:
        yield
    except BaseException as error:
        refusal = _refusal(error, aside)
        _remove(aside)
        if refusal is not None:
            raise _refused(target, refusal) from error
        raise


def _refusal(error: BaseException, aside: Path) -> OSError | None:
    """What the disk said, where an error comes from it. Libraries hide it behind errors of their own, so the disk is asked again."""
    if not isinstance(error, Exception) or isinstance(error, GraphSSLError):
        return None
    if isinstance(error, OSError) and error.errno in _FOUND:
        read_only = error.filename is not None and not os.fsdecode(error.filename).startswith(str(aside))  # of a file that was read meanwhile
        return None if read_only and error.errno not in _FULL else error
    told = re.search(r"\(os error (\d+)\)", str(error))  # as libraries in Rust say it, such as safetensors
    if told is not None and int(told[1]) in _FOUND:
        return OSError(int(told[1]), os.strerror(int(told[1])))
    files = [path for path in (aside.iterdir() if aside.is_dir() else [aside]) if path.is_file()]
    last = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    try:
        if last is not None:
            with last.open("ab") as file:
                file.write(_PROBE)
    except OSError as found:
        return found if found.errno in _FOUND else None
    return None


def _refused(place: str | os.PathLike[str], error: OSError) -> StorageError:
    number = error.errno or 0
    mend = "Free space there" if number in _FULL else "Make it writable"
    return StorageError(
        f"Expected to write {os.fspath(place)}, found {_FOUND[number]} ({os.strerror(number)}). What stood there and what was finished before "
        f"are as they were. {mend} or name another place, and give the same command again: a run goes on from what is finished."
    )


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes of this machine began beside a place."""
    owned = re.compile(rf"{re.escape(target.name)}\.{_machine()}-(\d+)-\d+({re.escape(_PART)}|{re.escape(_OLD)})")
    for path in target.parent.iterdir():
        owner = owned.fullmatch(path.name)
        if owner and not _lives(int(owner[1])):
            _remove(path)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
