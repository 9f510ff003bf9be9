"""Approximate neighbours, against exact ones."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from graphssl.errors import MissingExtraError
from graphssl.graphs.approximate import InvertedLists


def test_without_faiss_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"faiss is needed to search neighbours approximately .* pip install 'graphssl\[knn\]'"):
        InvertedLists("distance", np.zeros((3, 2)))


@pytest.fixture(autouse=True)
def _faiss(request):
    if "without_faiss" not in request.node.name:
        pytest.importorskip("faiss", reason="the extra 'knn' is not installed")


@pytest.mark.parametrize("metric", ["distance", "product"])
def test_all_lists_hold_the_exact_neighbours(metric):
    vectors = np.random.default_rng(0).standard_normal((700, 6))
    lists = InvertedLists(metric, vectors)
    first = lists.search(vectors[:50], 4)
    while lists.widen():
        pass
    score = vectors[:50] @ vectors.T if metric == "product" else -((vectors[:50, None] - vectors[None]) ** 2).sum(axis=-1)
    exact = np.argsort(-score, axis=1)[:, :4]
    assert_array_equal(lists.search(vectors[:50], 4), exact)
    assert (first == exact).mean() > 0.5


def test_an_answer_does_not_depend_on_the_other_questions():
    vectors = np.random.default_rng(1).standard_normal((900, 5))
    lists = InvertedLists("distance", vectors)
    together = lists.search(vectors, 3)
    assert_array_equal(np.concatenate([lists.search(vectors[row : row + 1], 3) for row in range(40)]), together[:40])


@pytest.mark.parametrize("n", [1, 2, 45])
def test_few_vectors_and_lists_that_hold_too_few(n):
    vectors = np.random.default_rng(2).standard_normal((n, 3))
    assert_array_equal(np.sort(InvertedLists("distance", vectors).search(vectors[:1], n)), np.arange(n)[None])


def test_one_seed_one_answer():
    vectors = np.random.default_rng(3).standard_normal((500, 4))
    assert_array_equal(*(InvertedLists("distance", vectors, seed=7).search(vectors, 3) for _ in range(2)))
