"""Attention biases against loops over pairs of regions."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from graphssl.encoders.biases import AttentionBias
from graphssl.errors import ConfigError
from graphssl.views import HideConnections

KINDS = ("weight", "distance", "network")
CHOICES = [chosen for n in range(1, 4) for chosen in permutations(KINDS, n)]


def relation(batch, row, i, j, kind):
    if kind == "weight":
        return min(3.0, max(-3.0, float(batch.weights[row, i, j])))
    if kind == "distance":
        return -math.dist(batch.centroids[row, i].tolist(), batch.centroids[row, j].tolist()) / 100
    first, second = int(batch.networks[row, i]), int(batch.networks[row, j])
    return float(first == second != -1)


def slow_bias(batch, row, kinds, slopes):
    """Slopes times relations towards observed regions, minus infinity towards the others but itself."""
    n_regions, n_heads = batch.mask.shape[1], slopes.shape[1]
    bias = torch.full((n_heads, n_regions, n_regions), -math.inf)
    for i in range(n_regions):
        for j in range(n_regions):
            if batch.mask[row, j] or i == j:
                for head in range(n_heads):
                    bias[head, i, j] = sum(float(slopes[k, head]) * relation(batch, row, i, j, kind) for k, kind in enumerate(kinds))
    return bias


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("kinds", CHOICES, ids="-".join)
def test_the_bias_is_a_sum_of_slopes_times_relations(make_batch, in_networks, kinds, learned):
    batch = in_networks(make_batch(2, 6, missing={1: [0]}, padding=1))
    batch = replace(batch, weights=3 * batch.weights)  # some beyond the clamp
    bias = AttentionBias(4, kinds, learned=learned)
    with torch.no_grad():
        found = bias(batch)
    for row in range(2):
        torch.testing.assert_close(found[row], slow_bias(batch, row, kinds, bias.slopes.detach()), rtol=1e-4, atol=1e-4)


def test_regions_of_unknown_network_have_none_in_common(make_batch):
    found = AttentionBias(2, ("network",))(make_batch(2, 4))
    assert (found == 0).all()


@pytest.mark.parametrize("heads", [2, 3, 4, 8])
def test_the_first_head_is_without_preference_and_each_relation_has_a_head(heads):
    slopes = AttentionBias(heads, KINDS).slopes
    assert slopes[:, 0].tolist() == [0.0, 0.0, 0.0]
    assert (slopes >= 0).all()
    assert (slopes > 0).any(dim=1).all()


def test_without_relations_only_the_mask_remains(make_batch):
    batch = make_batch(2, 4, missing={1: [2]}, padding=1)
    found = AttentionBias(4, ())(batch)
    expected = batch.mask.unsqueeze(1) | torch.eye(5, dtype=torch.bool)
    assert torch.equal(found, expected.unsqueeze(1))


def test_what_is_hidden_leaves_no_trace(make_batch, in_networks):
    batch, other = in_networks(make_batch(3, 8)), make_batch(3, 8, seed=1)
    hidden = HideConnections(0.4).draw(batch, torch.Generator().manual_seed(0))
    changed = replace(batch, weights=torch.where(hidden, other.weights, batch.weights))
    bias = AttentionBias(4, KINDS)
    assert torch.equal(bias(batch.hide(hidden)), bias(changed.hide(hidden)))
    assert not torch.equal(bias(batch), bias(changed))


@pytest.mark.parametrize("kinds", [("colour",), ("weight", "weight")])
def test_unknown_or_repeated_relations_are_refused(kinds):
    with pytest.raises(ConfigError, match="Expected biases among weight, distance, network, each at most once; found"):
        AttentionBias(4, kinds)
