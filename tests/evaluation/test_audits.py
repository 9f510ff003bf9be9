"""The site probe finds sites that were planted, and only those."""

import numpy as np
import pytest

from graphssl.errors import DataError
from graphssl.evaluation import site_probe
from graphssl.evaluation.audits import SITE_PROBE, leading_components
from graphssl.graphs import ConnectivityFeatures
from graphssl.results import Result

SITES = ["a"] * 30 + ["b"] * 20 + ["c"] * 10


def noise(seed=0, width=6):
    return np.random.default_rng(seed).standard_normal((len(SITES), width))


def planted(size, seed=0):
    """Features of which one says the site."""
    features = noise(seed)
    features[:, 0] += size * np.asarray([ord(site) for site in SITES])
    features[:, 1] += size * (np.asarray(SITES) == "b")
    return features


def mean_score(features, sites=SITES, **options):
    return float(np.mean([result.value for result in site_probe({"x": features}, sites, cohort="toy", **options)]))


def test_leading_components_are_those_of_the_centred_connections(make_cohort):
    cohort = make_cohort(n_subjects=10, n_regions=8)
    found = leading_components(cohort, ["toy"])
    connections = ConnectivityFeatures("toy").fit_transform(cohort).astype(float)
    _, values, directions = np.linalg.svd(connections - connections.mean(axis=0), full_matrices=False)
    assert found.shape == (10, 9)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), values[:9], rtol=1e-4)
    np.testing.assert_allclose(np.abs(found[:, 0]), np.abs((connections - connections.mean(axis=0)) @ directions[0]), atol=1e-4)
    assert leading_components(make_cohort(n_subjects=70, n_regions=13), ["toy"]).shape == (70, 64)


def test_planted_sites_are_found():
    assert mean_score(planted(10.0)) > 0.95


def test_without_sites_in_the_features_it_is_at_chance():
    """One over the number of sites, although the largest site holds half of the subjects."""
    scores = [mean_score(noise(seed), seed=seed) for seed in range(10)]
    assert abs(np.mean(scores) - 1 / 3) < 3 * np.std(scores, ddof=1) / np.sqrt(10) + 0.02


def test_a_stronger_site_is_read_better():
    scores = [mean_score(planted(size)) for size in (0.0, 1.0, 5.0)]
    assert scores == sorted(scores)


def test_scale_and_offset_of_a_feature_do_not_matter():
    features = planted(2.0)
    moved = features * np.asarray([1e3, 1.0, 1e-3, 1.0, 1.0, 1.0]) + 100.0
    assert mean_score(moved) == pytest.approx(mean_score(features), abs=0.02)


def test_records_are_one_a_fold_and_name_the_features():
    results = site_probe({"pretrained": noise(0), "scratch": noise(1)}, SITES, cohort="toy", seed=4, n_splits=3)
    assert all(isinstance(result, Result) for result in results)
    assert [(r.method, r.split) for r in results] == [(m, f"fold-{k}") for m in ("pretrained", "scratch") for k in range(3)]
    assert {(r.cohort, r.task, r.protocol, r.metric, r.seed, r.label_fraction) for r in results} == {
        ("toy", SITE_PROBE, "k_fold", "balanced_accuracy", 4, 1.0)
    }
    assert {r.n_train + r.n_test for r in results} == {60}


def test_both_features_meet_the_same_folds_and_seeds_repeat():
    features = planted(1.0)
    both = site_probe({"x": features, "y": features.copy()}, SITES, cohort="toy", seed=1)
    values = [result.value for result in both]
    assert values[:5] == values[5:]
    assert [result.value for result in site_probe({"x": features}, SITES, cohort="toy", seed=1)] == values[:5]
    assert [result.value for result in site_probe({"x": features}, SITES, cohort="toy", seed=2)] != values[:5]


def test_the_smallest_site_limits_the_folds():
    sites = ["a"] * 57 + ["b"] * 3
    assert len(site_probe({"x": noise()}, sites, cohort="toy")) == 3


@pytest.mark.parametrize(("sites", "found"), [(["a"] * 60, r"\{'a': 60\}"), (["a"] * 59 + ["b"], r"\{'a': 59, 'b': 1\}")])
def test_one_site_or_a_site_with_one_subject(sites, found):
    with pytest.raises(DataError, match=f"two sites or more with at least two subjects each, found {found}"):
        site_probe({"x": noise()}, sites, cohort="toy")


def test_sites_and_features_of_different_length():
    with pytest.raises(DataError, match=r"features 'x' of 60 subjects, one row each, found 59"):
        site_probe({"x": noise()[:59]}, SITES, cohort="toy")
