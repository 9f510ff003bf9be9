"""Covariance, correlation and inverses of series of several lengths, against numpy, scikit-learn and the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from graphssl.errors import ConfigError, DataError
from graphssl.graphs.covariance import check_choice, check_invertible, connectivity_of, stacks, to_correlation


def random_series(lengths=(40, 25, 40, 31, 40), n_regions=6, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_regions, n_regions))
    return [10 + rng.standard_normal((length, n_regions)) @ mixing for length in lengths]


def matrices_of(series, kind="covariance", shrinkage=None):
    """Matrices of series of several lengths, in double precision."""
    found = torch.empty(len(series), series[0].shape[1], series[0].shape[1], dtype=torch.float64)
    for rows, stack in stacks(series, "cpu"):
        observed = torch.ones(stack.shape[::2], dtype=torch.bool)
        found[rows] = connectivity_of(stack, observed, kind, shrinkage, [f"series {row}" for row in rows])
    return found


def test_covariance_is_the_maximum_likelihood_estimate():
    series = random_series()
    expected = np.stack([np.cov(x, rowvar=False, bias=True) for x in series])
    np.testing.assert_allclose(matrices_of(series).numpy(), expected, rtol=1e-12)


def test_ledoit_wolf_is_that_of_scikit_learn():
    series = [*random_series(), *random_series((12,), seed=1)]
    expected = np.stack([LedoitWolf().fit(x).covariance_ for x in series])
    np.testing.assert_allclose(matrices_of(series, shrinkage="ledoit-wolf").numpy(), expected, rtol=1e-10)


def test_ledoit_wolf_of_a_single_region_is_its_variance():
    series = random_series(n_regions=1)
    torch.testing.assert_close(matrices_of(series, shrinkage="ledoit-wolf"), matrices_of(series))


def test_correlation_is_that_of_numpy():
    series = random_series()
    found = matrices_of(series, "correlation").numpy()
    np.testing.assert_allclose(found, np.stack([np.corrcoef(x, rowvar=False) for x in series]), atol=1e-12)
    assert (np.diagonal(found, axis1=1, axis2=2) == 1).all()


def test_precision_is_the_inverse():
    series = random_series()
    product = matrices_of(series, "precision") @ matrices_of(series)
    torch.testing.assert_close(product, torch.eye(6, dtype=torch.float64).expand(5, 6, 6), atol=1e-9, rtol=0)


def test_partial_correlation_is_the_correlation_of_residuals():
    series = random_series((60,), n_regions=5)
    found = matrices_of(series, "partial correlation")[0]
    centred = series[0] - series[0].mean(axis=0)
    others = centred[:, 2:]
    residuals = centred[:, :2] - others @ np.linalg.lstsq(others, centred[:, :2], rcond=None)[0]
    assert found[0, 1].item() == pytest.approx(np.corrcoef(residuals, rowvar=False)[0, 1], abs=1e-10)
    assert (found.diagonal() == 1).all()


def test_missing_regions_leave_the_others_as_they_are():
    series = torch.from_numpy(np.stack(random_series((40, 40, 40))))
    observed = torch.ones(3, 6, dtype=torch.bool)
    observed[1, [0, 4]] = False
    observed[2] = False
    spoiled = series.masked_fill(~observed.unsqueeze(1), float("nan"))
    kept = [1, 2, 3, 5]
    for kind in ("covariance", "correlation", "precision", "partial correlation"):
        for shrinkage in (None, "ledoit-wolf"):
            found = connectivity_of(spoiled.clone(), observed, kind, shrinkage, ["a", "b", "c"])
            alone = connectivity_of(series[1:2, :, kept].clone(), observed[1:2, kept], kind, shrinkage, ["b"])
            torch.testing.assert_close(found[1][kept][:, kept], alone[0])
            assert found.isfinite().all()
            assert (found[1, [0, 4]] == 0).all()
            assert (found[2] == 0).all()


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(8, 20), min_size=1, max_size=5),
    seed=st.integers(0, 2**16),
    order=st.permutations(range(5)),
    shrinkage=st.sampled_from([None, "ledoit-wolf"]),
)
def test_permuting_regions_permutes_the_matrices(lengths, seed, order, shrinkage):
    series = random_series(lengths, n_regions=5, seed=seed)
    permuted = [x[:, order] for x in series]
    for kind in ("covariance", "correlation", "partial correlation"):
        found = matrices_of(permuted, kind, shrinkage)
        torch.testing.assert_close(found, matrices_of(series, kind, shrinkage)[:, order][:, :, order], rtol=1e-6, atol=1e-8)


def test_each_scan_is_the_same_alone_and_among_others():
    series = random_series()
    together = matrices_of(series, "precision", "ledoit-wolf")
    for row, x in enumerate(series):
        torch.testing.assert_close(together[row], matrices_of([x], "precision", "ledoit-wolf")[0])


@pytest.mark.parametrize("shrinkage", [None, "ledoit-wolf"])
def test_chunks_do_not_matter(shrinkage, monkeypatch):
    series = [x.astype(np.float32) for x in random_series((40,) * 7)]
    expected = matrices_of(series, shrinkage=shrinkage)
    monkeypatch.setattr("graphssl.graphs.covariance._CACHED_ELEMENTS", 2 * 6 * 40)
    torch.testing.assert_close(matrices_of(series, shrinkage=shrinkage), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["correlation", "covariance", "partial correlation", "precision"])
def test_the_series_are_left_as_they_are(kind):
    series = random_series((40, 40))
    before = [array.copy() for array in series]
    for shrinkage in (None, "ledoit-wolf"):
        matrices_of(series, kind, shrinkage)
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize("spread", [1e-150, 1e-3, 1e150])
def test_single_precision_costs_correlations_less_than_a_millionth(spread):
    rng = np.random.default_rng(0)
    series = spread * (1000 + rng.standard_normal((3, 236, 1)) + rng.standard_normal((3, 236, 40)))
    expected = np.stack([np.corrcoef(x, rowvar=False) for x in series])
    found = connectivity_of(
        torch.from_numpy(series.copy()), torch.ones(3, 40, dtype=torch.bool), "correlation", None, ["a", "b", "c"], precision=torch.float32
    )
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


def test_scaling_leaves_regions_without_variance_at_zero():
    found = to_correlation(torch.tensor([[[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]]))


def test_a_singular_covariance_is_refused_without_shrinkage_and_fine_with_it():
    series = random_series((5, 40))
    with pytest.raises(DataError, match=r"1 singular ones: \['series 0'\].*ledoit-wolf"):
        matrices_of(series, "precision")
    assert matrices_of(series, "precision", "ledoit-wolf").isfinite().all()


def test_a_region_that_is_a_sum_of_others_is_found():
    series = random_series((40,))
    series[0][:, 0] = series[0][:, 1] - 2 * series[0][:, 2]
    with pytest.raises(DataError, match="no region may be a sum of others"):
        matrices_of(series, "partial correlation")


def test_units_do_not_make_a_covariance_singular():
    scale = torch.diag(torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64))
    check_invertible((scale @ scale).unsqueeze(0), torch.ones(1, 3, dtype=torch.bool), ["a"])


def test_an_unknown_choice_is_refused():
    with pytest.raises(ConfigError, match="shrinkage of connectivity to be one of 'ledoit-wolf', None; found 'oas'"):
        check_choice("shrinkage", "oas", ("ledoit-wolf", None))
