"""Random looks that change intensities: brightness and contrast, gamma, blur, noise, speckle, curves, and the energy of bands of frequencies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.errors import ConfigError
from graphssl.views.counter import draw_seeds, normal
from graphssl.views.image import AbstractIntensityView, between, check_range, rowwise


@dataclass(frozen=True)
class IntensityJitter(AbstractIntensityView):
    """Another brightness and another contrast around the mean; both in units of each image, so that they fit any scale of intensities.

    Args:
        brightness: Largest move of all values, in units of the image's spread.
        contrast: Lowest and highest factor of the distance from the mean.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the range is out of order.
    """

    brightness: float = 0.2
    contrast: Sequence[float] = (0.75, 1.25)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("contrast", self.contrast, 0.0)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Moves `[b]` and factors `[b]`."""
        return between(-self.brightness, self.brightness, (n,), generator), between(self.contrast[0], self.contrast[1], (n,), generator)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The new values."""
        spread, mean = torch.std_mean(images.flatten(start_dim=1), dim=1, correction=0)
        move, factor = what
        return images * rowwise(factor, images) + rowwise(mean * (1.0 - factor) + move * spread, images)


@dataclass(frozen=True)
class Gamma(AbstractIntensityView):
    """Raise values to a power, between the lowest and the highest of each image.

    Args:
        gamma: Lowest and highest power; drawn evenly in the logarithm.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the range is out of order.
    """

    gamma: Sequence[float] = (0.7, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("gamma", self.gamma, 1e-3)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor]:
        """Powers `[b]`."""
        low, high = torch.tensor(self.gamma).log().tolist()
        return (between(low, high, (n,), generator).exp(),)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The new values."""
        unit, low, room = to_unit(images)
        return unit.pow_(rowwise(what[0], images)).mul_(room).add_(low)


@dataclass(frozen=True)
class Blur(AbstractIntensityView):
    """A Gaussian blur in space.

    Args:
        sigma: Lowest and highest standard deviation, in voxels.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the range is out of order.
    """

    sigma: Sequence[float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("sigma", self.sigma, 1e-3)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor]:
        """Standard deviations `[b]`."""
        return (between(self.sigma[0], self.sigma[1], (n,), generator),)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The blurred values."""
        return blurred(images, what[0], reach=math.ceil(3.0 * self.sigma[1]))


@dataclass(frozen=True)
class AbstractNoise(AbstractIntensityView):
    """Normal noise, as strong in each image as drawn.

    Args:
        std: Lowest and highest standard deviation.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the range is out of order.
    """

    std: Sequence[float] = (0.0, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("std", self.std, 0.0)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Standard deviations `[b]` and seeds `[b]`."""
        return between(self.std[0], self.std[1], (n,), generator), draw_seeds(n, generator)


@dataclass(frozen=True)
class ImageNoise(AbstractNoise):
    """Add normal noise to every voxel.

    Args:
        std: Lowest and highest standard deviation, in units of the image's spread.
        p: Share of the rows that are changed.
    """

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The noisy values."""
        flat = images.flatten(start_dim=1)
        spread = flat.std(dim=1, correction=0)
        return normal(what[1], flat.shape[1]).to(flat).mul_((what[0] * spread).unsqueeze(1)).add_(flat).view_as(images)


@dataclass(frozen=True)
class Speckle(AbstractNoise):
    """Noise in proportion to the signal, `x (1 + n)`, as that of ultrasound and optical coherence tomography; above the lowest value of each image.

    Args:
        std: Lowest and highest standard deviation of `n`.
        p: Share of the rows that are changed.
    """

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The noisy values."""
        flat = images.flatten(start_dim=1)
        low = flat.amin(dim=1, keepdim=True)
        factor = normal(what[1], flat.shape[1]).to(flat).mul_(what[0].unsqueeze(1)).add_(1.0)
        return factor.mul_(flat - low).add_(low).view_as(images)


@dataclass(frozen=True)
class HistogramShift(AbstractIntensityView):
    """Values through a rising curve of straight pieces between the lowest and the highest of each image, as MONAI's `RandHistogramShift` does.

    Args:
        n_points: Points of the curve, its ends among them.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If there are fewer than three points.
    """

    n_points: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_points < 3:
            raise ConfigError(f"Expected at least 3 points of a curve, found {self.n_points}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor]:
        """Values at the points `[b, n_points]`, in [0, 1]: each inner one anywhere between its neighbours' old values."""
        points = torch.linspace(0.0, 1.0, self.n_points).expand(n, -1).clone()
        for k in range(1, self.n_points - 1):
            low, high = points[:, k - 1], points[:, k + 1]
            points[:, k] = low + (high - low) * torch.rand(n, generator=generator)
        return (points,)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The values on the curve."""
        unit, low, room = to_unit(images)
        points = torch.linspace(0.0, 1.0, self.n_points, device=images.device).expand_as(what[0])
        return on_curve(unit, points, what[0]).mul_(room).add_(low)


@dataclass(frozen=True)
class BezierCurve(AbstractIntensityView):
    """Values through a Bézier curve from one end of the range to the other, as Models Genesis did (Zhou et al., MICCAI 2019).

    Args:
        falling: Share of the curves that fall: dark becomes bright.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the share is out of range.
    """

    falling: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.falling <= 1.0:
            raise ConfigError(f"Expected a share of falling curves in [0, 1], found {self.falling}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, Bool[Tensor, "b"]]:
        """The two inner points `[b, 2, 2]`, and which curves fall."""
        return torch.rand(n, 2, 2, generator=generator), torch.rand(n, generator=generator) < self.falling

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The values on the curve."""
        unit, low, room = to_unit(images)
        x, y = bezier(what[0]).unbind(dim=-1)
        y = torch.where(what[1].unsqueeze(1), y.flip(1), y)
        return on_curve(unit, x, y).mul_(room).add_(low)


@dataclass(frozen=True)
class BandEnergy(AbstractIntensityView):
    """Give each band of frequencies another energy, which imitates what the processing of different vendors does to a radiograph.

    An image is the sum of what ever wider blurs take away and of the last blur; each band but the last is multiplied by a number of its own, in
    proportion of the energy it has. After Ghesu et al. (2022), as far as it is known from secondary sources; the numbers are ours.

    Args:
        n_bands: Bands, the last blur not counted; each is twice as wide as the one before.
        factor: Lowest and highest factor of a band.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If there is no band, or the range is out of order.
    """

    n_bands: int = 4
    factor: Sequence[float] = (0.6, 1.4)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("factor", self.factor, 0.0)
        if self.n_bands < 1:
            raise ConfigError(f"Expected at least one band of frequencies, found {self.n_bands}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor]:
        """Factors `[b, n_bands]`."""
        return (between(self.factor[0], self.factor[1], (n, self.n_bands), generator),)

    def recolour(self, images: Float[Tensor, "b K *S"], what: tuple[Tensor, ...]) -> Float[Tensor, "b K *S"]:
        """The sum of the bands."""
        parts = bands(images, self.n_bands)
        return sum((part * rowwise(factor, part) for part, factor in zip(parts, what[0].T, strict=False)), parts[-1])


def to_unit(images: Float[Tensor, "b K *S"]) -> tuple[Tensor, Tensor, Tensor]:
    """Images in [0, 1], with the lowest value and the range of each that lead back."""
    low, high = torch.aminmax(images.flatten(start_dim=1), dim=1)
    room = torch.where(high > low, high - low, 1.0)
    low, room = rowwise(low, images), rowwise(room, images)
    return (images - low).div_(room).clamp_(0.0, 1.0), low, room


def on_curve(values: Float[Tensor, "b K *S"], x: Float[Tensor, "b points"], y: Float[Tensor, "b points"]) -> Float[Tensor, "b K *S"]:
    """Values through the straight pieces between points, a curve a row; `x` rises."""
    flat = values.flatten(start_dim=1)
    right = torch.searchsorted(x.contiguous(), flat, right=True).clamp(1, x.shape[1] - 1)
    (x0, x1), (y0, y1) = ((ends.gather(1, right - 1), ends.gather(1, right)) for ends in (x, y))
    share = ((flat - x0) / torch.where(x1 > x0, x1 - x0, 1.0)).clamp(0.0, 1.0)
    return (y0 + (y1 - y0) * share).view_as(values)


def bezier(inner: Float[Tensor, "b 2 2"], n: int = 200) -> Float[Tensor, "b n 2"]:
    """Points of cubic Bézier curves from (0, 0) to (1, 1), both coordinates rising."""
    t = torch.linspace(0.0, 1.0, n, device=inner.device).view(1, -1, 1)
    first, second = inner[:, :1], inner[:, 1:]
    curve = 3.0 * (1.0 - t) ** 2 * t * first + 3.0 * (1.0 - t) * t**2 * second + t**3
    return curve.sort(dim=1).values


def blurred(images: Float[Tensor, "b K *S"], sigma: Float[Tensor, "b"], reach: int) -> Float[Tensor, "b K *S"]:
    """A Gaussian blur of a width a row, axis by axis; the border is repeated beyond it.

    Args:
        images: Images.
        sigma: Standard deviations in voxels.
        reach: Voxels to each side that are summed over.
    """
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (offsets / sigma.unsqueeze(1)) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    for axis in range(2, images.dim()):
        n = images.shape[axis]
        places = torch.arange(-reach, n + reach, device=images.device).clamp(0, n - 1)
        wide = images.index_select(axis, places)
        images = wide.narrow(axis, 0, n) * rowwise(weights[:, 0], images)
        for k in range(1, 2 * reach + 1):
            images.addcmul_(wide.narrow(axis, k, n), rowwise(weights[:, k], images))
    return images


def bands(images: Float[Tensor, "b K *S"], n_bands: int) -> list[Float[Tensor, "b K *S"]]:
    """What each of ever wider blurs takes away, and the last blur; they sum up to the images."""
    levels = [images]
    for k in range(n_bands):
        sigma = 2.0**k
        levels.append(blurred(levels[0], torch.full((len(images),), sigma, device=images.device), reach=round(3.0 * sigma)))
    return [*(finer - coarser for finer, coarser in pairwise(levels)), levels[-1]]
