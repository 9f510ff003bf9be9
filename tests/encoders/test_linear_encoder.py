"""The linear map of all connections: linear, of one atlas, and a logistic regression with a head."""

from dataclasses import replace

import pytest
import torch

from graphssl.encoders import LinearEncoder
from graphssl.errors import AtlasError, ConfigError


def make_encoder(n_regions=8, **changes):
    torch.manual_seed(0)
    return LinearEncoder("toy", n_regions, **{"width": 5, **changes}).eval()


def test_the_pooled_vector_is_a_weighted_sum_of_connections(make_batch):
    encoder, batch = make_encoder(), make_batch(3, 8, missing={1: [2]})
    with torch.no_grad():
        found = encoder(batch)
    expected = torch.zeros(3, 5)
    for region in range(8):
        for other in range(8):
            expected += batch.weights[:, region, other, None] * encoder.filters[region, other]
    torch.testing.assert_close(found.pooled, expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.tokens.sum(dim=1), found.pooled)
    assert torch.equal(found.tokens[1, 2], torch.zeros(5))
    assert torch.equal(found.mask, batch.mask)


def test_it_is_linear_in_the_connections(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 8)
    doubled = replace(batch, weights=2 * batch.weights)
    torch.testing.assert_close(encoder(doubled).pooled, 2 * encoder(batch).pooled)


def test_connections_are_dropped_in_training_only(make_batch):
    encoder, batch = make_encoder(dropout=0.5), make_batch(2, 8)
    still = encoder(batch).pooled
    assert torch.equal(encoder(batch).pooled, still)
    torch.manual_seed(1)
    assert not torch.allclose(encoder.train()(batch).pooled, still)


def test_a_batch_without_the_last_regions_is_read_as_if_they_were_missing(make_batch):
    encoder, batch = make_encoder(), make_batch(3, 8, missing={0: [6, 7]})
    torch.testing.assert_close(encoder(batch[[0]]).pooled[0], encoder(batch).pooled[0])


def test_another_atlas_is_refused(make_batch):
    batch = make_batch(2, 8)
    with pytest.raises(AtlasError, match="atlas 'other' with 8 regions, which LinearEncoder knows by their rows; found 'toy' with 8"):
        LinearEncoder("other", 8)(batch)
    with pytest.raises(AtlasError, match="atlas 'toy' with 6 regions"):
        make_encoder(6)(batch)


@pytest.mark.parametrize("changes", [{"width": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_bad_arguments_are_refused(changes):
    with pytest.raises(ConfigError, match=r"a width and regions from 1 and a dropout in \[0, 1\)"):
        LinearEncoder("toy", 8, **changes)
