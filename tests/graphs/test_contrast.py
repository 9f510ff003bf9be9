"""Scan contrast against dense algebra, explicit means and its own promises."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm

from graphssl.data import Cohort, RegionData
from graphssl.errors import ConfigError, DataError
from graphssl.graphs import ConnectivityFeatures, ScanContrast
from graphssl.graphs import contrast as module


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=40, n_regions=6, n_sites=4, n_timepoints=60, effect=1.0)


def fisher_z(arrays):
    """Upper triangles of arctanh of numpy's correlations `[n, E]`."""
    upper = np.triu_indices(arrays[0].shape[1], k=1)
    return np.stack([np.arctanh(np.corrcoef(np.asarray(a, dtype=float).T)[upper]) for a in arrays])


def by_hand(train, test, shrinkage, sites):
    """Features of both sides with dense matrices `[F, F]`: standardise, take site means away, multiply by √l (S + l)^(-1/2), scale."""
    series = [[next(iter(part.regions.values())).values[s] for s in part.ids] for part in (train, test)]
    raw = [fisher_z(arrays) for arrays in series]
    mean, spread = raw[0].mean(axis=0), raw[0].std(axis=0)
    standard = [(values - mean) / spread for values in raw]
    halves = fisher_z([a[: len(a) // 2] for a in series[0]]) - fisher_z([a[len(a) // 2 :] for a in series[0]])
    differences = halves / spread / np.sqrt(2)
    moments = differences.T @ differences / len(differences)
    level = shrinkage * np.trace(moments) / len(moments)
    mapping = np.real(np.sqrt(level) * np.linalg.inv(sqrtm(moments + level * np.eye(len(moments)))))
    labels = [part.sites.to_numpy() for part in (train, test)]
    means = {site: standard[0][labels[0] == site].mean(axis=0) for site in np.unique(labels[0])}
    if sites == "estimate":
        means = {site: standard[1][labels[1] == site].mean(axis=0) for site in np.unique(labels[1])} | means
    mapped = [np.stack([(row - means.get(s, 0.0)) @ mapping for row, s in zip(*pair, strict=True)]) for pair in zip(standard, labels, strict=True)]
    length = np.sqrt((mapped[0] ** 2).sum(axis=1).mean())
    return mapped[0] / length, mapped[1] / length


@pytest.mark.parametrize("sites", ["pooled", "estimate"])
@pytest.mark.parametrize("shrinkage", [0.3, 30.0])
def test_features_are_those_of_dense_algebra(cohort, shrinkage, sites):
    """A held-out site was never seen."""
    held = cohort.sites == "site-3"
    train, test = cohort.select(~held), cohort.select(held)
    found = ScanContrast(kinds=["correlation"], shrinkage=shrinkage, sites=sites)
    first = found.fit_transform(train)
    expected = by_hand(train, test, shrinkage, sites)
    assert_allclose(first, expected[0], atol=2e-4)
    assert_allclose(found.transform(train), expected[0], atol=2e-4)
    assert_allclose(found.transform(test), expected[1], atol=2e-4)


def test_a_small_shrinkage_makes_halves_differ_alike_in_every_direction(cohort):
    """The covariance of the mapped differences is a multiple of the identity: that is what the map is for."""
    contrast = ScanContrast(kinds=["correlation"], shrinkage=1e-4, sites=None).fit(cohort)
    first, second = (contrast.transform(half) for half in module._halves(cohort, "toy"))
    moments = (first - second).T @ (first - second)
    eigenvalues = np.linalg.eigvalsh(moments)
    assert eigenvalues[0] == pytest.approx(eigenvalues[-1], rel=0.02)
    plain = ScanContrast(kinds=["correlation"], shrinkage=None, sites=None).fit(cohort)
    first, second = (plain.transform(half) for half in module._halves(cohort, "toy"))
    eigenvalues = np.linalg.eigvalsh((first - second).T @ (first - second))
    assert eigenvalues[-1] > 2 * eigenvalues[0]


def test_without_map_and_sites_it_is_standardised_connectivity(cohort):
    found = ScanContrast(kinds=["tangent"], shrinkage=None, sites=None).fit_transform(cohort)
    values = ConnectivityFeatures("toy", "tangent").fit(cohort).transform(cohort)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    assert_allclose(found, standard / np.sqrt(standard.shape[1]), atol=1e-4)


def test_every_block_counts_the_same(cohort):
    found = ScanContrast().fit_transform(cohort)
    widths = [15, 21]
    lengths = [(block**2).sum(axis=1).mean() for block in np.split(found, np.cumsum(widths)[:-1], axis=1)]
    assert found.shape == (40, sum(widths))
    assert_allclose(lengths, [0.5, 0.5], rtol=1e-5)


def test_training_sites_have_mean_zero(cohort):
    """A map of centred vectors is centred."""
    found = ScanContrast(sites="error").fit_transform(cohort)
    for site in cohort.sites.unique():
        assert_allclose(found[(cohort.sites == site).to_numpy()].mean(axis=0), 0.0, atol=1e-6)


def test_a_small_site_keeps_its_mean(cohort):
    small = [subject for subject in cohort.ids if cohort.sites[subject] == "site-3"][2:]
    few = cohort.select([subject for subject in cohort.ids if subject not in small])
    found = ScanContrast(kinds=["correlation"], shrinkage=None, min_subjects=6)
    values = found.fit_transform(few)
    assert set(found.blocks_[0].site_means) == {"site-0", "site-1", "site-2"}
    assert np.abs(values[(few.sites == "site-3").to_numpy()].mean(axis=0)).max() > 0.01


def test_a_subject_does_not_depend_on_the_others_in_the_call(cohort):
    held = cohort.sites == "site-3"
    contrast = ScanContrast().fit(cohort.select(~held))
    together, alone = contrast.transform(cohort.select(held)), contrast.transform(cohort.select(cohort.select(held).ids[:1]))
    assert_allclose(together[:1], alone, atol=1e-5)


def test_without_sites_nothing_is_taken_away(cohort):
    nowhere = replace(
        cohort, schema=type(cohort.schema)([c for c in cohort.schema if c.role != "site"]), subjects=cohort.subjects.drop(columns="site")
    )
    assert nowhere.sites is None
    assert_array_equal(ScanContrast().fit_transform(nowhere), ScanContrast(sites=None).fit_transform(cohort))


def test_an_atlas_that_a_subject_lacks_is_zero(make_cohort):
    one, other = make_cohort(n_subjects=16, n_regions=6), make_cohort(n_subjects=16, n_regions=5, seed=1)
    data = next(iter(other.regions.values()))
    atlas = replace(data.atlas, name="other")
    half = RegionData(atlas, {s: data.values[s] for s in one.ids[:12]}, data.provenance)
    both = replace(one, regions={**one.regions, "other": half})
    contrast = ScanContrast(kinds=["correlation"])
    found = contrast.fit_transform(both)
    assert_array_equal(found[12:, 15:], 0.0)
    assert np.abs(found[:12, 15:]).min() > 0
    assert_allclose(contrast.transform(one), np.hstack([found[:, :15], np.zeros((16, 10))]), atol=1e-5)


def test_a_constant_connection_counts_for_nothing(cohort):
    values = np.ones((4, 3), dtype=np.float32) * [[1.0, 2.0, 3.0]]
    block = module.Block("toy", ConnectivityFeatures("toy"), values.mean(axis=0), np.full(3, np.inf), {})
    assert_array_equal(block.standard(values), 0.0)


def test_scans_without_any_difference_are_left_as_they_are():
    directions, damping = module._map(np.zeros((5, 7), dtype=np.float32), 30.0)
    assert directions.shape == (7, 0)
    assert damping.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kinds": ()}, "at least one kind"),
        ({"shrinkage": 0.0}, "shrinkage above 0"),
        ({"sites": "all"}, "Expected sites to be None or one of"),
    ],
)
def test_arguments_that_make_no_sense(cohort, arguments, said):
    with pytest.raises(ConfigError, match=said):
        ScanContrast(**arguments).fit(cohort)


def test_data_that_do_not_serve(cohort, make_cohort):
    with pytest.raises(DataError, match="Expected a fitted ScanContrast"):
        ScanContrast().transform(cohort)
    with pytest.raises(DataError, match="to have region data, found none"):
        ScanContrast().fit(replace(cohort, regions={}))
    short = make_cohort(n_subjects=8, n_regions=4, n_timepoints=19)
    with pytest.raises(DataError, match="20 time points or more to halve, found shorter ones of 8"):
        ScanContrast(kinds=["correlation"]).fit(short)
    matrices = Cohort.from_arrays(np.full((3, 6, 6), 0.5), cohort.atlas("toy"), kind="correlation")
    with pytest.raises(DataError, match="Expected time series in atlas 'toy' to compare halves of a scan, found correlation matrices"):
        ScanContrast(kinds=["correlation"]).fit(matrices)
    held = cohort.sites == "site-3"
    with pytest.raises(DataError, match="Expected subjects of the fitted sites .*found 'site-3'"):
        ScanContrast(kinds=["correlation"], sites="error").fit(cohort.select(~held)).transform(cohort)
    empty = replace(cohort, regions={"toy": RegionData(cohort.atlas("toy"), {}, cohort.regions["toy"].provenance)})
    with pytest.raises(DataError, match="Expected training subjects with data in atlas 'toy', found none among 40"):
        ScanContrast().fit(empty)
    with pytest.raises(DataError, match="data in one of the atlases .* found none for 40"):
        ScanContrast(kinds=["correlation"]).fit(cohort).transform(empty)
