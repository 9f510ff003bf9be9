"""Looks at connections: shares of what is hidden, noise, symmetry, and that a draw replays."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import ConfigError
from graphssl.views import HideConnections, HideRegions, WeightNoise

HIDING = (HideRegions, HideConnections)
VIEWS = (HideRegions(0.4), HideConnections(0.4), WeightNoise(0.4))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hidden_regions(batch, hidden):
    """Regions all of whose connections were hidden, by row."""
    return (hidden == batch.visible).all(dim=-1) & batch.mask


@pytest.mark.parametrize("kind", HIDING)
@given(ratio=st.floats(0.01, 0.99), n_regions=st.integers(1, 9), n_missing=st.integers(0, 3), padding=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_hidden_is_a_symmetric_part_of_the_visible(make_batch, kind, ratio, n_regions, n_missing, padding, seed):
    batch = make_batch(3, n_regions, seed, missing={1: range(min(n_missing, n_regions))}, padding=padding)
    hidden = kind(ratio).draw(batch, generator(seed))
    assert hidden.dtype == torch.bool
    assert hidden.shape == batch.visible.shape
    assert (hidden <= batch.visible).all()
    assert torch.equal(hidden, hidden.mT)


@given(percent=st.integers(1, 99), n_regions=st.integers(1, 12), n_missing=st.integers(0, 6), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_number_of_hidden_regions_is_exact_and_two_stay(make_batch, percent, n_regions, n_missing, seed):
    ratio, n_missing = percent / 100, min(n_missing, n_regions)
    batch = make_batch(2, n_regions, seed, missing={1: range(n_missing)}, padding=1)
    left = batch.hide(HideRegions(ratio).draw(batch, generator(seed))).visible.any(dim=-1)
    for row, observed in enumerate((n_regions, n_regions - n_missing)):
        readable = observed if observed > 1 else 0  # a single region has no connection
        asked = max(1, round(ratio * readable))
        expected = readable - min(asked, max(0, readable - 2))
        assert int(left[row].sum()) == expected
        assert readable < 2 or expected >= 2


def test_a_hidden_region_loses_all_its_connections_and_the_others_keep_theirs(make_batch):
    batch = make_batch(5, 10, missing={2: [0, 7]})
    hidden = HideRegions(0.3).draw(batch, generator())
    gone = hidden_regions(batch, hidden)
    expected = batch.visible & (gone.unsqueeze(1) | gone.unsqueeze(2))
    assert gone.sum(dim=1).tolist() == [3, 3, 2, 3, 3]  # a third of ten; round(2.4) of eight
    assert torch.equal(hidden, expected)


def test_every_region_is_hidden_equally_often(make_batch):
    batch = make_batch(400, 10, missing={row: [3] for row in range(400)})
    times = hidden_regions(batch, HideRegions(0.3).draw(batch, generator(1))).sum(dim=0).double()
    assert times[3] == 0
    others = torch.cat([times[:3], times[4:]])
    share = 3 / 9  # round(0.3 · 9) of nine
    assert (others - 400 * share).abs().max() < 4.5 * math.sqrt(400 * share * (1 - share))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_share_of_hidden_connections_lies_within_binomial_bounds(make_batch, ratio):
    batch = make_batch(6, 30, missing={0: [1, 2]})
    drawn, pairs = HideConnections(ratio).draw(batch, generator(3)).sum() / 2, batch.visible.sum() / 2
    assert abs(float(drawn - ratio * pairs)) < 4.5 * math.sqrt(float(pairs) * ratio * (1 - ratio))


def test_noise_has_the_deviation_that_was_asked_for_and_stays_on_what_is_visible(make_batch):
    batch = make_batch(20, 30, missing={0: [1, 2]}, padding=2)
    seen = WeightNoise(0.3)(batch, generator(3))
    noise = seen.weights - batch.weights
    assert torch.equal(noise, noise.mT)
    assert not noise[~batch.visible].any()
    assert torch.equal(seen.visible, batch.visible)
    pairs = noise[batch.visible.triu(diagonal=1)]
    assert float(pairs.std()) == pytest.approx(0.3, abs=4.5 * 0.3 / math.sqrt(2 * len(pairs)))
    assert abs(float(pairs.mean())) < 4.5 * 0.3 / math.sqrt(len(pairs))


def test_noise_does_not_show_what_another_view_has_hidden(make_batch):
    batch = make_batch(3, 8)
    drawn = WeightNoise(0.3).draw(batch, generator())
    hidden = HideConnections(0.5)(batch, generator(1))
    assert not WeightNoise(0.3).apply(hidden, drawn).weights[~hidden.visible].any()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_a_draw_replays_from_its_seed_and_a_look_from_its_draw(make_batch, view):
    batch = make_batch(4, 12)
    drawn = view.draw(batch, generator(5))
    assert torch.equal(drawn, view.draw(batch, generator(5)))
    assert not torch.equal(drawn, view.draw(batch, generator(6)))
    first, second = view.apply(batch, drawn), view(batch, generator(5))
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.visible, second.visible)
    assert not torch.equal(first.weights, batch.weights)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_a_draw_depends_on_the_generator_alone(make_batch, view):
    batch = make_batch(4, 12)
    torch.manual_seed(0)
    first = view.draw(batch, generator(5))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(first, view.draw(batch, generator(5)))
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_a_draw_is_the_same_on_every_device(make_batch, view):
    batch = make_batch(4, 12, missing={0: [1]})
    drawn = view.draw(batch.to("cuda"), generator(5))
    assert drawn.device.type == "cuda"
    assert torch.equal(view.draw(batch, generator(5)), drawn.cpu())


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_a_look_at_connections_needs_no_time_series(view):
    assert not view.needs_series


@pytest.mark.parametrize("kind", HIDING)
@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, 3.0, float("nan")])
def test_an_impossible_ratio_is_refused(kind, ratio):
    with pytest.raises(ConfigError, match="Expected a masking ratio between 0 and 1, found"):
        kind(ratio)


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan")])
def test_an_impossible_deviation_is_refused(deviation):
    with pytest.raises(ConfigError, match="Expected a deviation of the noise above 0, found"):
        WeightNoise(deviation)
