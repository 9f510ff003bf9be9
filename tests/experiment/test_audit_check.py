"""A check is fine, a finding, or not checked, whatever it stumbles over."""

import pytest

from graphssl.errors import DataError
from graphssl.experiment.audit_check import Check, FoundError, NotCheckedError, checked, expect_none


def failing(error):
    def check():
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "status", "found"),
    [
        (lambda: "two splits", "fine", "two splits"),
        (failing(NotCheckedError("no data")), "not checked", "no data"),
        (failing(FoundError(["one", "another"])), "finding", "one; another"),
        (failing(DataError("Expected a table,\n  found none.")), "finding", "Expected a table, found none."),
        (failing(KeyError("train")), "finding", "what is there cannot be read (KeyError: 'train')"),
    ],
)
def test_one_check(check, status, found):
    assert list(checked("splits", check)) == [Check("splits", status, found)]


def test_of_many_findings_the_first_are_shown():
    expect_none([])
    with pytest.raises(FoundError, match=r"^a; b; c; d; e; and 2 more$"):
        expect_none([*"abcdefg"])
