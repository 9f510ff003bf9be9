"""Masked patches against the published loss in loops, and that hidden voxels reach nothing."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.encoders import VisionTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import MaskedPatches
from graphssl.objectives.masked_patches import patch_targets, voxels_of


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return VisionTransformer(patch_size=4, width=16, depth=1, heads=2, n_maps=1)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_that_of_the_paper(normalised, transformer, make_images):
    batch = make_images(3, 1, 8, 12)
    objective = MaskedPatches(0.5, normalised, width=8, depth=1, heads=2).prepare(transformer)
    loss = objective(transformer, batch, torch.Generator().manual_seed(4))
    hidden = objective.draw(transformer, batch, torch.Generator().manual_seed(4))
    assert hidden.sum(dim=1).tolist() == [3, 3, 3]
    embedding = transformer(batch.hide(voxels_of(hidden, (4, 4), (2, 3))))
    predicted = objective.decoder(embedding.tokens, embedding.mask, (2, 3))
    errors = []
    for row in range(3):
        for k in range(6):
            if not hidden[row, k]:
                continue
            top, left = 4 * (k // 3), 4 * (k % 3)
            patch = batch.images[row, 0, top : top + 4, left : left + 4].flatten()
            if normalised:
                patch = (patch - patch.mean()) / (patch.var() + 1e-6) ** 0.5
            errors.append(((predicted[row, k] - patch) ** 2).mean().item())
    assert loss.total.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_what_is_hidden_cannot_be_read(transformer, make_images):
    batch = make_images(2, 1, 8, 8)
    objective = MaskedPatches(0.5, width=8, depth=1, heads=2).prepare(transformer)
    hidden = voxels_of(objective.draw(transformer, batch, torch.Generator().manual_seed(0)), (4, 4), (2, 2))
    other = ImageBatch(batch.subject_ids, torch.where(hidden.unsqueeze(1), 100.0, batch.images))
    torch.testing.assert_close(transformer(batch.hide(hidden)).tokens, transformer(other.hide(hidden)).tokens)


def test_targets_are_of_mean_zero_and_spread_one(make_images):
    target = patch_targets(5 + 3 * make_images(2, 2, 8, 8).images, (4, 4), normalised=True)
    torch.testing.assert_close(target.mean(dim=2), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.std(dim=2), torch.ones(2, 4), atol=1e-4, rtol=0)
    flat = patch_targets(torch.ones(1, 1, 4, 4), (4, 4), normalised=True)
    assert torch.equal(flat, torch.zeros_like(flat)), "a patch without a difference is no number by zero"


def test_images_that_repeat_themselves_are_learned(transformer, train):
    """All patches of an image are one pattern, so any tells the others."""
    pattern = torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(0)).sign()
    batch = ImageBatch(tuple(map(str, range(16))), pattern.tile(1, 1, 2, 2))
    objective = MaskedPatches(0.5, width=16, depth=1, heads=2).prepare(transformer)
    losses = train(objective, transformer, batch, 120, 3e-3)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_wrong_arguments_are_refused(make_resnet):
    with pytest.raises(ConfigError, match="share of hidden patches between 0 and 1, found 1.0"):
        MaskedPatches(1.0)
    with pytest.raises(ConfigError, match="above 0, found"):
        MaskedPatches(depth=0)
    with pytest.raises(ConfigError, match="Expected a VisionTransformer for MaskedPatches, found ResNet"):
        MaskedPatches().prepare(make_resnet())
