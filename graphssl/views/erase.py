"""Random looks that take something away: boxes filled, and voxels shuffled in place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views.counter import draw_seeds, uniform
from graphssl.views.image import AbstractImageView, AbstractIntensityView, check_range

Fill = Literal["zero", "mean", "noise", "swap"]


@dataclass(frozen=True)
class Cutout(AbstractImageView):
    """Fill boxes of each image, or all but the boxes: coarse dropout, inpainting and outpainting (DeVries & Taylor, 2017; Zhou et al., MICCAI 2019).

    Args:
        n_boxes: Lowest and highest number of boxes.
        extent: Lowest and highest extent of a box, as a share of each axis.
        fill: `"zero"`, the image's `"mean"`, even `"noise"` between its lowest and highest value, or `"swap"`: what the next row has there.
        outside: Whether all but the boxes is filled.
        hide: Whether what was filled is not `visible` any more; it is zero then.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If a range is out of order, or the fill is unknown.
    """

    n_boxes: Sequence[int] = (1, 6)
    extent: Sequence[float] = (0.05, 0.25)
    fill: Fill = "noise"
    outside: bool = False
    hide: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("n_boxes", self.n_boxes, 1)
        check_range("extent", self.extent, 1e-3, 1.0)
        if self.fill not in get_args(Fill):
            raise ConfigError(f"Expected one of {', '.join(get_args(Fill))} to fill boxes with, found {self.fill!r}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Extents and beginnings of boxes `[b, boxes, rank]` in shares of the axes, which there are `[b, boxes]`, and seeds of the noise `[b]`."""
        low, most = self.n_boxes
        count = torch.randint(low, most + 1, (n, 1), generator=generator)
        extent = self.extent[0] + (self.extent[1] - self.extent[0]) * torch.rand(n, most, rank, generator=generator)
        start = torch.rand(n, most, rank, generator=generator) * (1.0 - extent)
        return extent, start, torch.arange(most) < count, draw_seeds(n, generator)

    def change(self, batch: ImageBatch, what: tuple[Tensor, ...]) -> ImageBatch:
        """The batch with boxes filled."""
        extent, start, there, seeds = what
        inside = in_boxes(start, extent, there, batch.shape[-batch.rank :])
        if batch.clip:
            inside = inside.unsqueeze(1).expand(len(batch), *batch.shape[2:])
        filled = ~inside if self.outside else inside
        if self.hide:
            return batch.hide(filled)
        return batch.changed(images=torch.where(filled.unsqueeze(1), self._filling(batch.images, seeds), batch.images))

    def _filling(self, images: Tensor, seeds: Tensor) -> Tensor:
        if self.fill == "swap":
            return images.roll(-1, dims=0)
        flat = images.flatten(start_dim=1)
        if self.fill == "noise":
            low, high = torch.aminmax(flat, dim=1, keepdim=True)
            return (low + (high - low) * uniform(seeds, flat.shape[1])).view_as(images)
        mean = flat.mean(dim=1) if self.fill == "mean" else torch.zeros(len(flat), device=flat.device)
        return mean.view(-1, *(1,) * (images.dim() - 1)).expand_as(images)


@dataclass(frozen=True)
class LocalShuffle(AbstractIntensityView):
    """Shuffle the voxels in many small windows, one window after the other: textures go, forms stay (Models Genesis; Zhou et al., MICCAI 2019).

    Args:
        n_windows: Windows of each image.
        extent: Largest extent of a window, as a share of each axis; at least two voxels.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If there is no window, or the extent is out of range.
    """

    n_windows: int = 40
    extent: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_windows < 1 or not 0.0 < self.extent <= 1.0:
            raise ConfigError(f"Expected at least one window of an extent in (0, 1], found {self.n_windows} of {self.extent}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Where boxes of the largest extent begin, extents of windows, and where in the boxes these begin `[b, windows, rank]`; seeds `[b]`.

        All but the seeds are shares: of the room for a box, of its extent, and of the room in it.
        """
        start, extent, inside = (torch.rand(n, self.n_windows, rank, generator=generator) for _ in range(3))
        return start, extent, inside, draw_seeds(n, generator)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The values in their new order; channels and frames move together."""
        shape = torch.tensor(images.shape[2:], device=images.device)
        largest = torch.minimum((shape * self.extent).round().long().clamp(min=2), shape)
        flat = images.flatten(start_dim=2).clone()
        keys = uniform(what[3], self.n_windows * int(largest.prod())).view(len(flat), self.n_windows, -1)
        for start, extent, inside, key in zip(*(tensor.unbind(dim=1) for tensor in (*what[:3], keys)), strict=True):
            size = torch.minimum(2 + (extent * (largest - 1)).long(), largest)
            first = (inside * (largest - size + 1)).long()
            places, valid = _window((start * (shape - largest + 1)).long(), first, size, shape.tolist(), largest.tolist())
            order = _shuffled(key, valid)
            index = places.unsqueeze(1).expand(-1, flat.shape[1], -1)
            flat.scatter_(2, index, flat.gather(2, places.gather(1, order).unsqueeze(1).expand_as(index)))
        return flat.view_as(images)


def in_boxes(start: Tensor, extent: Tensor, there: Bool[Tensor, "b boxes"], size: Sequence[int]) -> Bool[Tensor, "b *S"]:
    """Which voxels lie in any box; a box holds a voxel along every axis at least.

    Args:
        start: Where boxes begin `[b, boxes, rank]`, in shares of the axes.
        extent: How far they go `[b, boxes, rank]`, in shares of the axes.
        there: Which boxes there are.
        size: Voxels along each axis.
    """
    rank, inside = len(size), there.view(*there.shape, *(1,) * len(size))
    for axis, n in enumerate(size):
        first = (start[..., axis] * n).floor().clamp(max=n - 1).unsqueeze(-1)
        last = first + (extent[..., axis].unsqueeze(-1) * n).round().clamp(min=1)
        along = torch.arange(n, device=start.device)
        covered = (along >= first) & (along < last)
        inside = inside & covered.view(*there.shape, *(n if k == axis else 1 for k in range(rank)))
    return inside.any(dim=1)


def _window(start: Tensor, first: Tensor, size: Tensor, shape: list[int], largest: list[int]) -> tuple[Tensor, Bool[Tensor, "b V"]]:
    """Flat places of the voxels of one box a row `[b, V]`, and which of them lie in the window that begins at `first` in it."""
    n = len(start)
    places, valid = torch.zeros(n, 1, dtype=torch.long, device=size.device), torch.ones(n, 1, dtype=torch.bool, device=size.device)
    for axis, (length, extent) in enumerate(zip(shape, largest, strict=True)):
        along = torch.arange(extent, device=size.device)
        within = (along >= first[:, axis, None]) & (along < (first + size)[:, axis, None])
        places = (places.unsqueeze(2) * length + (start[:, axis, None] + along).unsqueeze(1)).flatten(start_dim=1)
        valid = (valid.unsqueeze(2) & within.unsqueeze(1)).flatten(start_dim=1)
    return places, valid


def _shuffled(keys: Tensor, valid: Bool[Tensor, "b V"]) -> Tensor:
    """For each entry the one it is taken from: an order of the valid ones, all others their own."""
    order = keys.masked_fill(~valid, 2.0).argsort(dim=1, stable=True)  # valid entries first, shuffled
    rank = valid.cumsum(dim=1) - 1
    own = torch.arange(valid.shape[1], device=valid.device).expand_as(rank)
    return torch.where(valid, order.gather(1, rank.clamp(min=0)), own)
