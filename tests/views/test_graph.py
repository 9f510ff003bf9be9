"""Draws of what to hide: their shares, their symmetry, and that they replay."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import ConfigError
from graphssl.views import draw_connections, draw_regions

DRAWS = (draw_regions, draw_connections)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hidden_regions(batch, hidden):
    """Regions all of whose connections were hidden, by row."""
    return (hidden == batch.visible).all(dim=-1) & batch.mask


@pytest.mark.parametrize("draw", DRAWS)
@given(ratio=st.floats(0.01, 0.99), n_regions=st.integers(1, 9), n_missing=st.integers(0, 3), padding=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_hidden_is_a_symmetric_part_of_the_visible(make_batch, draw, ratio, n_regions, n_missing, padding, seed):
    batch = make_batch(3, n_regions, seed, missing={1: range(min(n_missing, n_regions))}, padding=padding)
    hidden = draw(batch, ratio, generator(seed))
    assert hidden.dtype == torch.bool
    assert hidden.shape == batch.visible.shape
    assert (hidden <= batch.visible).all()
    assert torch.equal(hidden, hidden.mT)


@given(percent=st.integers(1, 99), n_regions=st.integers(1, 12), n_missing=st.integers(0, 6), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_number_of_hidden_regions_is_exact_and_two_stay(make_batch, percent, n_regions, n_missing, seed):
    ratio, n_missing = percent / 100, min(n_missing, n_regions)
    batch = make_batch(2, n_regions, seed, missing={1: range(n_missing)}, padding=1)
    left = batch.hide(draw_regions(batch, ratio, generator(seed))).visible.any(dim=-1)
    for row, observed in enumerate((n_regions, n_regions - n_missing)):
        readable = observed if observed > 1 else 0  # a single region has no connection
        asked = max(1, round(ratio * readable))
        expected = readable - min(asked, max(0, readable - 2))
        assert int(left[row].sum()) == expected
        assert readable < 2 or expected >= 2


def test_a_hidden_region_loses_all_its_connections_and_the_others_keep_theirs(make_batch):
    batch = make_batch(5, 10, missing={2: [0, 7]})
    hidden = draw_regions(batch, 0.3, generator())
    gone = hidden_regions(batch, hidden)
    expected = batch.visible & (gone.unsqueeze(1) | gone.unsqueeze(2))
    assert gone.sum(dim=1).tolist() == [3, 3, 2, 3, 3]  # a third of ten; round(2.4) of eight
    assert torch.equal(hidden, expected)


def test_every_region_is_hidden_equally_often(make_batch):
    batch = make_batch(400, 10, missing={row: [3] for row in range(400)})
    times = hidden_regions(batch, draw_regions(batch, 0.3, generator(1))).sum(dim=0).double()
    assert times[3] == 0
    others = torch.cat([times[:3], times[4:]])
    share = 3 / 9  # round(0.3 · 9) of nine
    assert (others - 400 * share).abs().max() < 4.5 * math.sqrt(400 * share * (1 - share))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_share_of_hidden_connections_lies_within_binomial_bounds(make_batch, ratio):
    batch = make_batch(6, 30, missing={0: [1, 2]})
    drawn, pairs = draw_connections(batch, ratio, generator(3)).sum() / 2, batch.visible.sum() / 2
    assert abs(float(drawn - ratio * pairs)) < 4.5 * math.sqrt(float(pairs) * ratio * (1 - ratio))


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_replays_from_its_seed(make_batch, draw):
    batch = make_batch(4, 12)
    assert torch.equal(draw(batch, 0.4, generator(5)), draw(batch, 0.4, generator(5)))
    assert not torch.equal(draw(batch, 0.4, generator(5)), draw(batch, 0.4, generator(6)))


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_depends_on_the_generator_alone(make_batch, draw):
    batch = make_batch(4, 12)
    torch.manual_seed(0)
    first = draw(batch, 0.4, generator(5))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(first, draw(batch, 0.4, generator(5)))
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_is_the_same_on_every_device(make_batch, draw):
    batch = make_batch(4, 12, missing={0: [1]})
    hidden = draw(batch.to("cuda"), 0.4, generator(5))
    assert hidden.device.type == "cuda"
    assert torch.equal(draw(batch, 0.4, generator(5)), hidden.cpu())


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, 3.0, float("nan")])
def test_an_impossible_ratio_is_refused(make_batch, draw, ratio):
    with pytest.raises(ConfigError, match="Expected a masking ratio between 0 and 1, found"):
        draw(make_batch(), ratio, generator())
