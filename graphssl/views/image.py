"""What every view of images is: some rows are chosen, and changed on whole tensors, in space or in intensity."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views.base import AbstractView

How = Literal["linear", "nearest"]


class Drawn(NamedTuple):
    """A draw of a view of images.

    Attributes:
        rows: Which rows are changed `[b]`.
        what: What is done to each of them, tensors with a row each; in shares of the axes, never in voxels, so that it holds at any size.
    """

    rows: Int[Tensor, "b"]
    what: tuple[Tensor, ...]


@dataclass(frozen=True)
class AbstractImageView(AbstractView):
    """One random look at images, volumes or clips. All frames of a clip are seen in the same way.

    Args:
        p: Share of the rows that are changed, in (0, 1].

    Raises:
        ConfigError: If the share is out of range.
    """

    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        if not 0.0 < self.p <= 1.0:
            raise ConfigError(f"Expected a share p of the images in (0, 1], found {self.p}.")

    @abstractmethod
    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What is done to each of `n` rows with `rank` axes of space; tensors on the CPU with a row each.

        Args:
            n: Number of rows.
            rank: 2 for images, 3 for volumes and clips.
            generator: Source of randomness, on the CPU.
        """

    @abstractmethod
    def change(self, batch: ImageBatch, what: tuple[Tensor, ...]) -> ImageBatch:
        """All rows of a batch changed; nothing here is random."""

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Drawn:
        """Choose rows and what to do to each.

        Raises:
            DataError: If the batch holds no images.
        """
        check_images(batch)
        rows = (torch.rand(len(batch), generator=generator) < self.p).nonzero().flatten()
        return Drawn(rows, self.draw_rows(len(rows), batch.rank, generator))

    def apply(self, batch: ImageBatch, draw: Drawn) -> ImageBatch:
        """The batch with the chosen rows changed."""
        if not len(draw.rows):
            return batch
        what = tuple(tensor.to(batch.device, non_blocking=True) for tensor in draw.what)
        if len(draw.rows) == len(batch):
            return self.change(batch, what)
        batch = batch.changed(images=batch.images, masks=batch.masks_later())  # decoded for all rows, not for the chosen ones and again for all
        return _put_back(batch, draw.rows.to(batch.device), self.change(batch[draw.rows], what))


@dataclass(frozen=True)
class AbstractIntensityView(AbstractImageView):
    """A look that changes values where they are; masks and what is visible stay."""

    @abstractmethod
    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """New values; the frames of a clip stand among the channels `K`, so that `S` is space alone."""

    def change(self, batch: ImageBatch, what: tuple[Tensor, ...]) -> ImageBatch:
        """All rows with new values; what is hidden stays at zero."""
        images = self.recolour(folded(batch), what).reshape(batch.images.shape)
        return batch.changed(images=images if batch.visible is None else images.masked_fill(~batch.visible.unsqueeze(1), 0.0))


@dataclass(frozen=True)
class AbstractSpatialView(AbstractImageView):
    """A look that moves voxels; masks and what is visible move with them."""

    @abstractmethod
    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *T"]:
        """Values at their new places, interpolated or taken from the nearest voxel; the frames of a clip stand among the channels `K`.

        Args:
            values: Images or masks of the rows `[b, K, *S]`.
            what: What `draw_rows` drew for them.
            how: `"linear"` for intensities, `"nearest"` for masks.
        """

    def change(self, batch: ImageBatch, what: tuple[Tensor, ...]) -> ImageBatch:
        """All rows moved, each tensor once."""
        moved = self.move(folded(batch), what, "linear")
        images = moved.reshape(*batch.images.shape[: -batch.rank], *moved.shape[2:])
        clip, rank = batch.clip, batch.rank

        def beside(tensor: Tensor) -> Tensor:
            moved = self.move((tensor if clip else tensor.unsqueeze(1)).float(), what, "nearest")
            return moved.reshape(*tensor.shape[:-rank], *moved.shape[2:]).to(tensor.dtype)

        visible = None if batch.visible is None else beside(batch.visible)
        return batch.changed(images=images, masks=batch.masks_later(beside), visible=visible)


def folded(batch: ImageBatch) -> Float[Tensor, "B K *S"]:
    """Images with the frames of clips among the channels."""
    return batch.images.flatten(start_dim=1, end_dim=2) if batch.clip else batch.images


def rowwise(values: Float[Tensor, "b"], like: Tensor) -> Tensor:
    """A number a row in the shape that multiplies the rows of a tensor."""
    return values.view(-1, *(1,) * (like.dim() - 1))


def between(low: float, high: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Even numbers in a range."""
    return low + (high - low) * torch.rand(tuple(shape), generator=generator)


def check_range(name: str, values: Sequence[float], low: float = -float("inf"), high: float = float("inf")) -> None:
    """Check a range of an argument.

    Raises:
        ConfigError: If it is no pair in order, or goes beyond what is possible.
    """
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        limits = f" within [{low:g}, {high:g}]" if low > -float("inf") or high < float("inf") else ""
        raise ConfigError(f"Expected {name} as a lowest and a highest value{limits}, found {tuple(values)}.")


def check_images(batch: Any) -> None:
    """Check that a view of images sees images.

    Raises:
        DataError: If it does not.
    """
    if not isinstance(batch, ImageBatch):
        raise DataError(f"Expected an ImageBatch for a view of images, found a {type(batch).__name__}. Use views of what the batch holds.")


def _put_back(batch: ImageBatch, rows: Tensor, changed: ImageBatch) -> ImageBatch:
    visible, of_rows = batch.visible, changed.masks_later()
    masks = None if of_rows is None else batch.masks_later(lambda masks: masks.index_copy(0, rows, of_rows.read()))
    if changed.visible is not None:
        before = torch.ones_like(batch.images[:, 0], dtype=torch.bool) if visible is None else visible
        visible = before.index_copy(0, rows, changed.visible)
    return batch.changed(images=batch.images.index_copy(0, rows, changed.images), masks=masks, visible=visible)
