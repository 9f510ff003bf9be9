"""Boxes of an image painted over until a share of it is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views.counter import draw_seeds, normal
from graphssl.views.erase import in_boxes
from graphssl.views.image import AbstractImageView, check_range, rowwise

_AT_ONCE = 32  # boxes that are drawn together


@dataclass(frozen=True)
class DropBoxes(AbstractImageView):
    """Fill boxes until their volumes add up to a share of the image that is itself drawn, from nothing to the largest.

    The corruption of Swin UNETR's pre-training (Tang et al., CVPR 2022). What boxes overlap counts twice, so at most the largest share and one box
    more is filled. `Cutout` draws the number of boxes instead.

    Args:
        largest_share: Largest share of an image, in (0, 1).
        extent: Lowest and highest extent of a box, as a share of each axis; at the far border it is cut off.
        fill: `"noise"` that is normal, moved and scaled to the range of the image; or `"swap"`, what another row has there, drawn from all rows.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If a share is out of range, or the fill is unknown.
    """

    largest_share: float = 0.3
    extent: Sequence[float] = (0.05, 0.25)
    fill: Literal["noise", "swap"] = "noise"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("extent", self.extent, 1e-3, 1.0)
        if not 0.0 < self.largest_share < 1.0:
            raise ConfigError(f"Expected the largest share of an image in (0, 1), found {self.largest_share}.")
        if self.fill not in ("noise", "swap"):
            raise ConfigError(f"Expected one of noise, swap to fill boxes with, found {self.fill!r}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Extents and beginnings of boxes `[b, boxes, rank]` in shares of the axes, which there are `[b, boxes]`, and seeds and other rows `[b]`."""
        low, high = self.extent
        wanted = self.largest_share * torch.rand(n, 1, generator=generator)
        filled, parts = torch.zeros(n, 1), list[tuple[Tensor, Tensor, Tensor]]()
        while not parts or bool((filled < wanted).any()):
            start = (1.0 - low) * torch.rand(n, _AT_ONCE, rank, generator=generator)
            extent = (low + (high - low) * torch.rand(n, _AT_ONCE, rank, generator=generator)).minimum(1.0 - start)
            volume = extent.prod(dim=2)
            there = filled + volume.cumsum(dim=1) - volume < wanted
            parts.append((extent, start, there))
            filled = filled + (volume * there).sum(dim=1, keepdim=True)
        boxes = tuple(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))
        return *boxes, draw_seeds(n, generator), torch.randint(max(1, n), (n,), generator=generator)

    def change(self, batch: ImageBatch, what: tuple[Tensor, ...]) -> ImageBatch:
        """The batch with boxes filled."""
        extent, start, there, seeds, other = what
        inside = in_boxes(start, extent, there, batch.shape[-batch.rank :])
        if batch.clip:
            inside = inside.unsqueeze(1).expand(len(batch), *batch.shape[2:])
        fill = batch.images[other] if self.fill == "swap" else _noise(batch.images, seeds)
        return batch.changed(images=torch.where(inside.unsqueeze(1), fill, batch.images))


def _noise(images: Float[Tensor, "b C *S"], seeds: Tensor) -> Float[Tensor, "b C *S"]:
    """Normal noise from the lowest to the highest value of each image."""
    noise = normal(seeds, images.shape[1:].numel()).view_as(images)
    (low, high), (least, most) = (tensor.flatten(start_dim=1).aminmax(dim=1) for tensor in (images, noise))
    return rowwise(low, images) + (noise - rowwise(least, images)) * rowwise((high - low) / (most - least).clamp(min=1e-6), images)
