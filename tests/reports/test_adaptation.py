"""Scores on the target: which rows count, what an interval is over, and tests that allow for what draws share."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from graphssl.reports.adaptation import compared, label, scored, summarised
from graphssl.statistics.metrics import mean_interval


def make_scores(targets, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(m, t, 5, d, 0.6 + 0.1 * (m == "meta") + 0.05 * rng.standard_normal(), 40) for m in ("meta", "direct") for t in targets for d in range(6)]
    return pd.DataFrame(rows, columns=["method", "target", "n_support", "draw", "auroc", "n_query"])


def test_scores_are_those_after_the_last_step_and_those_of_baselines():
    curve = pd.DataFrame(
        {"target": "t", "strategy": "meta", "n_support": 5, "draw": [0, 0, 1, 1], "step": [0, 1, 0, 1], "auroc": [0.1, 0.6, 0.1, 0.8], "n_query": 9}
    )
    baselines = pd.DataFrame(
        {"target": "t", "method": "ridge_correlation", "trained_on": "sources", "n_support": 5, "draw": [0, 1], "auroc": 0.7, "n_query": 9}
    )
    scores = scored(curve, baselines)
    assert scores["method"].tolist() == ["meta", "meta", "ridge_correlation:sources", "ridge_correlation:sources"]
    assert scores["auroc"].tolist() == [0.6, 0.8, 0.7, 0.7]
    row = summarised(scored(curve)).iloc[0]
    assert row["auroc"] == pytest.approx(0.7)
    assert (row["n_draws"], row["n_targets"], row["n_query"]) == (2, 1, 9)
    assert (row["low"], row["high"]) == (0, 1)  # the interval of two draws reaches beyond


def test_an_interval_is_over_draws_of_one_target_or_over_targets():
    one, several = make_scores("a"), make_scores("abcd")
    draws = one.loc[one["method"] == "meta", "auroc"]
    assert summarised(one)["low"].iloc[0] == pytest.approx(mean_interval(draws).low)
    means = several[several["method"] == "meta"].groupby("target")["auroc"].mean()
    row = summarised(several).iloc[0]
    assert row["high"] == pytest.approx(mean_interval(means).high)
    assert row["spread"] == pytest.approx(means.std())


def test_draws_of_one_target_are_compared_by_the_corrected_test():
    scores = make_scores("a")
    found = compared(scores, "meta", "direct", 5)
    differences = scores.loc[scores["method"] == "meta", "auroc"].to_numpy() - scores.loc[scores["method"] == "direct", "auroc"].to_numpy()
    error = np.sqrt((1 / 6 + 40 / 10) * differences.var(ddof=1))
    assert found.difference == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(differences.mean() / error), 5))


def test_a_difference_of_two_draws_is_no_wider_than_two_scores_can_differ():
    two = make_scores("a").query("draw < 2").assign(auroc=[0.9, 0.3, 0.4, 0.6])
    found = compared(two, "meta", "direct", 5)
    assert (found.low, found.high) == (-1, 1)


def test_several_targets_are_compared_by_their_means():
    scores = make_scores("abcdefg").sample(frac=1, random_state=0)  # rows are paired by target and draw, not by place
    found = compared(scores, "meta", "direct", 5)
    means = scores.groupby(["method", "target"])["auroc"].mean()
    assert found.p_value == pytest.approx(stats.wilcoxon(means["meta"] - means["direct"]).pvalue)
    assert found.n == 7


def test_labels_say_what_a_baseline_was_trained_on():
    assert label("ridge_correlation:target") == "Ridge on correlation, trained on the target"
    assert label("meta") == "Meta-learning"
