"""Configurations that come with the package: `--config configs/…` is found wherever graphssl is called."""

from collections.abc import Sequence
from pathlib import Path

import graphssl

_PACKAGE = Path(graphssl.__file__).parent
# In an installed package, or beside it in a checkout.
_PLACES = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
_OPTION = "--config"


def with_shipped(words: Sequence[str]) -> list[str]:
    """The words of a command, where a configuration that is not at hand but ships with the package is named by its place.

    Args:
        words: Words after the verb.
    """
    found = list(words)
    for k, word in enumerate(found):
        option, equals, value = word.partition("=")
        if option == _OPTION and equals:
            found[k] = f"{option}={_place(value)}"
        elif word == _OPTION and k + 1 < len(found):
            found[k + 1] = _place(found[k + 1])
    return found


def _place(name: str) -> str:
    path = Path(name)
    if path.exists() or path.is_absolute() or path.parts[:1] != ("configs",) or ".." in path.parts:
        return name
    return next((str(shipped) for folder in _PLACES if (shipped := folder.joinpath(*path.parts[1:])).is_file()), name)
