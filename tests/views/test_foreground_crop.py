"""Patches of images against slices, around what the masks hold."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import ForegroundCrop


def make(*shape, masks=None):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return ImageBatch(tuple(f"s{k}" for k in range(shape[0])), images, masks)


@pytest.mark.parametrize(("shape", "size"), [((5, 2, 8, 9), (4, 3)), ((5, 1, 6, 8, 7), (2, 8, 3))])
def test_patches_are_slices_of_images_masks_and_what_is_visible(shape, size):
    masks = torch.randint(-1, 3, (shape[0], *shape[2:]), generator=torch.Generator().manual_seed(1))
    batch = make(*shape, masks=masks).hide(masks == 2)
    view = ForegroundCrop(size)
    start = view.draw(batch, torch.Generator().manual_seed(0))
    found = view.apply(batch, start)
    for row in range(5):
        place = tuple(slice(a, a + n) for a, n in zip(start[row].tolist(), size, strict=True))
        assert found.images[row].equal(batch.images[row][(slice(None), *place)])
        assert found.masks[row].equal(masks[row][place])
        assert found.visible[row].equal(batch.visible[row][place])
    assert found.subject_ids == batch.subject_ids


def test_every_place_is_drawn_and_the_same_seed_draws_the_same():
    view, batch = ForegroundCrop((3, 4)), make(500, 1, 5, 4)
    start = view.draw(batch, torch.Generator().manual_seed(0))
    assert start[:, 0].unique().tolist() == [0, 1, 2]
    assert start[:, 1].unique().tolist() == [0]
    assert start.equal(view.draw(batch, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("foreground", [0.0, 0.5, 1.0])
def test_a_share_of_the_patches_holds_foreground(foreground):
    masks = torch.zeros(400, 20, 20, dtype=torch.long)
    masks[torch.arange(400), torch.arange(400) // 20, torch.arange(400) % 20] = 1  # one voxel, anywhere
    masks[:10] = 0
    batch = make(400, 1, 20, 20, masks=masks)
    share = (ForegroundCrop((3, 3), foreground)(batch, torch.Generator().manual_seed(0)).masks[10:] == 1).flatten(1).any(dim=1).float().mean()
    assert abs(share - (foreground + (1 - foreground) * 0.0225)) < 0.08
    if foreground == 1:
        assert share == 1


def test_patches_larger_than_images_and_strange_shares_are_refused():
    with pytest.raises(DataError, match="Expected images of at least 4 × 6 voxels to cut a patch of that size, found 8 × 5"):
        ForegroundCrop((4, 6))(make(1, 1, 8, 5), torch.Generator())
    with pytest.raises(ConfigError, match="Expected a size along 3 axes of space, found"):
        ForegroundCrop((4, 6))(make(1, 1, 8, 8, 8), torch.Generator())
    with pytest.raises(ConfigError, match=r"Expected a share of rows in \[0, 1\], found 2"):
        ForegroundCrop(2, 2)
