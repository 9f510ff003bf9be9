"""A window of an image, of one size wherever it lies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views.base import AbstractView


@dataclass(frozen=True)
class RandomWindow(AbstractView):
    """Cuts a window out of each image at random, masks with it; a share of the windows holds a voxel that is not background, where there is one.

    Args:
        size: Voxels of the window by axis.
        foreground: Share of the rows whose window is drawn around a voxel of the mask that is not background.

    Raises:
        ConfigError: If a side is below 1 or the share is none.
    """

    size: Sequence[int]
    foreground: float = 0.5

    def __post_init__(self) -> None:
        if not self.size or min(self.size) < 1 or not 0 <= self.foreground <= 1:
            raise ConfigError(f"Expected sides of a window above 0 and a share in [0, 1], found {list(self.size)} and {self.foreground}.")
        object.__setattr__(self, "size", tuple(self.size))

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Int[Tensor, "B A"]:
        """Where the window of each row starts on each axis.

        Raises:
            DataError: If images have another number of axes or are smaller than the window.
        """
        space = batch.shape[2:]
        if len(space) != len(self.size) or any(n < side for n, side in zip(space, self.size, strict=True)):
            raise DataError(f"Expected images of {list(self.size)} voxels at least, found {list(space)}. Pad them, or take a smaller window.")
        room = torch.tensor([n - side for n, side in zip(space, self.size, strict=True)])
        start = (torch.rand(len(batch), len(space), generator=generator) * (room + 1)).long()
        around = torch.rand(len(batch), generator=generator) < self.foreground
        if batch.masks is None or not around.any():
            return start
        found = batch.masks.cpu() > 0
        chosen = (torch.rand(found.shape, generator=generator) * found).flatten(start_dim=1).argmax(dim=1)
        voxel = torch.stack(torch.unravel_index(chosen, space), dim=1)
        within = (torch.rand(start.shape, generator=generator) * torch.tensor(self.size)).long()
        centred = torch.minimum((voxel - within).clamp(min=0), room)
        return torch.where((around & found.flatten(start_dim=1).any(dim=1)).unsqueeze(1), centred, start)

    def apply(self, batch: ImageBatch, draw: Int[Tensor, "B A"]) -> ImageBatch:
        """The windows."""
        start, n = draw.to(batch.device), len(self.size)
        index = [torch.arange(len(batch), device=batch.device).view(-1, *[1] * n)]
        for axis, side in enumerate(self.size):
            places = start[:, axis, None] + torch.arange(side, device=batch.device)
            index.append(places.view(-1, *[side if k == axis else 1 for k in range(n)]))
        rows = tuple(index)
        masks = None if batch.masks is None else batch.masks[rows]
        visible = None if batch.visible is None else batch.visible[rows]
        return replace(batch, images=batch.images.movedim(1, -1)[rows].movedim(-1, 1), masks=masks, visible=visible)
