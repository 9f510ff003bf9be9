"""The linear map of connections between places: linear, blind to the order of regions, and of one width for every atlas."""

from dataclasses import replace

import pytest
import torch

from graphssl.encoders import PlaceEncoder
from graphssl.errors import ConfigError


def make_encoder(**changes):
    torch.manual_seed(0)
    return PlaceEncoder(**{"width": 5, "spacing_mm": 40.0, **changes}).eval()


def test_the_pooled_vector_is_a_weighted_sum_over_pairs_of_places(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 7, missing={1: [2]})
    basis = encoder.basis(batch.centroids)
    expected = torch.zeros(2, 5)
    for row in range(2):
        seen = [region for region in range(7) if batch.mask[row, region]]
        for place in range(len(encoder.basis)):
            for other in range(len(encoder.basis)):
                total = count = 0.0
                for a in seen:
                    for b in seen:
                        share = basis[row, a, place] * basis[row, b, other] * batch.visible[row, a, b]
                        total, count = total + share * batch.weights[row, a, b], count + share
                expected[row] += total / (count + 1e-2) * encoder.filters[place, other].detach()
    with torch.no_grad():
        torch.testing.assert_close(encoder(batch).pooled, expected, rtol=1e-3, atol=1e-4)


def test_it_is_linear_in_the_connections(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 8)
    doubled = replace(batch, weights=2 * batch.weights)
    torch.testing.assert_close(encoder(doubled).pooled, 2 * encoder(batch).pooled)


def test_any_order_and_number_of_regions_is_read(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    moved = replace(
        batch,
        weights=batch.weights[:, order][:, :, order],
        visible=batch.visible[:, order][:, :, order],
        mask=batch.mask[:, order],
        centroids=batch.centroids[:, order],
    )
    found, other = encoder(batch), encoder(moved)
    torch.testing.assert_close(other.pooled, found.pooled)
    torch.testing.assert_close(other.tokens, found.tokens[:, order])
    assert encoder(make_batch(3, 5, padding=2)).pooled.shape == (3, 5)


def test_connections_are_dropped_in_training_only(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 8)
    still = encoder(batch).pooled
    assert torch.equal(encoder(batch).pooled, still)
    torch.manual_seed(1)
    assert not torch.allclose(encoder.train()(batch).pooled, still)


@pytest.mark.parametrize("changes", [{"width": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_bad_arguments_are_refused(changes):
    with pytest.raises(ConfigError, match=r"a width from 1 and a dropout in \[0, 1\)"):
        PlaceEncoder(**changes)
