"""The sentences about an explanation say what was measured, and nothing where nothing was."""

import pytest

from graphssl.reports import explanation_sentences
from graphssl.reports.explained import is_unstable, random_correlation, stability_sentence


def summary(rank_correlation=0.9, random=0.05):
    agreement = {"rank_correlation": rank_correlation, "top_overlap": 0.4}
    stages = [{"layer": "head", "rank_correlation": 0.7}, {"layer": "tokens", "rank_correlation": random}]
    return {"randomisation": stages, "stability": {"n_refits": 6, "regions": agreement, "connections": {"rank_correlation": 0.2, "top_overlap": 0.1}}}


@pytest.mark.parametrize(
    ("rank_correlation", "words"),
    [(0.75, "read largely the same regions"), (0.74, "agree in part"), (0.5, "agree in part"), (0.49, "read other regions")],
)
def test_stability_in_words(rank_correlation, words):
    said = stability_sentence(summary(rank_correlation))
    assert words in said
    assert f"6 refits over folds and seeds: rank correlation {rank_correlation:.2f}, the top tenth overlaps by 0.40" in said
    assert is_unstable(summary(rank_correlation)) is (rank_correlation < 0.5)


@pytest.mark.parametrize(("random", "words"), [(0.49, "depends on what was learned"), (0.5, "hardly depends on what was learned")])
def test_randomisation_in_words(random, words):
    assert random_correlation(summary(random=random)) == random
    assert any(f"The explanation {words}" in sentence for sentence in explanation_sentences(summary(random=random)))


def test_what_was_not_measured():
    said = explanation_sentences({})
    assert len(said) == 2
    assert "was not measured; graphssl explain RUN does" in said[0]
    assert "was not checked" in said[1]
    assert not is_unstable({"stability": None})
    assert random_correlation({"randomisation": []}) is None


def test_attention_is_compared():
    assert explanation_sentences({"attention_correlation": -0.25})[-1].endswith("correlation of −0.25 to integrated gradients.")
