"""A check of one claim: fine, a finding, or something that cannot be checked here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from graphssl.errors import GraphSSLError

Status = Literal["fine", "finding", "not checked"]


@dataclass(frozen=True)
class Check:
    """What was found of one claim.

    Attributes:
        about: The claim, such as `"splits: no family on two sides"`.
        status: `"fine"`, `"finding"` or `"not checked"`, which is no finding.
        found: One sentence.
    """

    about: str
    status: Status
    found: str


class NotCheckedError(Exception):
    """A claim that cannot be checked here, and why."""


class FoundError(Exception):
    """What does not hold."""

    def __init__(self, found: Sequence[str]) -> None:
        shown = "; ".join(found[:_SHOWN])
        super().__init__(shown + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""))


_SHOWN = 5


def checked(about: str, check: Callable[[], str]) -> Iterator[Check]:
    """One check; whatever a damaged folder makes it stumble over is a finding, never the end of the audit."""
    try:
        yield Check(about, "fine", check())
    except NotCheckedError as reason:
        yield Check(about, "not checked", str(reason))
    except (FoundError, GraphSSLError) as finding:
        yield Check(about, "finding", " ".join(str(finding).split()))
    except Exception as error:  # noqa: BLE001
        yield Check(about, "finding", f"what is there cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def expect_none(found: Sequence[str]) -> None:
    """End a check where something was found that should not be there.

    Raises:
        FoundError: If so; shows the first few.
    """
    if found:
        raise FoundError(found)
