"""The files below a path, in one pass: what every layout is recognised by."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from graphssl.errors import DataError


@dataclass(frozen=True)
class Listing:
    """Names of the files at a path.

    Args:
        path: The path that was given.
        root: The folder that the names are relative to: the path itself, or the folder of the one file.
        names: Names of the files, relative, with slashes, sorted.
    """

    path: Path
    root: Path
    names: tuple[str, ...]

    @property
    def is_file(self) -> bool:
        """Whether the path is one file."""
        return self.path != self.root

    @cached_property
    def called(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    def ending(self, *endings: str) -> list[str]:
        """Names with one of the endings, in lower or upper case."""
        return [name for name in self.names if name.lower().endswith(endings)]

    def here(self, fits: Callable[[str], object]) -> bool:
        """Whether a file in the folder itself has a name that fits."""
        return any("/" not in name and fits(name) for name in self.names)


def list_files(path: str | os.PathLike[str]) -> Listing:
    """List all files below a folder in one pass of `os.scandir`; hidden ones are left out. A path of one file gives that file.

    Args:
        path: A folder or a file.

    Raises:
        DataError: If there is nothing, or no file below it.
    """
    place = Path(path)
    if place.is_file():
        return Listing(place, place.parent, (place.name,))
    if not place.is_dir():
        raise DataError(f"Expected a folder or a file at {place}, found nothing. Check the path.")
    names = tuple(sorted(_all_below(os.fspath(place))))
    if not names:
        dead = links_to_nothing(place)
        raise DataError(
            f"Expected files in {place}, found {len(dead)} links that lead nowhere, such as {dead[0]}. {GET_CONTENT}"
            if dead
            else f"Expected files in {place}, found an empty folder. Check the path."
        )
    return Listing(place, place, names)


def links_to_nothing(path: Path) -> list[str]:
    """Names of links below a folder whose file is not here, as DataLad and git-annex leave them before the content is fetched."""
    below = (Path(folder) / name for folder, _, names in os.walk(path) for name in names if not name.startswith("."))
    return sorted(str(place.relative_to(path)) for place in below if place.is_symlink() and not place.exists())


# What to do about them.
GET_CONTENT = "Fetch their content, with datalad get or git annex get."


def _all_below(folder: str) -> Iterator[str]:
    """Files of a folder, then those of linked folders that do not lie in it or were linked before: no file is there twice, and no ring is endless."""
    entered, links = {_identity(folder)}, [(folder, "")]
    while links:
        place, prefix = links.pop(0)
        yield from _below(place, prefix, entered, links)
        links = [link for link in links if _identity(link[0]) not in entered]


def _below(folder: str, prefix: str, entered: set[tuple[int, int]], links: list[tuple[str, str]]) -> Iterator[str]:
    entered.add(_identity(folder))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with suppress(OSError):  # a link to itself is nothing
                if entry.is_file():
                    yield prefix + entry.name
                elif entry.is_dir() and entry.is_symlink():
                    links.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_dir() and _identity(entry.path) not in entered:
                    yield from _below(entry.path, f"{prefix}{entry.name}/", entered, links)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
