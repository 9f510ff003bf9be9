"""Patches in the cells of a grid, each moved a little so that borders do not tell who is whose neighbour."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError, DataError


def patch_size(size: Sequence[int], grid: Sequence[int], jitter: int) -> tuple[int, ...]:
    """Voxels of a patch: those of a cell less the room to move.

    Args:
        size: Voxels of the image by axis.
        grid: Cells by axis.
        jitter: Voxels that a patch can move by along axes that are cut.

    Raises:
        ConfigError: If the grid has another number of axes.
        DataError: If nothing of a cell is left.
    """
    if len(grid) != len(size):
        raise ConfigError(f"Expected a grid of {len(size)} axes for images of size {list(size)}, found {list(grid)}.")
    found = tuple(n // cells - (jitter if cells > 1 else 0) for n, cells in zip(size, grid, strict=True))
    if min(found) < 1:
        raise DataError(
            f"Expected images of at least {[cells * (jitter + 1) for cells in grid]} voxels for a grid of {list(grid)} and a jitter of {jitter}, "
            f"found {list(size)}. Give the builder a larger size, or lower the jitter."
        )
    return found


def draw_starts(n_rows: int, size: Sequence[int], grid: Sequence[int], jitter: int, generator: torch.Generator) -> Int[Tensor, "B K R"]:
    """First voxel of the patch of every cell, in the order of rows of the grid.

    Args:
        n_rows: Number of images.
        size: Voxels of the image by axis.
        grid: Cells by axis.
        jitter: Voxels that a patch can move by along axes that are cut.
        generator: Source of randomness.
    """
    cell = torch.tensor([n // cells for n, cells in zip(size, grid, strict=True)])
    room = torch.tensor([jitter + 1 if cells > 1 else 1 for cells in grid])
    begin = torch.cartesian_prod(*(torch.arange(cells) for cells in grid)).view(math.prod(grid), len(grid)) * cell  # [K, R]
    return begin + (torch.rand(n_rows, *begin.shape, generator=generator) * room).long()


def cut_patches(images: Float[Tensor, "B C *S"], starts: Int[Tensor, "B K R"], size: Sequence[int]) -> Float[Tensor, "B K C *P"]:
    """Patches that begin at places of each image, all of one size."""
    rank, starts = len(size), starts.to(images.device)
    places: list[Tensor] = [torch.arange(len(images), device=images.device).view(-1, 1, *(1,) * rank)]
    for axis, n in enumerate(size):
        along = torch.arange(n, device=images.device).view(1, 1, *(n if other == axis else 1 for other in range(rank)))
        places.append(starts[:, :, axis].view(*starts.shape[:2], *(1,) * rank) + along)
    return images.movedim(1, -1)[tuple(places)].movedim(-1, 2)


def as_batch(patches: Float[Tensor, "B K C *P"], batch: ImageBatch) -> ImageBatch:
    """Patches as rows of a batch, those of an image below one another."""
    subjects = tuple(subject for subject in batch.subject_ids for _ in range(patches.shape[1]))
    return ImageBatch(subjects, patches.flatten(end_dim=1), None, None, batch.clip)
