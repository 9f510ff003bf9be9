"""Several looks at once: crops of several sizes, and pairs of patches that overlap."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views.base import AbstractView
from graphssl.views.image import AbstractSpatialView, Drawn, How, check_images
from graphssl.views.spatial import cut, room_for, sizes


class AbstractLooks(AbstractView):
    """Several random looks at each row that belong together: applying gives a tuple of batches, one a look, rows in the same order."""

    @property
    @abstractmethod
    def n_looks(self) -> int:
        """How many batches there are."""

    @abstractmethod
    def apply(self, batch: ImageBatch, draw: Any) -> tuple[ImageBatch, ...]:
        """The looks that were drawn. Nothing here is random."""


@dataclass(frozen=True)
class MultiCrop(AbstractLooks):
    """A few looks at much of an image and more at little of it, in fewer voxels (SwAV; Caron et al., NeurIPS 2020). Large ones come first.

    Args:
        large: The look at much of it, such as a `Compose` that begins with `ResizedCrop(64, scale=(0.4, 1.0))`.
        small: The look at little of it, such as one that begins with `ResizedCrop(32, scale=(0.1, 0.4))`.
        n_large: Large looks.
        n_small: Small looks.

    Raises:
        ConfigError: If there is no large look, or a negative number of small ones.
    """

    large: AbstractView
    small: AbstractView
    n_large: int = 2
    n_small: int = 4

    def __post_init__(self) -> None:
        if self.n_large < 1 or self.n_small < 0:
            raise ConfigError(f"Expected at least one large look and no negative number of small ones, found {self.n_large} and {self.n_small}.")

    @property
    def n_looks(self) -> int:
        """Large and small looks."""
        return self.n_large + self.n_small

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Any, ...]:
        """A draw of each look."""
        return tuple(view.draw(batch, generator) for view in self._views())

    def apply(self, batch: ImageBatch, draw: tuple[Any, ...]) -> tuple[ImageBatch, ...]:
        """All looks, the large ones first."""
        return tuple(view.apply(batch, drawn) for view, drawn in zip(self._views(), draw, strict=True))

    def for_cohort(self, cohort: Cohort) -> "MultiCrop":
        """The looks with what they must learn of training subjects."""
        return replace(self, large=self.large.for_cohort(cohort), small=self.small.for_cohort(cohort))

    def _views(self) -> list[AbstractView]:
        return [self.large] * self.n_large + [self.small] * self.n_small


@dataclass(frozen=True)
class AbstractPair(AbstractLooks):
    """Two looks that are made of each row together, each then looked at on its own.

    Args:
        then: A look at each of the two, drawn anew for each; none when left out.
    """

    then: AbstractView | None = field(default=None, kw_only=True)

    @property
    def n_looks(self) -> int:
        """Two."""
        return 2

    @abstractmethod
    def draw_pair(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What the two are made of."""

    @abstractmethod
    def pair(self, batch: ImageBatch, drawn: tuple[Tensor, ...]) -> tuple[ImageBatch, ImageBatch]:
        """The two as they are made."""

    def for_cohort(self, cohort: Cohort) -> "AbstractPair":
        """The looks with what they must learn of training subjects."""
        return self if self.then is None else replace(self, then=self.then.for_cohort(cohort))

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Any, ...]:
        """What the two are made of, and the look at each.

        Raises:
            DataError: If the batch holds no images, or none of which these can be made.
        """
        check_images(batch)
        drawn = self.draw_pair(batch, generator)
        if self.then is None:
            return (drawn,)
        looked = self.pair(_blank(batch), drawn)
        return drawn, self.then.draw(looked[0], generator), self.then.draw(looked[1], generator)

    def apply(self, batch: ImageBatch, draw: tuple[Any, ...]) -> tuple[ImageBatch, ...]:
        """The two looks."""
        both = self.pair(batch, draw[0])
        return both if self.then is None else tuple(self.then.apply(one, look) for one, look in zip(both, draw[1:], strict=True))


@dataclass(frozen=True)
class OverlappingCrops(AbstractPair):
    """Two patches of one size that overlap (as in the study of Zhang, Zheng and Gu, 2022).

    Args:
        size: Voxels of a patch along each axis of space, or one number for all.
        overlap: Lowest intersection over union of the two patches, in (0, 1).
        then: A look at each of the two, drawn anew for each; none when left out.

    Raises:
        ConfigError: If the overlap is out of range.
    """

    size: int | Sequence[int] = 96
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.overlap < 1.0:
            raise ConfigError(f"Expected an overlap in (0, 1), found {self.overlap}.")

    def draw_pair(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Where the first patch begins and how far the second moves `[B, rank]`, in shares of the room and of a patch."""
        n, rank = len(batch), batch.rank
        shared = 2.0 * self.overlap / (1.0 + self.overlap)  # share of a patch that lies in both
        parts = -torch.rand(n, rank, generator=generator).clamp(min=1e-6).log()
        lost = math.log(shared) * torch.rand(n, 1, generator=generator) * parts / parts.sum(dim=1, keepdim=True)
        sign = torch.where(torch.rand(n, rank, generator=generator) < 0.5, -1.0, 1.0)
        return torch.rand(n, rank, generator=generator), sign * (1.0 - lost.exp())

    def pair(self, batch: ImageBatch, drawn: tuple[Tensor, ...]) -> tuple[ImageBatch, ImageBatch]:
        """Both patches.

        Raises:
            DataError: If images are smaller than a patch.
        """
        start, moved = drawn
        every, patch = torch.arange(len(batch)), _Patch(self.size)
        return patch.apply(batch, Drawn(every, (start, torch.zeros_like(moved)))), patch.apply(batch, Drawn(every, (start, moved)))


@dataclass(frozen=True)
class _Patch(AbstractSpatialView):
    """A patch that begins at a place and is moved from there; what would leave the image goes the other way, as far as there is room."""

    size: int | Sequence[int] = 96

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return torch.rand(n, rank, generator=generator), torch.zeros(n, rank)

    def move(self, values: Tensor, what: tuple[Tensor, ...], how: How) -> Tensor:
        size = sizes(self.size, values.dim() - 2)
        room = room_for(values, size)
        first = torch.minimum((what[0] * (room + 1)).long(), room)
        moved = (what[1] * torch.tensor(size, device=values.device)).trunc().long()
        there = first + moved
        start = torch.where((there >= 0) & (there <= room), there, first - moved)
        return cut(values, torch.minimum(start.clamp(min=0), room), size)


def _blank(batch: ImageBatch) -> ImageBatch:
    """A batch of the same shape of which nothing is decoded: draws ask for numbers of rows and axes only."""
    return ImageBatch(batch.subject_ids, torch.zeros(()).expand(batch.shape), clip=batch.clip)
