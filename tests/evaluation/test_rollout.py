"""Roll-out against slow loops over layers, heads, rows and columns."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from graphssl.encoders import GCN, AbstractEncoder, Embedding, GraphTransformer
from graphssl.errors import DataError
from graphssl.evaluation import attention_rollout
from graphssl.evaluation.rollout import rollout


def by_loops(layers):
    """The recursion of the paper for one connectome: attention with its residual, one entry at a time."""
    n = len(layers[0])
    rolled = [[float(i == j) for j in range(n)] for i in range(n)]
    for layer in layers:
        mixed = [[(float(layer[i][j]) + (i == j)) / 2 for j in range(n)] for i in range(n)]
        rolled = [[sum(mixed[i][k] * rolled[k][j] for k in range(n)) for j in range(n)] for i in range(n)]
    return np.asarray(rolled)


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_it_is_the_recursion_in_loops(n_layers):
    attention = torch.rand(n_layers, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    found = rollout(attention)
    for b in range(3):
        assert_allclose(found[b], by_loops(attention[:, b]), rtol=1e-10)
    assert_allclose(found.sum(dim=-1), 1.0)


def attention_by_hand(encoder, batch):
    """Attention of every block `[L][B, R, R]`, mean over heads, with a loop over connectomes, heads and regions."""
    layers, tokens, bias = [], encoder.tokens(batch), encoder.bias(batch)
    for block in encoder.blocks:
        width = tokens.shape[-1] // block.heads
        query, key, _ = block.qkv(block.norm_attention(tokens)).split(tokens.shape[-1], dim=-1)
        layer = torch.zeros(len(batch), tokens.shape[1], tokens.shape[1])
        for b in range(len(batch)):
            for h in range(block.heads):
                part = slice(h * width, (h + 1) * width)
                for i in range(tokens.shape[1]):
                    logits = torch.stack([query[b, i, part] @ key[b, j, part] / width**0.5 + bias[b, h, i, j] for j in range(tokens.shape[1])])
                    layer[b, i] += logits.softmax(dim=0) / block.heads
        layers.append(layer)
        tokens = block(tokens, bias)
    return layers


def test_attention_of_the_encoder_is_that_of_loops(make_batch):
    torch.manual_seed(0)
    encoder = GraphTransformer(8, 2, 2).eval()
    batch = make_batch(n_rows=3, n_regions=5, missing={1: [2]}, padding=1)
    with torch.no_grad():
        layers = attention_by_hand(encoder, batch)
    found = attention_rollout(encoder.train(), batch)
    assert encoder.training
    for b in range(3):
        assert_allclose(found[b, :5, :5], by_loops([layer[b] for layer in layers])[:5, :5], atol=1e-5)
    assert (found[:, 5] == 0).all(), "padding is nobody's share"


def test_rows_beyond_one_chunk(make_batch):
    encoder = GraphTransformer(8, 1, 2).eval()
    batch = make_batch(n_rows=40, n_regions=6)
    assert_allclose(attention_rollout(encoder, batch)[35:], attention_rollout(encoder, batch[list(range(35, 40))]), atol=1e-6)


class Masked(AbstractEncoder):
    """Attention between regions that are observed, with a mask of booleans."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(1, 4)
        self.token_width = self.pooled_width = 4

    def forward(self, batch):
        tokens = self.query(batch.weights.sum(dim=-1, keepdim=True)).unsqueeze(1)
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, batch.mask[:, None, None, :])
        return Embedding(mixed.squeeze(1), batch.mask, mixed.squeeze(1).mean(dim=1))


def test_a_mask_of_booleans_hides_regions(make_batch):
    batch = make_batch(n_rows=2, n_regions=5, missing={0: [3]})
    found = attention_rollout(Masked(), batch)
    assert found[0, [0, 1, 2, 4], 3].abs().max() == 0
    assert_allclose(found.sum(dim=-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("encoder", [GCN(8), GraphTransformer(8, 1, 2, edges=False)], ids=["gcn", "no_edges"])
def test_without_attention(make_batch, encoder):
    with pytest.raises(DataError, match=f"attention between regions to roll out, found {type(encoder).__name__} without"):
        attention_rollout(encoder, make_batch())


def test_covariates_take_their_share(make_batch, with_covariates):
    torch.manual_seed(0)
    covariates = {"age": 3, "motion": 3, "sex": ("f", "m"), "eyes": ("both", "closed", "open")}
    encoder = GraphTransformer(8, 2, 2, biases=(), covariates=covariates).eval()
    batch = with_covariates(make_batch(n_rows=3, n_regions=5))
    with torch.no_grad():
        for block in encoder.blocks:
            block.qkv.weight.zero_(), block.qkv.bias.zero_()  # attention is the same everywhere
    layer = torch.full((9, 9), 1 / 9)
    expected = by_loops([layer, layer])[:5, :5]
    for found in attention_rollout(encoder, batch):
        assert_allclose(found, expected, rtol=1e-5)
        assert (found.sum(dim=1) < 1).all()
