"""Patches that hold what the masks are about."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views.base import AbstractView
from graphssl.views.spatial import cut, room_for, sizes


@dataclass(frozen=True)
class ForegroundCrop(AbstractView):
    """Cut a patch of one size out of each image, masks with it: for a share of the rows around a voxel that is not background, else out of anywhere.

    Args:
        size: Voxels of the patch along each axis, the time of a clip among them, or one number for all.
        share: Share of the rows whose patch is drawn around a voxel of the mask that is not background, as far as there is one.

    Raises:
        ConfigError: If the share is none.
    """

    size: int | Sequence[int] = 96
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"Expected a share of rows in [0, 1], found {self.share}.")

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Int[Tensor, "B A"]:
        """Where the patch of each row begins on each axis.

        Raises:
            DataError: If images are smaller than the patch.
        """
        space = batch.shape[2:]
        size = sizes(self.size, len(space))
        room = room_for(torch.empty(0, 1, *space), size)
        anywhere = (torch.rand(len(batch), len(space), generator=generator) * (room + 1)).long()
        around = torch.rand(len(batch), generator=generator) < self.share
        masks = batch.masks if around.any() else None
        if masks is None:
            return anywhere
        there = masks.cpu() > 0
        chosen = (torch.rand(there.shape, generator=generator) * there).flatten(start_dim=1).argmax(dim=1)
        voxel = torch.stack(torch.unravel_index(chosen, space), dim=1)
        within = (torch.rand(anywhere.shape, generator=generator) * torch.tensor(size)).long()
        holding = torch.minimum((voxel - within).clamp(min=0), room)
        return torch.where((around & there.flatten(start_dim=1).any(dim=1)).unsqueeze(1), holding, anywhere)

    def apply(self, batch: ImageBatch, draw: Int[Tensor, "B A"]) -> ImageBatch:
        """The patches."""
        start, size = draw.to(batch.device), sizes(self.size, draw.shape[1])

        def beside(tensor: Tensor) -> Tensor:
            return cut(tensor.unsqueeze(1), start, size).squeeze(1)

        visible = None if batch.visible is None else beside(batch.visible)
        return batch.changed(images=cut(batch.images, start, size), masks=batch.masks_later(beside), visible=visible)
