"""Looks at time: the connectome of a part of a scan is the one that the builder makes of the same part."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import ConnectomeBatch, Provenance, RegionData
from graphssl.errors import ConfigError, DataError
from graphssl.graphs import ConnectomeBuilder
from graphssl.views import Compose, HideRegions, TimePointDropout, TimeWindow

KINDS = (TimeWindow, TimePointDropout)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def cohort(make_cohort):
    """Eight subjects whose scans differ in length; two regions were not observed in one of them."""
    whole = make_cohort(n_subjects=8, n_timepoints=60)
    data = whole.regions["toy"]
    series = {subject: 50 + 7 * array[: 30 + 4 * k] for k, (subject, array) in enumerate(data.values.items())}
    series["sub-003"][:, [2, 7]] = np.nan
    return replace(whole, regions={"toy": RegionData(data.atlas, series, data.provenance)})


def cut(cohort, batch, kept):
    """The cohort with the kept time points only."""
    data = cohort.regions["toy"]
    series = {s: data.values[s][kept[row, : len(data.values[s])].numpy()] for row, s in enumerate(batch.subject_ids)}
    return replace(cohort, regions={"toy": RegionData(data.atlas, series, data.provenance)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", [{}, {"fisher_z": False}, {"center": False}])
def test_the_connectomes_are_those_that_the_builder_makes_of_the_same_time_points(cohort, kind, arguments):
    builder = ConnectomeBuilder(**arguments).fit(cohort)
    batch = builder.transform(cohort, series=True)
    drawn = kind(0.5).draw(batch, generator())
    found, expected = kind(0.5).apply(batch, drawn), builder.transform(cut(cohort, batch, drawn))
    torch.testing.assert_close(found.weights, expected.weights, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.visible, expected.visible)
    assert torch.equal(found.weights, found.weights.mT)
    assert not torch.allclose(found.weights, batch.weights, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_number_of_kept_time_points_is_exact(cohort, kind, share, seed):
    batch = ConnectomeBuilder().fit(cohort).transform(cohort, series=True)
    drawn = kind(share).draw(batch, generator(seed))
    assert (drawn <= batch.scans.timepoints).all()
    lengths = batch.scans.timepoints.sum(dim=1).tolist()
    assert lengths == [30 + 4 * k for k in range(8)]
    assert drawn.sum(dim=1).tolist() == [max(10, round(share * length)) for length in lengths]


def test_a_window_is_one_stretch_and_begins_anywhere(cohort):
    batch = ConnectomeBuilder().fit(cohort).transform(cohort, series=True)[[0] * 2000]
    drawn = TimeWindow(0.4).draw(batch, generator())
    first = drawn.int().argmax(dim=1)
    assert drawn.sum(dim=1).unique().tolist() == [12]
    assert all(drawn[row, start : start + 12].all() for row, start in enumerate(first.tolist()))
    counts = first.bincount()
    assert len(counts) == 30 - 12 + 1
    assert (counts - 2000 / 19).abs().max() < 4.5 * np.sqrt(2000 / 19)


def test_single_time_points_are_dropped_anywhere(cohort):
    batch = ConnectomeBuilder().fit(cohort).transform(cohort, series=True)[[0] * 2000]
    share = TimePointDropout(0.4).draw(batch, generator()).double().mean(dim=0)
    assert (share - 0.4).abs().max() < 4.5 * np.sqrt(0.4 * 0.6 / 2000)


def test_a_second_look_at_time_sees_what_the_first_has_left(cohort):
    batch = ConnectomeBuilder().fit(cohort).transform(cohort, series=True)
    half = TimeWindow(0.5)(batch, generator())
    quarter = TimeWindow(0.7).draw(half, generator(1))
    assert (quarter <= half.scans.timepoints).all()
    both = Compose([TimeWindow(0.5), TimePointDropout(0.8)])
    draws = both.draw(batch, generator())
    expected = TimeWindow(0.5).apply(batch, draws[0] & draws[1])
    torch.testing.assert_close(both.apply(batch, draws).weights, expected.weights, rtol=1e-4, atol=1e-5)


def test_what_was_hidden_stays_hidden(cohort):
    batch = ConnectomeBuilder().fit(cohort).transform(cohort, series=True)
    hidden = HideRegions(0.3)(batch, generator())
    seen = TimeWindow(0.5)(hidden, generator(1))
    assert torch.equal(seen.visible, hidden.visible)
    assert not seen.weights[~hidden.visible].any()


def test_a_region_that_does_not_vary_in_the_kept_time_is_hidden(cohort):
    data = cohort.regions["toy"]
    series = {subject: array.copy() for subject, array in data.values.items()}
    series["sub-001"][:20, 4] = 3.5
    still = replace(cohort, regions={"toy": RegionData(data.atlas, series, data.provenance)})
    batch = ConnectomeBuilder().fit(still).transform(still, series=True)
    drawn = torch.zeros_like(batch.scans.timepoints)
    drawn[:, 2:18] = True
    seen = TimeWindow(0.5).apply(batch, drawn)
    gone = (batch.visible & ~seen.visible).any(dim=-1).sum(dim=1)
    assert gone.tolist() == [0, 12, 0, 0, 0, 0, 0, 0]  # the region, and with each of the others the connection to it
    assert not seen.visible[1, 4].any()
    assert not seen.weights[1, 4].any()
    assert torch.isfinite(seen.weights).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_replays_and_changes_nothing_of_the_batch(cohort, kind):
    batch = ConnectomeBuilder().fit(cohort).transform(cohort, series=True)
    before = batch.weights.clone(), batch.scans.timepoints.clone()
    first, second = (kind(0.5)(batch, generator(4)) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(batch.weights, before[0])
    assert torch.equal(batch.scans.timepoints, before[1])
    assert kind(0.5).needs_series


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_an_impossible_share_is_refused(kind, share):
    with pytest.raises(ConfigError, match="Expected a masking ratio between 0 and 1"):
        kind(share)


@pytest.mark.parametrize("kind", KINDS)
def test_connectomes_without_series_are_refused(cohort, make_batch, kind):
    with pytest.raises(DataError, match=r"time series of every connectome .* found none for 4: \['sub-000'.*transform\(cohort, series=True\)"):
        kind(0.5)(make_batch(), generator())
    builder = ConnectomeBuilder().fit(cohort)
    mixed = ConnectomeBatch.cat([builder.transform(cohort, series=True), builder.transform(cohort.select(["sub-002"]))])
    with pytest.raises(DataError, match=r"found none for 1: \['sub-002'\]"):
        kind(0.5)(mixed, generator())
    with pytest.raises(DataError, match=r"found none for 1: \['sub-002'\]"):
        kind(0.5).apply(mixed, mixed.scans.timepoints)


def test_matrices_have_no_series(cohort):
    data = cohort.regions["toy"]
    matrices = {subject: np.corrcoef(np.nan_to_num(array), rowvar=False) for subject, array in data.values.items() if subject != "sub-003"}
    loaded = replace(cohort.select(list(matrices)), regions={"toy": RegionData(data.atlas, matrices, Provenance("correlation"))})
    batch = ConnectomeBuilder().fit(loaded).transform(loaded, series=True)
    assert batch.scans is None
    with pytest.raises(DataError, match="found none for 7"):
        TimeWindow()(batch, generator())
