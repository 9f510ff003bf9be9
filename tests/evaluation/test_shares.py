"""Shares of a study: every piece of work once, shares of like size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphssl.errors import ConfigError
from graphssl.evaluation.shares import Share

SIZES = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 30), max_size=25)


@given(SIZES, st.integers(1, 9))
def test_every_piece_is_of_one_share_and_shares_are_alike(sizes, n):
    shares = [Share(k, n).take(sizes) for k in range(1, n + 1)]
    assert sorted(name for share in shares for name in share) == sorted(sizes)
    loads = [sum(sizes[name] for name in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes.values(), default=0)  # the largest piece is what they may differ by
    assert shares == [Share(k, n).take(dict(reversed(sizes.items()))) for k in range(1, n + 1)]


def test_few_pieces_of_several_calls_do_not_all_fall_to_the_first_share():
    assert len({number for name in "abcdefgh" for number in range(1, 5) if Share(number, 4).take({name: 1})}) > 1


def test_shares_are_written_as_they_are_read():
    assert Share.parse("3/16") == Share(3, 16)
    assert str(Share(3, 16)) == "3/16"
    for text in ("3", "a/b", "-1/2", "1/2/3", ""):
        with pytest.raises(ConfigError, match="Expected a share such as 3/16"):
            Share.parse(text)
    for text in ("0/4", "5/4", "0/0"):
        with pytest.raises(ConfigError, match=r"Count from 1 \(a job array: --array=1-"):
            Share.parse(text)
