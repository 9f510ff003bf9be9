"""What leaves texture as it is, and what leaves nothing else."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import Blur, GridShuffle, ResizedCrop, texture_preserving
from graphssl.views.texture import shuffle_grid


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("space", [(6, 4), (4, 6, 8)])
def test_patches_come_to_the_places_that_were_drawn(space):
    images = torch.randn(3, 2, *space)
    order = torch.stack([torch.randperm(2 ** len(space)) for _ in range(3)])
    seen = shuffle_grid(images, order, 2)

    def patch(image, place):
        corner = []
        for n in reversed(space):
            corner.append((place % 2) * (n // 2))
            place //= 2
        return image[(slice(None), *(slice(c, c + n // 2) for c, n in zip(reversed(corner), space, strict=True)))]

    for row in range(3):
        for place, source in enumerate(order[row].tolist()):
            assert torch.equal(patch(seen[row], place), patch(images[row], source))


def test_every_order_of_patches_comes_up():
    batch = ImageBatch(tuple(map(str, range(300))), torch.arange(4.0).view(1, 1, 2, 2).expand(300, -1, -1, -1))
    seen = GridShuffle(2)(batch, generator()).images.flatten(start_dim=1)
    assert len(seen.unique(dim=0)) == 24


def test_the_texture_views_neither_blur_nor_scale():
    """Fine noise keeps its energy at the shortest distance; it loses it by blur, or by a crop made larger."""
    batch = ImageBatch(tuple(map(str, range(40))), torch.randn(40, 1, 48, 48, generator=generator()))

    def roughness(images):
        return float((images[..., 1:] - images[..., :-1]).std() / images.std())

    assert roughness(texture_preserving(32)(batch, generator()).images) > 0.8 * roughness(batch.images)
    assert roughness(texture_preserving(32, grid=4)(batch, generator()).images) > 0.8 * roughness(batch.images)
    assert roughness(Blur((1.0, 1.0))(batch, generator()).images) < 0.6 * roughness(batch.images)
    assert roughness(ResizedCrop(48, scale=(0.2, 0.25))(batch, generator()).images) < 0.8 * roughness(batch.images)


def test_grids_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="at least 2 patches"):
        GridShuffle(1)
    with pytest.raises(DataError, match="multiples of the grid 4, found 6 × 8"):
        GridShuffle(4)(ImageBatch(("a",), torch.zeros(1, 1, 6, 8)), generator())
