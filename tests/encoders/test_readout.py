"""Readouts against slow loops."""

import math
from dataclasses import replace

import pytest
import torch

from graphssl.encoders.readout import AnchorReadout, AttentionReadout, ClusterReadout, MeanReadout, make_readout
from graphssl.errors import ConfigError

KINDS = ("mean", "anchors", "attention", "clusters")


def random_tokens(batch, width=5):
    return torch.randn(*batch.mask.shape, width, generator=torch.Generator().manual_seed(1))


def test_the_mean_is_over_observed_regions(make_batch):
    batch = make_batch(3, 6, missing={1: [0, 4]}, padding=2)
    tokens = random_tokens(batch)
    found = MeanReadout(5)(tokens, batch)
    for row in range(3):
        expected = torch.stack([tokens[row, k] for k in range(8) if batch.mask[row, k]]).mean(dim=0)
        torch.testing.assert_close(found[row], expected)


def test_anchors_hold_the_weighted_mean_around_each_point(make_batch):
    torch.manual_seed(0)
    readout = AnchorReadout(5, pooled_width=4, channels=3, spacing_mm=40.0)
    batch = make_batch(2, 7, missing={0: [2]}, padding=1)
    tokens = random_tokens(batch)
    small = readout.channels(tokens)
    expected = torch.zeros(2, len(readout.basis), 3)
    for row in range(2):
        for anchor, point in enumerate(readout.basis.points):
            regions = [k for k in range(8) if batch.mask[row, k]]
            near = [math.exp(-float((batch.centroids[row, k] - point).square().sum()) / (2 * readout.basis.scale_mm**2)) for k in regions]
            for k, weight in zip(regions, near, strict=True):
                expected[row, anchor] += weight / max(sum(near), 0.01) * small[row, k]
    torch.testing.assert_close(readout(tokens, batch), readout.project(expected.flatten(1)), rtol=1e-4, atol=1e-5)


def softmax(logits):
    shares = [math.exp(logit) for logit in logits]
    return [share / sum(shares) for share in shares]


def test_attention_is_a_mean_weighted_by_fit_to_each_query(make_batch):
    torch.manual_seed(0)
    readout = AttentionReadout(5, pooled_width=4, n_queries=3)
    batch = make_batch(2, 7, missing={0: [2]}, padding=1)
    tokens = random_tokens(batch)
    expected = torch.zeros(2, 3, 5)
    for row in range(2):
        regions = [k for k in range(8) if batch.mask[row, k]]
        for query in range(3):
            shares = softmax([(tokens[row, k] @ readout.queries[query]).item() for k in regions])
            for k, share in zip(regions, shares, strict=True):
                expected[row, query] += share * tokens[row, k]
    torch.testing.assert_close(readout(tokens, batch), readout.project(expected.flatten(1)), rtol=1e-4, atol=1e-5)


def test_clusters_hold_the_tokens_that_belong_to_them(make_batch):
    torch.manual_seed(0)
    readout = ClusterReadout(5, pooled_width=4, n_clusters=3)
    batch = make_batch(2, 7, missing={0: [2]}, padding=1)
    tokens = random_tokens(batch)
    expected = torch.zeros(2, 3, 5)
    for row in range(2):
        regions = [k for k in range(8) if batch.mask[row, k]]
        for k in regions:
            for cluster, share in enumerate(softmax([(tokens[row, k] @ centre).item() for centre in readout.centres])):
                expected[row, cluster] += share * tokens[row, k] / len(regions)
    torch.testing.assert_close(readout(tokens, batch), readout.project(expected.flatten(1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "n_clusters"), [(12, 4), (5, 16), (64, 16)])
def test_centres_start_orthonormal_and_are_trained(width, n_clusters):
    centres = ClusterReadout(width, n_clusters=n_clusters).centres
    assert centres.shape == (min(width, n_clusters), width)
    assert centres.requires_grad
    torch.testing.assert_close(centres @ centres.T, torch.eye(len(centres)), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("kind", ["mean", "attention", "clusters"])
def test_the_same_regions_twice_are_read_as_once(make_batch, kind):
    """Atlases of any size give numbers of one size."""
    readout, batch = make_readout(kind, 5), make_batch(2, 6)
    tokens = random_tokens(batch)
    twice = replace(
        batch,
        weights=batch.weights.repeat(1, 2, 2),
        visible=batch.visible.repeat(1, 2, 2),
        mask=batch.mask.repeat(1, 2),
        centroids=batch.centroids.repeat(1, 2, 1),
        networks=batch.networks.repeat(1, 2),
    )
    found, expected = readout(tokens.repeat(1, 2, 1), twice), readout(tokens, batch)
    assert found.shape == (2, readout.pooled_width)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_padding_do_not_count(make_batch, kind):
    readout = make_readout(kind, 5)
    batch = make_batch(2, 6, missing={0: [3]}, padding=2)
    tokens = random_tokens(batch)
    changed = torch.where(batch.mask.unsqueeze(-1), tokens, tokens + 7)
    torch.testing.assert_close(readout(tokens, batch), readout(changed, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_regions_gives_finite_numbers(make_batch, kind):
    batch = make_batch(2, 4, missing={1: range(4)})
    assert torch.isfinite(make_readout(kind, 5)(random_tokens(batch), batch)).all()


def test_anchors_tell_left_from_right_and_the_mean_does_not(make_batch):
    batch = make_batch(1, 8)
    mirrored = type(batch)(
        batch.subject_ids, batch.weights, batch.visible, batch.mask, batch.centroids * torch.tensor([-1.0, 1.0, 1.0]), batch.networks, batch.atlas
    )
    tokens = random_tokens(batch)
    mean, anchors = make_readout("mean", 5), make_readout("anchors", 5)
    assert torch.equal(mean(tokens, batch), mean(tokens, mirrored))
    assert (anchors(tokens, batch) - anchors(tokens, mirrored)).abs().max() > 1e-3


def test_an_unknown_readout_is_refused():
    with pytest.raises(ConfigError, match="Expected the readout to be one of mean, anchors, attention, clusters; found 'sum'"):
        make_readout("sum", 5)
