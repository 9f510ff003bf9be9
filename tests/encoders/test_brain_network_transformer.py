"""The transformer of one atlas: tokens by row, attention without preference, clusters; another atlas is refused."""

import json
from dataclasses import replace

import pytest
import torch

from graphssl.data import ConnectomeBatch
from graphssl.encoders import BrainNetworkTransformer
from graphssl.encoders.biases import AttentionBias
from graphssl.errors import AtlasError, ConfigError
from graphssl.views import HideRegions


def make_encoder(n_regions=8, **changes):
    torch.manual_seed(0)
    return BrainNetworkTransformer("toy", n_regions, **{"width": 12, "depth": 2, "heads": 3, **changes}).eval()


def test_a_token_is_a_map_of_its_row_and_a_vector_of_its_own(make_batch):
    encoder, batch = make_encoder(depth=0), make_batch(2, 8)
    found = encoder(batch).tokens
    for row in range(2):
        for region in range(8):
            token = encoder.profile(batch.weights[row, region]) + encoder.identity[region]
            torch.testing.assert_close(found[row, region], encoder.norm(token), rtol=1e-4, atol=1e-5)


def test_blocks_attend_to_every_observed_region_alike(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 8, missing={0: [3]})
    with torch.no_grad():
        tokens = encoder.profile(batch.weights) + encoder.identity
        for block in encoder.blocks:
            tokens = block(tokens, AttentionBias(3, ())(batch))
        expected = encoder.norm(tokens)
        found = encoder(batch)
    assert torch.equal(found.tokens, expected)
    assert torch.equal(found.pooled, encoder.pool(expected, batch))
    assert torch.equal(found.mask, batch.mask)


def test_coordinates_and_networks_are_not_read(make_batch, in_networks):
    encoder, batch = make_encoder(), make_batch(2, 8)
    moved = replace(in_networks(batch), centroids=batch.centroids + 30)
    assert torch.equal(encoder(moved).pooled, encoder(batch).pooled)


def test_a_batch_without_the_last_regions_is_read_as_if_they_were_missing(make_batch):
    encoder, batch = make_encoder(), make_batch(3, 8, missing={0: [6, 7]})
    cut = batch[[0]]
    assert cut.mask.shape[1] == 6
    with torch.no_grad():
        found, whole = encoder(cut), encoder(batch)
    torch.testing.assert_close(found.tokens[0], whole.tokens[0, :6], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pooled[0], whole.pooled[0], rtol=1e-4, atol=1e-5)


def test_hidden_weights_are_not_read(make_batch):
    encoder, batch, other = make_encoder(), make_batch(2, 8), make_batch(2, 8, seed=1)
    hidden = HideRegions(0.3).draw(batch, torch.Generator().manual_seed(0))
    changed = replace(batch, weights=torch.where(hidden, other.weights, batch.weights))
    assert torch.equal(encoder(batch.hide(hidden)).tokens, encoder(changed.hide(hidden)).tokens)


def test_without_edges_a_token_does_not_see_the_others(make_batch):
    batch = make_batch(1, 8)
    hidden = torch.zeros_like(batch.visible)
    hidden[0, 3, 5] = hidden[0, 5, 3] = True
    with torch.no_grad():
        for edges, same in ((False, True), (True, False)):
            encoder = make_encoder(edges=edges)
            gap = (encoder(batch).tokens - encoder(batch.hide(hidden)).tokens)[0, [0, 1, 2, 4, 6, 7]].abs().max()
            assert (gap == 0) == same


def test_gradients_reach_every_parameter(make_batch):
    encoder, batch = make_encoder(), make_batch(3, 8)
    embedding = encoder(batch)
    (embedding.tokens.square().mean() + embedding.pooled.square().mean()).backward()
    unreached = [name for name, parameter in encoder.named_parameters() if parameter.grad is None or not parameter.grad.isfinite().all()]
    assert unreached == []


@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_connectomes(make_batch, n):
    encoder = make_encoder()
    found = encoder(make_batch(5, 8)[list(range(n))])
    assert found.pooled.shape == (n, encoder.pooled_width)


def test_arguments_make_the_same_encoder_again(make_batch):
    encoder = make_encoder(dropout=0.2)
    again = BrainNetworkTransformer(**json.loads(json.dumps(encoder.arguments()))).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(make_batch(2, 8)).pooled, encoder(make_batch(2, 8)).pooled)


def test_another_atlas_is_refused(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 8)
    other = replace(make_batch(2, 6), atlas=("cc200", "cc200"))
    with pytest.raises(AtlasError, match=r"in atlas 'toy' with 8 regions.*found 'cc200' with 8.*Make one for that atlas"):
        encoder(ConnectomeBatch.cat([batch, other]))
    with pytest.raises(AtlasError, match="found 'toy' with 9"):
        encoder(make_batch(2, 9))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="multiple of the 5 heads, found 12"):
        make_encoder(heads=5)
