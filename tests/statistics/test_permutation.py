"""Permutation tests against every permutation there is, and against slow loops."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.metrics import roc_auc_score

from graphssl.errors import DataError
from graphssl.statistics import METRICS, PermutationTest, auroc, permutation_over_splits, permutation_test, scored_splits
from graphssl.statistics.permutation import _scores, against_permutations, permuted_labels, shuffled_error


def predictions_of(splits, method="ours", seeds=(0,)):
    """A table of predictions from `{split: (y, {seed: p}, sites)}`."""
    tables = []
    for split, (y, p_by_seed, sites) in splits.items():
        for seed in seeds:
            p = p_by_seed[seed]
            table = pd.DataFrame({"subject_id": [f"{split}-{k}" for k in range(len(y))], "split": split, "seed": seed, "method": method})
            table = table.assign(label_fraction=1.0, y_true=y, p_0=1 - p, p_1=p, task="diagnosis", protocol="k_fold")
            tables.append(table if sites is None else table.assign(site=sites))
    return pd.concat(tables, ignore_index=True)


def test_p_is_that_of_all_permutations():
    """Three positives of seven subjects can stand in 35 places; the share at least as good is known exactly."""
    y, p = np.asarray([0, 0, 1, 0, 1, 1, 0]), np.asarray([0.1, 0.4, 0.5, 0.45, 0.8, 0.2, 0.3])
    observed = roc_auc_score(y, p)
    exact = np.mean([roc_auc_score(np.isin(np.arange(7), ill), p) >= observed - 1e-12 for ill in combinations(range(7), 3)])
    found = permutation_test(y, p, n_permutations=10_000)
    assert found.score == pytest.approx(observed)
    assert found.p_value == pytest.approx(exact, abs=0.015)
    assert found.chance == pytest.approx(0.5, abs=0.01)
    assert stats.mannwhitneyu(p[y == 1], p[y == 0], alternative="greater", method="exact").pvalue == pytest.approx(found.p_value, abs=0.015)


def test_the_count_is_the_formula():
    assert against_permutations(0.7, np.asarray([0.5, 0.7, 0.75, 0.25])) == PermutationTest(0.7, 0.55, 3 / 5, 4)
    assert against_permutations(0.7, np.asarray([0.6, 0.7, 0.8, 0.5]), lower=True).p_value == 4 / 5
    assert against_permutations(1.0, np.zeros(99)).p_value == 1 / 100, "never zero"


def test_labels_stay_within_their_site():
    y, sites = np.arange(30) % 2, np.arange(30) // 10
    y[sites == 2] = 1
    drawn = permuted_labels(y, sites, 50, np.random.default_rng(0))
    for site in range(3):
        assert (drawn[:, sites == site].sum(axis=1) == y[sites == site].sum()).all()
    assert len(np.unique(drawn, axis=0)) > 40


def test_a_model_that_knows_only_the_site_is_at_chance():
    """It scores 0.9 over all subjects, and no permutation within sites scores less."""
    sites = np.repeat([0, 1], 50)
    y = np.concatenate([np.arange(50) < 5, np.arange(50) >= 5]).astype(int)
    p = np.where(sites == 1, 0.9, 0.1)
    assert permutation_test(y, p).p_value < 0.01
    within = permutation_test(y, p, sites=sites)
    assert within.score == pytest.approx(0.9)
    assert within.p_value == 1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_of_many_labellings_are_those_of_each(metric, n_classes):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(n_classes), 25)
    p = p[:, 1] if n_classes == 2 else p
    p = np.round(p, 2) if n_classes == 2 else p  # ties
    drawn = permuted_labels(np.arange(25) % n_classes, np.zeros(25), 20, rng)
    assert_allclose(_scores(metric, drawn, p), [METRICS[metric](row, p) for row in drawn])


def test_null_p_values_are_uniform():
    rng = np.random.default_rng(1)
    found = [permutation_test(np.arange(20) % 2, rng.random(20), n_permutations=199, seed=k).p_value for k in range(200)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_over_splits_seeds_are_averaged_first():
    """By hand: the mean over splits of the mean over seeds, with the same permutations for each seed of a split."""
    rng = np.random.default_rng(0)
    splits = {
        name: (np.arange(n) % 2, {s: np.clip(rng.random(n) + 0.1 * (np.arange(n) % 2), 0, 1) for s in (0, 1)}, None)
        for name, n in (("a", 12), ("b", 9))
    }
    found = permutation_over_splits(scored_splits(predictions_of(splits, seeds=(0, 1)), "ours"), n_permutations=60, seed=4)
    generator = np.random.default_rng(4)
    observed, chance = [], []
    for y, p_by_seed, _ in splits.values():
        order = np.argsort([f"x-{k}" for k in range(len(y))], kind="stable")  # subjects are sorted by id
        observed.append(np.mean([auroc(y, p) for p in p_by_seed.values()]))
        drawn = permuted_labels(y[order], np.zeros(len(y)), 60, generator)
        chance.append([np.mean([auroc(row, p[order]) for p in p_by_seed.values()]) for row in drawn])
    assert found.score == pytest.approx(np.mean(observed))
    assert found.p_value == (1 + (np.mean(chance, axis=0) >= np.mean(observed) - 1e-12).sum()) / 61


def test_over_splits_a_site_column_keeps_labels_at_their_site():
    sites = np.repeat(["s1", "s2"], 50)
    y = np.concatenate([np.arange(50) < 5, np.arange(50) >= 5]).astype(int)
    p = np.where(sites == "s2", 0.9, 0.1)
    with_sites, without = predictions_of({"fold": (y, {0: p}, sites)}), predictions_of({"fold": (y, {0: p}, None)})
    assert permutation_over_splits(scored_splits(with_sites, "ours")).p_value == 1.0
    assert permutation_over_splits(scored_splits(without, "ours")).p_value < 0.01


def test_splits_without_a_score_are_left_out():
    good = (np.arange(10) % 2, {0: np.linspace(0, 1, 10)}, None)
    one_class = (np.ones(5, dtype=int), {0: np.linspace(0, 1, 5)}, None)
    both = permutation_over_splits(scored_splits(predictions_of({"a": good, "b": one_class}), "ours"))
    assert both.score == permutation_over_splits(scored_splits(predictions_of({"a": good}), "ours")).score
    none = permutation_over_splits(scored_splits(predictions_of({"b": one_class}), "ours"))
    assert np.isnan([none.score, none.p_value]).all()


def test_errors():
    with pytest.raises(DataError, match="a site for each of 4 subjects, found 3"):
        permutation_test([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], sites=["a", "b", "a"])
    with pytest.raises(DataError, match="at least one permutation to compare the score with, found none"):
        permutation_test([0, 1], [0.1, 0.2], n_permutations=0)


@pytest.mark.parametrize("n_parts", [2, 5])
def test_the_error_of_shuffled_labels_is_that_of_parts_which_test_each_other(n_parts):
    """Differences of class means, learned on all parts but one and scored on it, on labels dealt out anew a thousand times."""
    rng, n = np.random.default_rng(0), 20
    signs = np.where(rng.random((1000, n_parts, n)).argsort(axis=-1) < n // 2, -1.0, 1.0)
    data = rng.normal(size=(1000, n_parts, n, 30))
    learned = np.einsum("mpn,mpnf->mpf", signs, data)
    scores = np.einsum("mpnf,mpf->mpn", data, learned.sum(axis=1, keepdims=True) - learned)
    ranks = stats.rankdata(scores, axis=-1)
    aurocs = (np.where(signs > 0, ranks, 0).sum(axis=-1) - n / 2 * (n / 2 + 1) / 2) / (n / 2) ** 2
    expected = shuffled_error([n] * n_parts, [n // 2] * n_parts)
    assert_allclose(aurocs.mean(axis=1).std(), expected, rtol=0.1)
    assert_allclose(aurocs.reshape(-1, 4, n_parts).mean(axis=(1, 2)).std(), shuffled_error([n] * n_parts, [n // 2] * n_parts, 4), rtol=0.15)
    assert_allclose(shuffled_error([n], [n // 2]) ** 2, (n + 1) / (12 * (n / 2) ** 2))
