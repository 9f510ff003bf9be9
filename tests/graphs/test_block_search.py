"""The block search, against sorting every pair in double precision."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from graphssl.graphs import FeatureGroup
from graphssl.graphs.block_search import BlockSearch
from graphssl.graphs.similarity import group_similarity

NAMES = [f"c{i}" for i in range(4)]


def searched(kinds, n, *, seed, missing, digits):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 4)).round(digits)
    values[rng.random(values.shape) < missing] = np.nan
    table = pd.DataFrame(values, columns=NAMES, index=[f"p{i}" for i in range(n)])
    similarities = [group_similarity(FeatureGroup(kind, NAMES, kind)) for kind in kinds]
    for similarity in similarities:
        similarity.fit(table)
    weights = np.arange(1, len(kinds) + 1) / sum(range(1, len(kinds) + 1))
    return BlockSearch(similarities, weights, [similarity.encode(table) for similarity in similarities])


def by_sorting(search, k, own):
    total = sum(w * s.exact(x[:, None], x[None]) for w, s, x in zip(search.weights, search.similarities, search.values, strict=True))
    if own is not None:
        total[np.arange(len(total)), own] = -np.inf
    order = np.argsort(-total, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(total, order, axis=1)


@settings(max_examples=15, deadline=None)
@given(
    kinds=st.sampled_from([["sigmoid"], ["agreement"], ["cosine"], ["agreement", "rbf"], ["euclidean", "cosine"], ["sigmoid", "agreement", "rbf"]]),
    n=st.sampled_from([2, 5, 13, 14, 40, 450]),
    seed=st.integers(0, 99),
    missing=st.sampled_from([0.0, 0.3]),
    digits=st.sampled_from([0, 6]),
    own=st.booleans(),
)
def test_neighbours_and_their_order_are_those_of_sorting(kinds, n, seed, missing, digits, own):
    """With digits=0 most similarities are equal, and the first of equals has to be found."""
    search = searched(kinds, n, seed=seed, missing=missing, digits=digits)
    k, mine = min(5, n - 1), np.arange(n) if own else None
    for found, expected in zip(search.nearest(search.values, k, mine), by_sorting(search, k, mine), strict=True):
        assert_array_equal(found, expected)


def test_patients_far_from_everybody_have_their_nearest_too():
    """The sigmoid falls to nothing there, and single precision alone could not tell who is nearest."""
    search = searched(["sigmoid", "euclidean"], 100, seed=0, missing=0.0, digits=6)
    far = [x[:3] + 1e3 for x in search.values]
    found, _ = search.nearest(far, 5)
    total = sum(w * s.exact(x[:, None], y[None]) for w, s, x, y in zip(search.weights, search.similarities, far, search.values, strict=True))
    assert_array_equal(found, np.argsort(-total, axis=1, kind="stable")[:, :5])


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_an_answer_does_not_depend_on_the_other_questions(missing):
    search = searched(["agreement", "cosine", "sigmoid"], 200, seed=3, missing=missing, digits=1)
    together = search.nearest(search.values, 4)
    for row in (0, 63, 64, 199):
        alone = search.nearest([x[row : row + 1] for x in search.values], 4)
        for one, all_ in zip(alone, together, strict=True):
            assert_array_equal(one[0], all_[row])


def test_nobody_asked_about():
    search = searched(["sigmoid"], 30, seed=0, missing=0.0, digits=2)
    indices, similarity = search.nearest([x[:0] for x in search.values], 3)
    assert indices.shape == similarity.shape == (0, 3)
