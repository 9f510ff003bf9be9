"""Readouts against slow loops."""

import math

import pytest
import torch

from graphssl.encoders.readout import AnchorReadout, MeanReadout, make_readout
from graphssl.errors import ConfigError


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


@pytest.mark.parametrize("kind", ["mean", "anchors"])
def test_tokens_of_padding_do_not_count(make_batch, kind):
    readout = make_readout(kind, 5)
    batch = make_batch(2, 6, missing={0: [3]}, padding=2)
    tokens = random_tokens(batch)
    changed = torch.where(batch.mask.unsqueeze(-1), tokens, tokens + 7)
    torch.testing.assert_close(readout(tokens, batch), readout(changed, batch))


@pytest.mark.parametrize("kind", ["mean", "anchors"])
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
    with pytest.raises(ConfigError, match="Expected the readout to be 'mean' or 'anchors', found 'sum'"):
        make_readout("sum", 5)
