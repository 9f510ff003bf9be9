"""Masked objectives against slow loops; only what was hidden and truly observed counts."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import simulated_atlas
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.encoders import GraphTransformer
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder
from graphssl.objectives import MaskedConnections, MaskedRegions
from graphssl.objectives.masked import PooledDecoder, connections, masked_error
from graphssl.views import HideConnections, HideRegions

KINDS = (MaskedRegions, MaskedConnections)


def make_encoder(**changes):
    torch.manual_seed(0)
    return GraphTransformer(**{"width": 8, "depth": 1, "heads": 2, "spacing_mm": 40.0, "dropout": 0.0, **changes})


def prepared(kind, encoder, **arguments):
    torch.manual_seed(1)
    return kind(**{"rank": 4, **arguments}).prepare(encoder)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_error(ends, batch, hidden):
    """Mean squared error over hidden entries; a connection is the mean of both directions of a product of its ends."""
    total, count = 0.0, 0
    rank = ends.shape[-1] // 2
    for row, i, j in hidden.nonzero().tolist():
        one_way = float(ends[row, i, :rank] @ ends[row, j, rank:]) / math.sqrt(rank)
        other_way = float(ends[row, j, :rank] @ ends[row, i, rank:]) / math.sqrt(rank)
        total += ((one_way + other_way) / 2 - float(batch.weights[row, i, j])) ** 2
        count += 1
    return total / max(1, count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooled_weight", [0.0, 0.7])
def test_the_loss_is_the_mean_over_hidden_connections(make_batch, kind, pooled_weight):
    encoder = make_encoder()
    objective = prepared(kind, encoder, pooled_weight=pooled_weight)
    batch = make_batch(3, 7, missing={1: [0]}, padding=1)
    with torch.no_grad():
        loss = objective(encoder, batch, generator())
        hidden = objective.draw(batch, generator())
        embedding = encoder(batch.hide(hidden))
        expected = slow_error(objective.from_tokens(embedding.tokens), batch, hidden)
        assert float(loss.parts["tokens_error"]) == pytest.approx(expected, rel=1e-4)
        if pooled_weight:
            pooled = slow_error(objective.from_pooled(embedding, batch), batch, hidden)
            assert float(loss.parts["pooled_error"]) == pytest.approx(pooled, rel=1e-4)
            expected += pooled_weight * pooled
        zero = slow_error(torch.zeros(3, 8, 2), batch, hidden)
    assert float(loss.total) == pytest.approx(expected, rel=1e-4)
    assert float(loss.parts["zero_error"]) == pytest.approx(zero, rel=1e-4)
    assert set(loss.parts) == {"tokens_error", "zero_error"} | ({"pooled_error"} if pooled_weight else set())


@given(seed=st.integers(0, 99), n_regions=st.integers(2, 7))
@settings(max_examples=20, deadline=None)
def test_the_error_of_a_perfect_guess_is_zero_and_that_of_zero_the_mean_square(make_batch, seed, n_regions):
    batch = make_batch(2, n_regions, seed)
    hidden = HideConnections(0.5).draw(batch, generator(seed))
    assert masked_error(batch.weights, batch.weights, hidden) == 0
    expected = batch.weights[hidden].square().mean() if hidden.any() else torch.tensor(0.0)
    torch.testing.assert_close(masked_error(torch.zeros_like(batch.weights), batch.weights, hidden), expected)


def test_entries_that_were_not_hidden_never_count(make_batch):
    batch = make_batch(2, 6)
    hidden = HideConnections(0.4).draw(batch, generator())
    guess = torch.randn(2, 6, 6, generator=generator(1))
    wild = torch.where(hidden, guess, torch.full_like(guess, float("nan")))
    assert torch.equal(masked_error(wild, batch.weights, hidden), masked_error(guess, batch.weights, hidden))


@pytest.mark.parametrize("kind", KINDS)
def test_entries_that_were_not_observed_never_count(make_batch, kind):
    encoder = make_encoder()
    objective = prepared(kind, encoder)
    batch = make_batch(3, 7, missing={0: [2], 2: [5, 6]}, padding=1)
    unobserved = ~(batch.mask.unsqueeze(1) & batch.mask.unsqueeze(2))
    planted = replace(batch, weights=batch.weights.masked_fill(unobserved, 100.0))
    found, expected = (objective(encoder, each, generator()).total.item() for each in (planted, batch))
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_with_nothing_to_hide_the_loss_is_zero(make_batch, kind):
    encoder = make_encoder()
    objective = prepared(kind, encoder)
    batch = make_batch(2, 1) if kind is MaskedConnections else make_batch(2, 2)  # two regions always stay
    loss = objective(encoder, batch, generator())
    loss.total.backward()
    assert loss.total.item() == 0
    assert all(float(part) == 0 for part in loss.parts.values())
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_the_kinds_draw_what_their_names_say(make_batch):
    batch = make_batch(3, 9, missing={0: [1]})
    assert torch.equal(MaskedRegions(0.4).draw(batch, generator(2)), HideRegions(0.4).draw(batch, generator(2)))
    assert torch.equal(MaskedConnections(0.4).draw(batch, generator(2)), HideConnections(0.4).draw(batch, generator(2)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_replays_from_its_seed(make_batch, kind):
    encoder = make_encoder()
    objective = prepared(kind, encoder)
    totals = [objective(encoder, make_batch(), generator(seed)).total.item() for seed in (0, 0, 1)]
    assert totals[0] == totals[1] != totals[2]


def test_the_gradient_reaches_encoder_and_decoders(make_batch):
    encoder = make_encoder(learn_bias=True, heads=4, depth=2)
    objective = prepared(MaskedRegions, encoder)
    loss = objective(encoder, make_batch(4, 8, missing={0: [1]}), generator())
    loss.total.backward()
    assert not any(part.requires_grad for part in loss.parts.values())
    for name, parameter in (*encoder.named_parameters(), *objective.named_parameters()):
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_second_decoder_reads_the_pooled_vector_and_places_only(make_batch):
    encoder = make_encoder()
    decoder = PooledDecoder(encoder.pooled_width, rank=3)
    batch, other = make_batch(2, 6), make_batch(2, 6, seed=1)
    embedding = encoder(batch)
    elsewhere = embedding._replace(tokens=torch.randn_like(embedding.tokens))
    assert torch.equal(decoder(embedding, batch), decoder(elsewhere, replace(batch, weights=other.weights)))
    assert not torch.equal(decoder(embedding, batch), decoder(embedding, other))
    moved = embedding._replace(pooled=torch.randn_like(embedding.pooled))
    assert not torch.equal(decoder(embedding, batch), decoder(moved, batch))


def test_predicted_connections_are_symmetric():
    predicted = connections(torch.randn(2, 5, 6, generator=generator()))
    assert torch.equal(predicted, predicted.mT)


def test_leaving_the_second_decoder_out_makes_none():
    assert not hasattr(prepared(MaskedRegions, make_encoder(), pooled_weight=0.0), "from_pooled")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [{"ratio": 0.0}, {"ratio": 1.0}, {"rank": 0}, {"pooled_weight": -1.0}])
def test_impossible_arguments_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match="Expected 0 < ratio < 1, rank ≥ 1 and pooled_weight ≥ 0; found"):
        kind(**wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_cohort_can_be_learned(kind, train):
    sites = [SimulatedSite("a", n_timepoints=60, noise=0.5)]
    batch = ConnectomeBuilder().fit_transform(simulate([simulated_atlas(20)], n_subjects=6, sites=sites, n_sources=100).cohort)
    encoder = make_encoder(width=32, heads=4)
    objective = prepared(kind, encoder, rank=32)
    train(objective, encoder, batch, 60, 1e-2)
    with torch.no_grad():
        parts = objective(encoder.eval(), batch, generator(1000)).parts  # a draw that no step has seen
    assert float(parts["tokens_error"]) < 0.85 * float(parts["zero_error"])
    assert float(parts["pooled_error"]) < 0.7 * float(parts["zero_error"])
