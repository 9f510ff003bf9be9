"""Time series beside connectomes: standardised, padded, and correlated all at once as numpy does it one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import ConnectomeBatch, Scans
from graphssl.errors import DataError


def arrays(lengths, n_regions, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_regions, n_regions))
    return [1000 + 5 * rng.standard_normal((length, n_regions)) @ mixing for length in lengths]


def scans(lengths=(20, 35, 12), n_regions=5, seed=0, **options):
    series = arrays(lengths, n_regions, seed)
    return Scans.of(series, torch.ones(len(series), n_regions, dtype=torch.bool), **options)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(12, 40), min_size=1, max_size=4), n_regions=st.integers(1, 6), seed=st.integers(0, 99))
def test_correlations_are_those_of_numpy(lengths, n_regions, seed):
    series = arrays(lengths, n_regions, seed)
    found, varies = scans(lengths, n_regions, seed, fisher_z=False).connectivity()
    assert varies.all()
    for matrix, array in zip(found, series, strict=True):
        expected = np.atleast_2d(np.corrcoef(array, rowvar=False))
        np.testing.assert_allclose(matrix, expected - np.diag(np.diag(expected)), atol=2e-5)


def test_fisher_z_is_done_where_it_was_asked_for():
    r, z = (scans(fisher_z=choice).connectivity()[0] for choice in (False, True))
    torch.testing.assert_close(z, r.atanh())
    mixed, _ = Scans.cat([scans(fisher_z=False), scans(fisher_z=True)]).connectivity()
    torch.testing.assert_close(mixed, torch.cat([r, z]))


def test_regions_alike_stay_finite():
    array = arrays([20], 1)[0]
    pair = Scans.of([np.hstack([array, array, -array])], torch.ones(1, 3, dtype=torch.bool))
    found = pair.connectivity()[0][0]
    assert torch.isfinite(found).all()
    assert found[0, 1] == -found[0, 2] > 7


def test_series_are_standardised_and_what_was_not_observed_is_zero():
    series = arrays([20, 35], 4)
    series[1][:, 2] = np.nan
    observed = torch.tensor([[True] * 4, [True, True, False, True]])
    made = Scans.of(series, observed)
    assert made.series.shape == (2, 35, 4)
    assert made.timepoints.sum(dim=1).tolist() == [20, 35]
    assert not made.series[0, 20:].any()
    assert not made.series[1, :, 2].any()
    np.testing.assert_allclose(made.series[0, :20], (series[0] - series[0].mean(0)) / series[0].std(0), atol=1e-5)
    found, varies = made.connectivity()
    assert torch.equal(varies, observed)
    assert not found[1, 2].any()


def test_a_part_of_the_time():
    made, series = scans(fisher_z=False), arrays((20, 35, 12), 5)
    kept = torch.zeros_like(made.timepoints)
    kept[:, 3:11] = True
    found, _ = made.during(kept).connectivity()
    for matrix, array in zip(found, series, strict=True):
        np.testing.assert_allclose(matrix, np.corrcoef(array[3:11], rowvar=False) - np.eye(5), atol=1e-5)
    nothing, varies = made.during(torch.zeros_like(kept)).connectivity()
    assert not nothing.any()
    assert not varies.any()


def test_rows_and_time_that_nobody_needs():
    made = scans()
    part = made.take(torch.tensor([2, 0]), 4)
    assert part.series.shape == (2, 20, 4)
    assert torch.equal(part.series[0, :12], made.series[2, :12, :4])
    assert part.timepoints.sum(dim=1).tolist() == [12, 20]
    assert made.take(torch.tensor([], dtype=torch.long), 4).series.shape == (0, 0, 4)


def test_scans_survive_what_is_done_to_batches():
    """Rows, devices, hidden connections, and batches of other lengths, atlases and without any series below one another."""

    def batch(made, n_regions, name):
        mask = torch.ones(len(made) if made else 2, n_regions, dtype=torch.bool)
        weights, n = torch.zeros(len(mask), n_regions, n_regions), len(mask)
        ids = tuple(f"{name}-{k}" for k in range(n))
        visible = torch.zeros_like(weights, dtype=torch.bool)
        return ConnectomeBatch(ids, weights, visible, mask, torch.zeros(n, n_regions, 3), torch.zeros(n, n_regions).long(), (name,) * n, (), made)

    short, long = scans((20, 14), 5), scans((40,), 3, scale=2.0, fisher_z=False)
    whole = ConnectomeBatch.cat([batch(short, 5, "a"), batch(None, 4, "matrices"), batch(long, 3, "b")])
    assert whole.scans.series.shape == (5, 40, 5)
    assert whole.scans.timepoints.sum(dim=1).tolist() == [20, 14, 0, 0, 40]
    assert whole.scans.scale.tolist() == [1, 1, 1, 1, 2]
    assert whole.scans.fisher_z.tolist() == [True, True, False, False, False]
    row = whole.hide(torch.zeros_like(whole.visible))[[4]]
    assert torch.equal(row.scans.series, long.series)
    assert torch.equal(row.scans.connectivity()[0], long.connectivity()[0])
    assert whole.to("meta").scans.series.device.type == "meta"
    assert ConnectomeBatch.cat([batch(None, 4, "x"), batch(None, 3, "y")]).scans is None


@pytest.mark.gpu
def test_correlations_on_the_device_are_those_of_the_cpu():
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = scans().to("cuda").connectivity()[0].cpu()
    torch.testing.assert_close(found, scans().connectivity()[0], rtol=1e-4, atol=1e-4)


def test_shapes_that_disagree(make_batch):
    made = scans()
    with pytest.raises(DataError, match=r"beside series \[B, T, R\] of shape \(3, 35, 5\), found \{'timepoints': \(3, 34\)\}"):
        Scans(made.series, made.timepoints[:, 1:], made.scale, made.fisher_z)
    batch = make_batch(3, 6)
    fields = (batch.subject_ids, batch.weights, batch.visible, batch.mask, batch.centroids, batch.networks, batch.atlas)
    with pytest.raises(DataError, match=r"time series of 3 connectomes and 6 regions, found series of shape \(3, 35, 5\)"):
        ConnectomeBatch(*fields, scans=made)
