"""Message-passing encoders: laws of permutation and padding, one round against dense algebra, and what their options change."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from graphssl.data import ConnectomeBatch
from graphssl.encoders import GAT, GCN, GIN
from graphssl.encoders.gnn import block_diagonal
from graphssl.errors import ConfigError
from graphssl.graphs.sparsify import densest

ENCODERS = [
    (GCN, {}),
    (GCN, {"signed": "absolute"}),
    (GCN, {"edges": False}),
    (GAT, {}),
    (GAT, {"readout": "mean"}),
    (GAT, {"edges": False}),
    (GIN, {}),
    (GIN, {"readout": "clusters"}),
    (GIN, {"edges": False}),
]


def make_encoder(kind, seed=0, **changes):
    torch.manual_seed(seed)
    return kind(**{"width": 12, "depth": 2, "spacing_mm": 40.0, "density": 0.4, **changes}).eval()


def close(found, expected):
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=ENCODERS, ids=lambda param: f"{param[0].__name__}-{'-'.join(map(str, param[1].values()))}")
def encoder(request):
    kind, options = request.param
    return make_encoder(kind, **options)


@given(seed=st.integers(0, 999), n_regions=st.integers(1, 9))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize(("kind", "options"), ENCODERS)
def test_permuting_regions_permutes_tokens_and_leaves_the_pooled_vector(make_batch, regions_taken, kind, options, seed, n_regions):
    encoder = make_encoder(kind, **options)
    batch = make_batch(2, n_regions, seed, missing={0: [0]})
    order = torch.randperm(n_regions, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found, moved = encoder(batch), encoder(regions_taken(batch, order))
    assert close(moved.tokens[moved.mask], found.tokens[:, order][moved.mask])
    assert close(moved.pooled, found.pooled)


def test_each_connectome_alone_equals_its_row_in_a_batch_of_several_atlases(make_batch, encoder):
    batch = ConnectomeBatch.cat([make_batch(2, 11, seed=0, missing={1: [10, 3]}), make_batch(2, 5, seed=1), make_batch(1, 1, seed=2)])
    with torch.no_grad():
        together = encoder(batch)
        for row in range(len(batch)):
            alone = encoder(batch[[row]])
            n_regions = alone.mask.shape[1]
            assert close(alone.pooled[0], together.pooled[row])
            assert close(alone.tokens[0][alone.mask[0]], together.tokens[row, :n_regions][alone.mask[0]])


def test_padding_changes_nothing(make_batch, encoder):
    with torch.no_grad():
        found, padded = encoder(make_batch(3, 8)), encoder(make_batch(3, 8, padding=4))
    assert close(padded.tokens[:, :8], found.tokens)
    assert close(padded.pooled, found.pooled)
    assert padded.pooled.isfinite().all()


def test_gradients_reach_every_parameter(make_batch, encoder):
    batch = make_batch(3, 8)
    hidden = torch.zeros_like(batch.visible)
    hidden[:, 2], hidden[:, :, 2] = True, True  # a region without connections reaches the vector that stands for them
    embedding = encoder(batch.hide(hidden))
    (embedding.tokens.square().mean() + embedding.pooled.square().mean()).backward()
    unreached = [name for name, parameter in encoder.named_parameters() if parameter.grad is None or not parameter.grad.isfinite().all()]
    assert unreached == []


def test_shapes_are_those_of_the_contract(make_batch, encoder):
    found = encoder(make_batch(3, 7, padding=2))
    assert found.tokens.shape == (3, 9, encoder.token_width)
    assert found.pooled.shape == (3, encoder.pooled_width)
    assert found.mask.shape == (3, 9)


def test_arguments_make_the_same_encoder_again(make_batch, encoder):
    again = type(encoder)(**json.loads(json.dumps(encoder.arguments()))).eval()
    again.load_state_dict(encoder.state_dict())
    batch = make_batch()
    assert torch.equal(again(batch).pooled, encoder(batch).pooled)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_connectomes(make_batch, encoder, n):
    assert encoder(make_batch(5)[list(range(n))]).pooled.shape == (n, encoder.pooled_width)


@pytest.mark.parametrize("signed", ["positive", "absolute"])
def test_one_round_of_a_gcn_is_the_normalised_adjacency_times_the_nodes(make_batch, signed):
    encoder = make_encoder(GCN, depth=1, signed=signed)
    layer = encoder.layers[0]
    torch.nn.init.normal_(layer.bias)
    batch = make_batch(3, 7, missing={1: [2]})
    weights = batch.weights.clamp(min=0) if signed == "positive" else batch.weights.abs()
    kept = densest(replace(batch, weights=weights), 0.4)
    with torch.no_grad():
        tokens = encoder.tokens(batch)
        adjacency = weights * kept + torch.eye(7)
        root = adjacency.sum(dim=2).rsqrt()
        normalised = root.unsqueeze(2) * adjacency * root.unsqueeze(1)
        mixed = normalised @ (encoder.norms[0](tokens) @ layer.lin.weight.T) + layer.bias
        assert close(encoder(batch).tokens, encoder.norm(tokens + F.gelu(mixed)))


def test_one_round_of_a_gat_is_attention_over_neighbours(make_batch):
    encoder = make_encoder(GAT, depth=1, heads=3)
    layer = encoder.layers[0]
    batch = make_batch(2, 6)
    kept = densest(batch, 0.4) | torch.eye(6, dtype=torch.bool)
    with torch.no_grad():
        tokens = encoder.tokens(batch)
        nodes = encoder.norms[0](tokens)
        source, target = layer.lin_l(nodes).unflatten(-1, (3, 4)), layer.lin_r(nodes).unflatten(-1, (3, 4))  # [B, R, H, C]
        edge = layer.lin_edge(batch.weights.unsqueeze(-1)).unflatten(-1, (3, 4))
        logits = (F.leaky_relu(source.unsqueeze(1) + target.unsqueeze(2) + edge, 0.2) * layer.att).sum(dim=-1)  # [B, target, source, H]
        shares = logits.masked_fill(~kept.unsqueeze(-1), float("-inf")).softmax(dim=2)
        mixed = torch.einsum("btsh,bshc->bthc", shares, source).flatten(start_dim=2) + layer.bias
        assert close(encoder(batch).tokens, encoder.norm(tokens + F.gelu(mixed)))


def test_one_round_of_a_gin_is_a_network_of_sums_over_neighbours(make_batch):
    encoder = make_encoder(GIN, depth=1)
    layer = encoder.layers[0]
    torch.nn.init.constant_(layer.eps, 0.3)
    batch = make_batch(3, 7, missing={1: [2]})
    kept = densest(batch, 0.4)
    with torch.no_grad():
        tokens = encoder.tokens(batch)
        nodes = encoder.norms[0](tokens)  # [B, R, D]
        summed = 1.3 * nodes
        for row, target, source in kept.nonzero().tolist():
            edge = layer.lin.weight[:, 0] * batch.weights[row, target, source] + layer.lin.bias
            summed[row, target] += (nodes[row, source] + edge).clamp(min=0)
        inner, outer = layer.nn[0], layer.nn[2]
        mixed = F.gelu(summed @ inner.weight.T + inner.bias) @ outer.weight.T + outer.bias
        assert close(encoder(batch).tokens, encoder.norm(tokens + F.gelu(mixed)))


@pytest.mark.parametrize("kind", [GCN, GAT, GIN])
def test_without_edges_a_token_does_not_see_the_others(make_batch, kind):
    batch = make_batch(1, 8)
    hidden = torch.zeros_like(batch.visible)
    hidden[0, 3, 5] = hidden[0, 5, 3] = True
    others = [0, 1, 2, 4, 6, 7]
    with torch.no_grad():
        for edges, same in ((False, True), (True, False)):
            encoder = make_encoder(kind, edges=edges, density=1.0)
            gap = (encoder(batch).tokens - encoder(batch.hide(hidden)).tokens)[:, others].abs().max()
            assert (gap == 0) == same


def test_negative_connections_never_make_a_gcn_nan(make_batch):
    batch = make_batch(2, 8)
    negative = replace(batch, weights=-10 * batch.weights.abs())
    for signed in ("positive", "absolute"):
        assert make_encoder(GCN, signed=signed)(negative).tokens.isfinite().all()
    without = make_encoder(GCN, edges=False)
    assert close(make_encoder(GCN)(negative).tokens, without(negative).tokens)


@pytest.mark.parametrize("kind", [GAT, GIN])
def test_gat_and_gin_read_the_sign_of_a_connection(make_batch, kind):
    encoder, batch = make_encoder(kind, depth=1), make_batch(2, 8)
    layer = encoder.layers[0]
    nodes = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    edge_index, weight = block_diagonal(batch.visible, batch.weights)
    found = encoder.pass_messages(layer, nodes, edge_index, weight)
    assert not torch.allclose(found, encoder.pass_messages(layer, nodes, edge_index, -weight), atol=1e-4)


def test_edges_of_a_batch_stay_within_their_graph(make_batch):
    batch = make_batch(3, 5, missing={0: [1]})
    edge_index, weight = block_diagonal(batch.visible, batch.weights)
    dense = torch.zeros(15, 15)
    dense[edge_index[0], edge_index[1]] = weight
    assert torch.equal(dense, torch.block_diag(*batch.weights))


@pytest.mark.parametrize(
    ("kind", "arguments", "match"),
    [
        (GCN, {"density": 0.0}, r"density in \(0, 1\], found 0\.0"),
        (GAT, {"density": 1.5}, r"density in \(0, 1\], found 1\.5"),
        (GIN, {"density": -0.1}, r"density in \(0, 1\], found -0\.1"),
        (GCN, {"signed": "negative"}, "'positive' or 'absolute', found 'negative'"),
        (GAT, {"heads": 5}, "multiple of the 5 heads, found 12"),
    ],
)
def test_impossible_arguments_are_refused(kind, arguments, match):
    with pytest.raises(ConfigError, match=match):
        make_encoder(kind, **arguments)
