"""An argument parser whose errors are sentences."""

import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

from jsonargparse import ArgumentParser

from graphssl.errors import ConfigError

_UNKNOWN = (
    re.compile(r"(?:Key|Option|key) ?'?-*([\w.]+)'? is not (?:accepted|expected)"),
    re.compile(r"[Uu]nrecognized arguments: -*([\w.]+)"),
)


class Parser(ArgumentParser):
    """An argument parser that raises `ConfigError` with the nearest known key instead of printing usage.

    Attributes:
        more_keys: Keys below its options, such as arguments of the classes that a configuration may name.
    """

    more_keys: Sequence[str] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn a parsing error into one sentence.

        Raises:
            ConfigError: Always.
        """
        text = " ".join(line.strip() for line in str(ex or message).splitlines() if line.strip())
        found = next((match for pattern in _UNKNOWN if (match := pattern.search(text))), None)
        keys = {part for action in self._actions for part in str(action.dest).split(".")}
        hint = nearest(found.group(1).split(".")[-1], sorted(keys | set(self.more_keys))) if found else ""
        raise ConfigError(f"Expected a configuration that fits, found: {text}{hint}")


def nearest(word: str, known: Sequence[str]) -> str:
    """`" Did you mean …?"` with the nearest known word, or nothing where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
