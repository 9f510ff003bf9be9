"""Folders and files that are written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphssl.errors import RunFolderError


@contextmanager
def written_whole(folder: str | os.PathLike[str], *, marker: str, what: str) -> Iterator[Path]:
    """A folder beside the place, to write into; it takes the place at the end, unless an error came up.

    What stood there before is removed only once the new folder stands in its place; killed between the two moves, it lies beside it, whole, under
    the name ending in `.old`.

    Args:
        folder: The place.
        marker: Name of a file that every folder of the kind has: only such a folder is replaced.
        what: The kind, for the error, such as `"a saved model"`.

    Raises:
        RunFolderError: If a file stands there, or a folder that holds other files.
    """
    target = Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / marker).is_file()):
        raise RunFolderError(f"Expected {target} to be absent, empty or {what}; found other files. Give another folder.")
    aside, before = (target.with_name(f"{target.name}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(before, ignore_errors=True)
        os.replace(target, before)
    os.replace(aside, target)
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def file_written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside a file, to write to; what was written takes the place of the file at the end, unless an error came up.

    Folders above are made. Killed while it writes, it leaves the file as it was, and beside it a part under the name ending in `.part`.

    Args:
        path: The file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.part")
    try:
        yield aside
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    os.replace(aside, target)


def ordinary(path: Path) -> Path:
    """The path of an ordinary file: whoever opens a named pipe waits for its writer.

    Raises:
        FileNotFoundError: If it is none (Python's own error, which readers name with the file).
    """
    if not path.is_file():
        raise FileNotFoundError("no ordinary file")
    return path
