"""From a decoded image to one that stands in a batch: channels, voxels of one size, one extent, one scale of intensity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.image_files import Picture
from graphssl.errors import ConfigError, DataError

Framing = Literal["resize", "crop"]
Scale = Literal["training", "image", "unit", "none"]

# Share of red, green and blue in what is seen as brightness (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preparation:
    """What is done to every image of a batch; all is known before, nothing is random.

    Args:
        size: Voxels of a prepared image: `(H, W)`, `(D, H, W)`, or `(T, H, W)` of clips.
        channels: Channels of a prepared image.
        clip: Whether the first axis is time; as many frames are then taken, at even distances.
        framing: `"resize"` interpolates to the size, `"crop"` cuts and pads around the centre; padding has the lowest value of the image.
        spacing: Size of a voxel in mm along each axis of space, to which images of known spacing are resampled first; None leaves them.
        window: Lowest and highest value; values beyond are cut off.
        scale: `"training"` takes `mean` away and divides by `std`, `"image"` does so with those of each image, `"unit"` maps the window to [0, 1],
            `"none"` leaves values.
        mean: Mean of each channel, for `"training"`.
        std: Standard deviation of each channel, for `"training"`.

    Raises:
        ConfigError: If a word is unknown, or the unit has no window.
    """

    size: tuple[int, ...]
    channels: int = 1
    clip: bool = False
    framing: Framing = "resize"
    spacing: tuple[float, ...] | None = None
    window: tuple[float, float] | None = None
    scale: Scale = "none"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for word, known in ((self.framing, Framing), (self.scale, Scale)):
            if word not in get_args(known):
                raise ConfigError(f"Expected one of {', '.join(get_args(known))}, found {word!r}.")
        if self.scale == "unit" and self.window is None:
            raise ConfigError("Expected a window of intensities to map to [0, 1], found none. Give window=(lowest, highest).")

    @property
    def n_space(self) -> int:
        """Axes of space."""
        return len(self.size) - self.clip

    def pixels(self, picture: Picture) -> Float[Tensor, "C *S"]:
        """An image as it stands in a batch."""
        values = with_channels(torch.from_numpy(np.array(picture.pixels, dtype=np.float32)), self.channels)
        values = self._framed(self._resampled(self._frames(values), picture.spacing, "linear"), "linear")
        return self._scaled(values if self.window is None else values.clamp(*self.window))

    def mask(self, picture: Picture, values: Sequence[int]) -> Int[Tensor, "*S"]:
        """A segmentation mask as it stands in a batch; voxels beyond the image are background.

        Args:
            picture: The decoded mask, of the shape and spacing of its image.
            values: Value of each class.

        Raises:
            DataError: If the mask has a value that is none of them.
        """
        classes = torch.from_numpy(classes_of(picture.pixels, values)).float().unsqueeze(0)
        return self._framed(self._resampled(self._frames(classes), picture.spacing, "nearest"), "nearest")[0].long()

    def _frames(self, values: Tensor) -> Tensor:
        if not self.clip:
            return values
        return values[:, torch.linspace(0, values.shape[1] - 1, self.size[0]).round().long()]

    def _resampled(self, values: Tensor, spacing: tuple[float, ...], how: str) -> Tensor:
        if self.spacing is None or not spacing:
            return values
        size = resampled_size(values.shape[-self.n_space :], spacing[-self.n_space :], self.spacing)
        return resize(values, size, how)

    def _framed(self, values: Tensor, how: str) -> Tensor:
        size = self.size[-self.n_space :]
        if tuple(values.shape[-self.n_space :]) == size:
            return values
        return resize(values, size, how) if self.framing == "resize" else centred(values, size, 0.0 if how == "nearest" else float(values.min()))

    def _scaled(self, values: Tensor) -> Tensor:
        along = (-1, *(1,) * len(self.size))
        if self.scale == "unit":
            assert self.window is not None
            low, high = self.window
            return (values - low) / max(high - low, torch.finfo(torch.float32).tiny)
        if self.scale == "training":
            return (values - torch.tensor(self.mean).view(along)) / torch.tensor(self.std).view(along)
        if self.scale == "image":
            flat = values.flatten(start_dim=1)
            spread = flat.std(dim=1, correction=0)
            return (values - flat.mean(dim=1).view(along)) / torch.where(spread > 0, spread, 1.0).view(along)
        return values


def resampled_size(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Voxels along each axis once they have the target's size."""
    return tuple(max(1, round(n * mm / wanted)) for n, mm, wanted in zip(shape, spacing, target, strict=True))


def resize(values: Float[Tensor, "C *S"], size: Sequence[int], how: str = "linear") -> Float[Tensor, "C *T"]:
    """Interpolate the last axes to a size; images are smoothed first where they shrink, masks (`"nearest"`) keep their values."""
    if how == "nearest":
        return (
            F.interpolate(values.unsqueeze(0), tuple(size), mode="nearest-exact")[0]
            if len(size) == values.dim() - 1
            else _by_frame(values, size, how)
        )
    if len(size) == 3:
        return F.interpolate(values.unsqueeze(0), tuple(size), mode="trilinear", align_corners=False)[0]
    return _by_frame(values, size, how)


def centred(values: Float[Tensor, "C *S"], size: Sequence[int], fill: float) -> Float[Tensor, "C *T"]:
    """Cut and pad the last axes around their centre to a size."""
    pads: list[int] = []
    for n, wanted in zip(reversed(values.shape[-len(size) :]), reversed(tuple(size)), strict=True):
        before = (wanted - n) // 2  # negative cuts
        pads += [before, wanted - n - before]
    return F.pad(values, pads, value=fill)


def with_channels(values: Float[Tensor, "C *S"], channels: int) -> Float[Tensor, "K *S"]:
    """Gray repeated to more channels, or red, green and blue weighed to gray.

    Raises:
        DataError: If there are other numbers of channels.
    """
    found = values.shape[0]
    if found == channels:
        return values
    if found == 1:
        return values.expand(channels, *values.shape[1:])
    if found == 3 and channels == 1:
        return (values * torch.tensor(_LUMA).view(3, *(1,) * (values.dim() - 1))).sum(dim=0, keepdim=True)
    raise DataError(f"Expected images of {channels} channels, or of 1 to repeat, or of 3 to make gray, found one of {found}. Leave it out.")


def classes_of(pixels: npt.NDArray[np.generic], values: Sequence[int]) -> npt.NDArray[np.int64]:
    """Number of the class of each voxel of a mask.

    Raises:
        DataError: If the channels of a mask differ, or it has a value that is none of the classes.
    """
    first = np.asarray(pixels[0])
    if len(pixels) > 1 and not (pixels == first).all():
        raise DataError(f"Expected masks of one channel, found {len(pixels)} that differ. Write the number of the class into one.")
    known = np.asarray(sorted(values))
    place = np.searchsorted(known, first).clip(max=len(known) - 1)
    strange = np.unique(first[known[place] != first])
    if strange.size:
        raise DataError(
            f"Expected the values {list(values)} of the classes in a mask, found {strange[:5].tolist()} besides. "
            "Mend the mask, or name all values that stand for a class."
        )
    order = np.argsort(np.asarray(values))
    return np.asarray(order[place], dtype=np.int64)


def _by_frame(values: Tensor, size: Sequence[int], how: str) -> Tensor:
    """Images, or all frames of clips, interpolated along their last two axes."""
    flat = values.reshape(1, -1, *values.shape[-2:])
    kind = {"mode": "nearest-exact"} if how == "nearest" else {"mode": "bilinear", "antialias": True, "align_corners": False}
    return F.interpolate(flat, tuple(size), **kind).reshape(*values.shape[:-2], *size)
