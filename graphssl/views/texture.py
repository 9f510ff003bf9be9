"""Random looks that leave texture as it is, and one that leaves nothing but texture: the patches of a grid in another order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.errors import ConfigError, DataError
from graphssl.views.base import AbstractView, Compose
from graphssl.views.image import AbstractIntensityView
from graphssl.views.intensity import IntensityJitter, Speckle
from graphssl.views.spatial import Affine, Crop, Flip


def texture_preserving(size: int | Sequence[int], grid: int | None = None, flips: Sequence[int] = (-1,)) -> Compose:
    """A look after which texture is the same: patches, mirrored, turned a little, with another gain and speckle; no blur and no scaling.

    For contrastive learning of texture in optical coherence tomography (Chen, Wang and Ma, 2022), of which the augmentations are not published: a
    reconstruction.

    Args:
        size: Voxels of the patches.
        grid: Patches along each axis that are shuffled on top, so that an encoder cannot use the layout; None leaves them.
        flips: Axes along which may be mirrored.
    """
    views: list[AbstractView] = [Affine(degrees=10.0, scale=(1.0, 1.0), shift=0.0), Crop(size), Flip(flips)]
    views += [IntensityJitter(brightness=0.2, contrast=(0.8, 1.25)), Speckle(std=(0.0, 0.2))]
    return Compose(views if grid is None else [*views, GridShuffle(grid)])


@dataclass(frozen=True)
class GridShuffle(AbstractIntensityView):
    """The patches of a grid in another order: texture stays, form goes, so that an encoder cannot use the layout.

    Args:
        grid: Patches along each axis.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If there are fewer than two along an axis.
    """

    grid: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid < 2:
            raise ConfigError(f"Expected at least 2 patches along each axis to shuffle, found {self.grid}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor]:
        """Which patch comes to each place `[b, grid ** rank]`."""
        return (torch.rand(n, self.grid**rank, generator=generator).argsort(dim=1),)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The patches at their new places.

        Raises:
            DataError: If an axis is no multiple of the grid.
        """
        return shuffle_grid(images, what[0], self.grid)


def shuffle_grid(images: Float[Tensor, "b K *S"], order: Tensor, grid: int) -> Float[Tensor, "b K *S"]:
    """Images whose patch at place `k` of the grid is the one from place `order[k]`.

    Raises:
        DataError: If an axis is no multiple of the grid.
    """
    n, channels, *space = images.shape
    if any(size % grid for size in space):
        raise DataError(f"Expected axes that are multiples of the grid {grid}, found {' × '.join(map(str, space))} voxels. Crop them first.")
    rank = len(space)
    split = images.reshape(n, channels, *(part for size in space for part in (grid, size // grid)))
    places, within = [2 + 2 * k for k in range(rank)], [3 + 2 * k for k in range(rank)]
    patches = split.permute(0, *places, 1, *within).reshape(n, grid**rank, -1)
    moved = patches.gather(1, order.unsqueeze(-1).expand_as(patches))
    moved = moved.reshape(n, *(grid,) * rank, channels, *(size // grid for size in space))
    back = [0, rank + 1, *(axis for k in range(rank) for axis in (1 + k, rank + 2 + k))]
    return moved.permute(*back).reshape(images.shape)
