"""Random looks at clips, and at the slices of volumes: pairs of frames, mixed or not, and pairs of shorter clips."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views.looks import AbstractPair


@dataclass(frozen=True)
class FramePair(AbstractPair):
    """Two images made of one clip, near in time, each then looked at on its own: the positive-pair interpolator of Meta-USCL (Chen et al., TMI 2022).

    Of three frames in order, an outer one and the middle one are mixed, and the middle one and the other outer one; outer ones have most of the
    weight on average. Of more frames, two weighted means of all are made, with weights that are even over all there are. A clip of two frames gives
    these two, a clip of one gives it twice. Slices of volumes do for frames.

    Args:
        n_frames: Frames that are mixed: 3 as published, more for means of all, 2 for two frames as they are, 1 for the first frame twice.
        reach: The farthest that the last frame lies from the first; anywhere in the clip when left out.
        shape: The two numbers of the beta distribution that the share of the middle frame is drawn from; whole numbers.
        then: A look at each of the images, drawn anew for each; none when left out.

    Raises:
        ConfigError: If numbers are not positive.
    """

    n_frames: int = 3
    reach: int | None = None
    shape: Sequence[int] = (3, 5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.n_frames < 1 or (self.reach is not None and self.reach < 1) or min(self.shape) < 1:
            raise ConfigError(f"Expected frames, reach and shape above 0, found {self.n_frames}, {self.reach} and {self.shape}.")

    def draw_pair(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Which frames `[B, n]`, and their weights in each of the two images `[2, B, n]`.

        Raises:
            DataError: If the batch holds no clips or volumes.
        """
        _check_frames(batch)
        n = min(self.n_frames, batch.shape[2])
        return self._frames(len(batch), batch.shape[2], n, generator), self._weights(len(batch), n, generator)

    def pair(self, batch: ImageBatch, drawn: tuple[Tensor, ...]) -> tuple[ImageBatch, ImageBatch]:
        """Two batches of images."""
        chosen = take_frames(batch.images, drawn[0])
        weights = drawn[1].to(chosen).view(2, len(batch), 1, -1, 1, 1)
        one, other = (replace(batch, images=(chosen * weight).sum(dim=2), masks=None, visible=None, clip=False) for weight in weights)
        return one, other

    def _frames(self, n_rows: int, n_all: int, n: int, generator: torch.Generator) -> Int[Tensor, "B n"]:
        """Different frames in order, none farther from the first than the reach."""
        if self.n_frames == 1:
            return torch.zeros(n_rows, 1, dtype=torch.long)
        reach = min(n_all - 1, max(self.reach or n_all, n - 1))
        keys = torch.rand(n_rows, reach, generator=generator)
        later = keys.argsort(dim=1)[:, : n - 1].sort(dim=1).values + 1
        distances = torch.cat([torch.zeros(n_rows, 1, dtype=torch.long), later], dim=1)
        room = n_all - distances[:, -1:]
        return (torch.rand(n_rows, 1, generator=generator) * room).long() + distances

    def _weights(self, n_rows: int, n: int, generator: torch.Generator) -> Float[Tensor, "2 B n"]:
        if n <= 2:
            return torch.eye(n)[[0, -1]].unsqueeze(1).expand(-1, n_rows, -1)
        if n == 3:
            share, none = beta(self.shape[0], self.shape[1], (2, n_rows), generator), torch.zeros(n_rows)
            return torch.stack([torch.stack([1.0 - share[0], share[0], none], dim=1), torch.stack([none, share[1], 1.0 - share[1]], dim=1)])
        cuts = torch.rand(2, n_rows, n - 1, generator=generator).sort(dim=2).values
        ends = torch.zeros(2, n_rows, 1), torch.ones(2, n_rows, 1)
        return torch.cat([ends[0], cuts, ends[1]], dim=2).diff(dim=2)


@dataclass(frozen=True)
class ClipPair(AbstractPair):
    """Two shorter clips of a clip, or slabs of a volume, each then looked at on its own: the sampler of BYOLMed3D (Manna et al., 2022).

    The first clip has frames from anywhere, in order. The second begins where the first does and has all frames from there on, or has frames from
    anywhere no earlier than a tenth of the clip before the first.

    Args:
        n_frames: Frames of each; a clip with fewer repeats some.
        together: Probability that the second has all frames from where the first begins.
        then: A look at each of the clips, drawn anew for each; none when left out.

    Raises:
        ConfigError: If there is no frame, or the probability is out of range.
    """

    n_frames: int = 16
    together: float = 0.5

    def __post_init__(self) -> None:
        if self.n_frames < 1 or not 0.0 <= self.together <= 1.0:
            raise ConfigError(f"Expected frames above 0 and a probability in [0, 1], found {self.n_frames} and {self.together}.")

    def draw_pair(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The frames of both `[B, n_frames]`.

        Raises:
            DataError: If the batch holds no clips or volumes.
        """
        _check_frames(batch)
        n, n_all = len(batch), batch.shape[2]
        first = self._anywhere(torch.zeros(n, 1, dtype=torch.long), n_all, generator)
        begin = first[:, :1]
        follow = (begin + torch.arange(self.n_frames)).clamp(max=n_all - 1)
        other = self._anywhere((begin - n_all // 10).clamp(min=0), n_all, generator)
        return first, torch.where(torch.rand(n, 1, generator=generator) < self.together, follow, other)

    def pair(self, batch: ImageBatch, drawn: tuple[Tensor, ...]) -> tuple[ImageBatch, ImageBatch]:
        """Two batches of clips."""
        return _at(batch, drawn[0]), _at(batch, drawn[1])

    def _anywhere(self, earliest: Int[Tensor, "B 1"], n_all: int, generator: torch.Generator) -> Int[Tensor, "B n"]:
        """Frames from the earliest on, in order: different ones as far as there are enough."""
        n_rows, places = len(earliest), torch.arange(n_all)
        keys = torch.rand(n_rows, n_all, generator=generator).masked_fill(places < earliest, 2.0)
        room = n_all - earliest
        rank = torch.arange(self.n_frames) % room  # goes round where there are too few
        return keys.argsort(dim=1).gather(1, rank).sort(dim=1).values


def take_frames(images: Float[Tensor, "B C T H W"], frames: Int[Tensor, "B n"]) -> Float[Tensor, "B C n H W"]:
    """Some frames of each clip."""
    index = frames.to(images.device).view(len(images), 1, -1, 1, 1)
    return images.gather(2, index.expand(-1, images.shape[1], -1, *images.shape[3:]))


def beta(a: int, b: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers of a beta distribution with whole parameters, from sums of logarithms of even numbers."""
    logs = -torch.rand(a + b, *shape, generator=generator).clamp(min=1e-12).log()
    return logs[:a].sum(dim=0) / logs.sum(dim=0)


def _at(batch: ImageBatch, frames: Tensor) -> ImageBatch:
    def taken(tensor: Tensor) -> Tensor:
        return take_frames(tensor.unsqueeze(1), frames).squeeze(1)

    visible = None if batch.visible is None else taken(batch.visible)
    return batch.changed(images=take_frames(batch.images, frames), masks=batch.masks_later(taken), visible=visible)


def _check_frames(batch: ImageBatch) -> None:
    if len(batch.shape) != 5:
        raise DataError(f"Expected clips or volumes to take frames of, found images of {len(batch.shape) - 2} axes. Use views of images.")
