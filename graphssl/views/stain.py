"""Random looks at tissue sections: amounts of stain, the stain of other slides, and several fields of view."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.cohort import Cohort
from graphssl.data.image_preparation import Preparation
from graphssl.data.image_source import ImageSource
from graphssl.errors import ConfigError, DataError
from graphssl.views.colour import ColourSpace, from_space, to_space
from graphssl.views.image import AbstractIntensityView, AbstractSpatialView, How, between
from graphssl.views.spatial import check_all_rows, cut, room_for, sizes

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

# Tiles that templates are learned from: how many at most, and how large.
_N_TILES, _TILE_SIZE = 1000, 128


@dataclass(frozen=True)
class StainJitter(AbstractIntensityView):
    """Other amounts of haematoxylin, eosin and DAB: each is multiplied by `1 + a` and moved by `b` (Tellez et al., TMI 2018). For images in [0, 1].

    Args:
        strength: Largest `a` and `b`; 0.05 is light, 0.2 is strong.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the strength is negative.
    """

    strength: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength < 0.0:
            raise ConfigError(f"Expected a strength of 0 or more, found {self.strength}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Factors `[b, 3]` and moves `[b, 3]` of the stains."""
        factor, move = (between(-self.strength, self.strength, (n, 3), generator) for _ in range(2))
        return 1.0 + factor, move

    def recolour(self, images: Float[Tensor, "b 3 H W"], what: tuple[Tensor, ...]) -> Float[Tensor, "b 3 H W"]:
        """The images in other stains.

        Raises:
            DataError: If they are not in colour, or not in [0, 1].
        """
        check_unit_colour(images)
        factor, move = (tensor.view(-1, 3, 1, 1) for tensor in what)
        return from_space(to_space(images, "HED") * factor + move, "HED")


@dataclass(frozen=True, eq=False)
class StainTemplates:
    """How mean and spread of the channels are distributed over training images in one colour space: a mixture of normal distributions.

    Args:
        weights: Weight of each part `[K]`.
        means: Three means and three standard deviations, on average, of each part `[K, 6]`.
        factors: Lower Cholesky factor of their covariance in each part `[K, 6, 6]`.
    """

    weights: tuple[float, ...]
    means: Float[Tensor, "K 6"] = field(repr=False)
    factors: Float[Tensor, "K 6 6"] = field(repr=False)
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        held = torch.cat([self.means.flatten(), self.factors.flatten()]).numpy().tobytes()
        object.__setattr__(self, "digest", hashlib.sha256(held).hexdigest()[:12])  # so that the text of a view tells templates apart

    @classmethod
    def fit(cls, images: Float[Tensor, "n 3 H W"], space: ColourSpace, n_components: int = 0, seed: int = 0) -> "StainTemplates":
        """Learn from training images in [0, 1].

        Args:
            images: The images.
            space: The colour space.
            n_components: Parts of the mixture, as many as every second image at most; 0 for a normal distribution of each number on its own.
            seed: Seed of the mixture's beginning.
        """
        numbers = torch.cat(_moments(to_space(images, space)), dim=1).double().numpy()
        if n_components < 1 or len(numbers) < 4:
            spread = torch.from_numpy(numbers.std(axis=0)).float()
            return cls((1.0,), torch.from_numpy(numbers.mean(axis=0)).float().unsqueeze(0), torch.diag(spread).unsqueeze(0))
        centre, scale = numbers.mean(axis=0), np.maximum(numbers.std(axis=0), 1e-8)
        mixture = _mixture((numbers - centre) / scale, n_components, seed)
        factors = np.linalg.cholesky(mixture.covariances_) * scale[None, :, None]
        means = mixture.means_ * scale + centre
        return cls(tuple(mixture.weights_.tolist()), torch.from_numpy(means).float(), torch.from_numpy(factors).float())

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 6"]:
        """Means and standard deviations of images there could be."""
        part = torch.multinomial(torch.tensor(self.weights), n, replacement=True, generator=generator) if n else torch.zeros(0, dtype=torch.long)
        noise = torch.randn(n, 6, 1, generator=generator)
        return self.means[part] + (self.factors[part] @ noise).squeeze(-1)


@dataclass(frozen=True)
class StainNormalise(AbstractIntensityView):
    """Give each image mean and spread of a template drawn anew, in a colour space drawn anew: RandStainNA (Shen et al., MICCAI 2022).

    With `n_components` templates come from a mixture of normal distributions of all six numbers, so that what goes together in real slides goes
    together in templates (Kang et al., CVPR 2023). For images in [0, 1].

    Args:
        spaces: Colour spaces to draw from.
        n_components: Parts of the mixture; 0 draws each number on its own.
        templates: What was learned of training images, by colour space; `for_cohort` learns it.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If a colour space is unknown, or templates are not those of the colour spaces.
    """

    spaces: Sequence[ColourSpace] = ("LAB", "HSV", "HED")
    n_components: int = 0
    templates: Mapping[str, StainTemplates] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "spaces", tuple(self.spaces))
        if not self.spaces or not set(self.spaces) <= set(get_args(ColourSpace)):
            raise ConfigError(f"Expected colour spaces among {', '.join(get_args(ColourSpace))}, found {self.spaces}.")
        if self.templates is not None and set(self.templates) != set(self.spaces):
            raise ConfigError(f"Expected templates of the colour spaces {self.spaces}, found those of {sorted(self.templates)}.")

    def fit(self, images: Float[Tensor, "n 3 H W"], seed: int = 0) -> "StainNormalise":
        """The view with templates of training images in [0, 1].

        Raises:
            DataError: If they are not in colour, or not in [0, 1].
        """
        check_unit_colour(images)
        return replace(self, templates={space: StainTemplates.fit(images, space, self.n_components, seed) for space in self.spaces})

    def for_cohort(self, cohort: Cohort) -> "StainNormalise":
        """The view with templates of the cohort's images, a thousand at most; itself where it has some.

        Raises:
            DataError: If the cohort has no images in colour, or several kinds.
        """
        if self.templates is not None:
            return self
        kinds = [data for data in cohort.images.values() if not data.clip and data.rank == 2]
        if len(kinds) != 1 or not len(kinds[0]):
            raise DataError(f"Expected images of one kind in {cohort.name!r} to learn stains from, found {len(kinds)}. Fit the view on its own.")
        every = np.unique(np.linspace(0, len(kinds[0]) - 1, min(len(kinds[0]), _N_TILES)).round().astype(int)).tolist()
        plain = Preparation((_TILE_SIZE, _TILE_SIZE), 3, window=(0.0, 255.0), scale="unit")
        return self.fit(ImageSource(kinds[0], plain, memory=0).images(every))

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Which colour space `[b]`, and a template in each of them `[b, spaces, 6]`.

        Raises:
            ConfigError: If nothing was learned.
        """
        if self.templates is None:
            raise ConfigError("Expected templates of training images, found none. Call fit(images) or for_cohort(cohort) first.")
        which = torch.randint(0, len(self.spaces), (n,), generator=generator)
        return which, torch.stack([self.templates[space].sample(n, generator) for space in self.spaces], dim=1)

    def recolour(self, images: Float[Tensor, "b 3 H W"], what: tuple[Tensor, ...]) -> Float[Tensor, "b 3 H W"]:
        """The images with mean and spread of their templates (Reinhard et al., 2001).

        Raises:
            DataError: If they are not in colour, or not in [0, 1].
        """
        check_unit_colour(images)
        which, templates = what
        for k, space in enumerate(self.spaces):
            rows = (which == k).nonzero().flatten()
            if not len(rows):
                continue
            values = to_space(images[rows], space)
            mean, spread = _moments(values)
            wanted_mean, wanted_spread = templates[rows, k].chunk(2, dim=1)
            factor = wanted_spread.clamp(min=0.0) / torch.where(spread > 0, spread, 1.0)
            moved = (values - mean[..., None, None]) * factor[..., None, None] + wanted_mean[..., None, None]
            images = images.index_copy(0, rows, from_space(moved, space))
        return images


@dataclass(frozen=True)
class FieldsOfView(AbstractSpatialView):
    """Cut a patch from anywhere as it is, or a larger one made smaller: fields of view of several magnifications in one training.

    Args:
        size: Voxels of the result along each axis of space, or one number for all.
        factors: How much more each field of view takes in along an axis; 1 is the magnification of the images, 2 is half of it.
        weights: How often each comes up; equally often when left out.

    Raises:
        ConfigError: If a factor is below 1, weights are not one a factor, or only a share of the rows is to be cut.
    """

    size: int | Sequence[int] = 96
    factors: Sequence[int] = (1, 2)
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_all_rows(self.p)
        if not self.factors or min(self.factors) < 1 or (self.weights is not None and len(self.weights) != len(self.factors)):
            raise ConfigError(f"Expected factors of 1 or more and a weight for each, found {tuple(self.factors)} and {self.weights}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Which factor `[b]`, and where the patch begins `[b, rank]` as a share of the room."""
        weights = torch.ones(len(self.factors)) if self.weights is None else torch.tensor(self.weights, dtype=torch.float32)
        which = torch.multinomial(weights, n, replacement=True, generator=generator) if n else torch.zeros(0, dtype=torch.long)
        return which, torch.rand(n, rank, generator=generator)

    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *T"]:
        """The patches at one size; a voxel of a larger field of view is the mean of those it stands for, or the first of them in masks.

        Raises:
            DataError: If images are smaller than the largest field of view.
        """
        which, start = what
        size = sizes(self.size, values.dim() - 2)
        result = values.new_zeros(*values.shape[:2], *size)
        for k, factor in enumerate(self.factors):
            rows = (which == k).nonzero().flatten()
            extent = [n * factor for n in size]
            room = room_for(values, extent)
            patch = cut(values[rows], torch.minimum((start[rows] * (room + 1)).long(), room), extent)
            smaller = F.interpolate(patch, size, mode="area" if how == "linear" else "nearest") if factor > 1 and len(rows) else patch
            result = result.index_copy(0, rows, smaller.reshape(len(rows), *result.shape[1:]))
        return result


def check_unit_colour(images: Tensor) -> None:
    """Check that images are in colour and in [0, 1], where stains can be told.

    Raises:
        DataError: If they are not.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        raise DataError(f"Expected images [B, 3, H, W] in colour, found {tuple(images.shape)}. Build them with ImageBuilder(channels=3).")
    if images.numel() and (images.min() < -1e-4 or images.max() > 1.0 + 1e-4):
        low, high = float(images.min()), float(images.max())
        raise DataError(
            f"Expected intensities in [0, 1], found {low:.3g} to {high:.3g}. Build images with ImageBuilder(scale='unit', window=(0, 255))."
        )


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel `[b, 3]`."""
    spread, mean = torch.std_mean(values.flatten(start_dim=2), dim=2, correction=0)
    return mean, spread


def _mixture(numbers: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", n_components: int, seed: int) -> "GaussianMixture":
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(min(n_components, len(numbers) // 2), reg_covar=1e-3, random_state=seed).fit(numbers)
