"""Cross-shaped voting against loops, and what it is for: single patches never count, blobs do."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from graphssl.errors import ConfigError, DataError
from graphssl.evaluation import CrossVoting, confirmed, probability_grids

PLUS = np.zeros((5, 5))
PLUS[2, 1:4] = PLUS[1:4, 2] = 0.9


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.integers(0, 99))
def test_votes_are_those_of_loops(height, width, n_neighbors, seed):
    grid = np.random.default_rng(seed).uniform(size=(height, width))
    grid[grid < 0.15] = np.nan
    found = confirmed(grid, 0.4, n_neighbors)
    for s in range(height):
        for x in range(width):
            near = [(s - 1, x), (s + 1, x), (s, x - 1), (s, x + 1)]
            votes = sum(0 <= a < height and 0 <= b < width and grid[a, b] >= 0.4 for a, b in near)
            assert found[s, x] == (grid[s, x] >= 0.4 and votes >= n_neighbors)


def test_a_single_patch_is_never_confirmed_and_a_cross_is():
    alone = np.zeros((5, 5))
    alone[2, 2] = 1.0
    for n in (1, 2, 3, 4):
        assert not confirmed(alone, 0.5, n).any()
        assert confirmed(PLUS, 0.5, n)[2, 2]
    assert confirmed(PLUS, 0.5, 1).sum() == 5
    assert confirmed(PLUS, 0.5, 2).sum() == 1
    assert confirmed(alone, 0.5, 0).sum() == 1


def test_thresholds_are_chosen_so_that_scattered_patches_do_not_make_a_volume_positive():
    rng = np.random.default_rng(0)
    scattered = [np.where((np.indices((6, 6)).sum(axis=0) % 2 == 0) & (rng.uniform(size=(6, 6)) < 0.6), 0.95, 0.05) for _ in range(6)]
    blobs = [np.where(np.pad(PLUS, ((0, 1), (0, 1))) > 0, 0.8, 0.05) for _ in range(6)]
    labels = [0] * 6 + [1] * 6
    voting = CrossVoting().fit([*scattered, *blobs], labels)
    assert voting.n_neighbors_ == 1
    assert voting.n_confirmed_ == 1
    assert voting.threshold_ == pytest.approx(0.1), "the lowest of those that do equally well"
    assert voting.predict([*scattered, *blobs]).tolist() == labels
    assert voting.rates([*scattered, *blobs], labels) == {"sensitivity": 1.0, "specificity": 1.0}
    assert max(np.max(grid) for grid in scattered) > max(np.max(grid) for grid in blobs), "the largest probability would have it the other way"


def test_volumes_of_other_sizes_and_without_a_kind():
    voting = CrossVoting(thresholds=[0.5]).fit([PLUS, np.zeros((2, 3))], [1, 0])
    assert voting.count([np.zeros((1, 1)), PLUS]).tolist() == [0, 5]
    rates = voting.rates([PLUS], [1])
    assert rates["sensitivity"] == 1.0
    assert np.isnan(rates["specificity"])


def test_grids_come_from_a_table_of_patches():
    table = pd.DataFrame({"v": ["b", "b", "a"], "s": [3, 4, 0], "x": [7, 9, 0], "p": [0.1, 0.2, 0.3]})
    grids = probability_grids(table, volume="v", row="s", column="x", probability="p")
    assert list(grids) == ["b", "a"]
    np.testing.assert_array_equal(grids["b"], [[0.1, np.nan, np.nan], [np.nan, np.nan, 0.2]])
    np.testing.assert_array_equal(grids["a"], [[0.3]])


def test_wrong_input_is_refused():
    for arguments in ({"neighbors": [5]}, {"neighbors": []}, {"thresholds": [0.0]}, {"thresholds": []}):
        with pytest.raises(ConfigError, match="neighbours from 0 to 4 and thresholds"):
            CrossVoting(**arguments).fit([PLUS, PLUS], [0, 1])
    for labels in ([1, 1], [0], [0, 2]):
        with pytest.raises(DataError, match="a label of 0 or 1 for each of 2 volumes, and both"):
            CrossVoting().fit([PLUS, PLUS], labels)
    for grids in ([PLUS + 1, PLUS], [PLUS[0], PLUS], []):
        with pytest.raises(DataError, match=r"a grid of probabilities \[S, X\] in \[0, 1\]"):
            CrossVoting().fit(grids, [0, 1])
    with pytest.raises(NotFittedError):
        CrossVoting().predict([PLUS])
    table = pd.DataFrame({"v": ["a", "a"], "s": [0, 0], "x": [1, 1], "p": [0.1, 0.2]})
    with pytest.raises(DataError, match="one patch a place, found two of volume 'a' at slice 0, place 1"):
        probability_grids(table, volume="v", row="s", column="x", probability="p")
    with pytest.raises(DataError, match=r"found none called \['q'\]"):
        probability_grids(table, volume="v", row="s", column="x", probability="q")
