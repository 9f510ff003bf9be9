"""Shares of a study: which of its cells a process computes, where several fill one folder."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from graphssl.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """One of several parts of a study, each computed by a process of its own, such as a task of a job array.

    Args:
        number: Which one, from 1.
        of: How many there are.

    Raises:
        ConfigError: If there is no such share.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(
                f"Expected a share from 1/{max(self.of, 1)} to {max(self.of, 1)}/{max(self.of, 1)}, found {self.number}/{self.of}. "
                f"Count from 1 (a job array: --array=1-{max(self.of, 1)})."
            )

    @classmethod
    def parse(cls, text: str) -> "Share":
        """A share as it is written, such as `3/16`.

        Args:
            text: The words.

        Raises:
            ConfigError: If it is not written so, or there is no such share.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None:
            raise ConfigError(f"Expected a share such as 3/16, the third of sixteen; found {text!r}.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def take(self, sizes: Mapping[str, int]) -> set[str]:
        """Which of several pieces of work this share does: every piece is of one share, and shares are about as large as one another.

        The largest piece left goes to the share that has least. Which share begins depends on the pieces, so that those of several calls that have
        fewer pieces than there are shares do not all fall to the first ones.

        Args:
            sizes: How much each piece is, by its name; every share must be asked with the same ones.
        """
        first = int(hashlib.sha256("".join(sorted(sizes)).encode()).hexdigest(), 16) % self.of
        order = [(first + k) % self.of for k in range(self.of)]
        loads, mine = dict.fromkeys(order, 0), set()
        for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
            least = min(order, key=loads.__getitem__)
            loads[least] += sizes[name]
            if least == self.number - 1:
                mine.add(name)
        return mine
