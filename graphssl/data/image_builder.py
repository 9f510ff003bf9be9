"""From a cohort to a batch of images; what is learned on the way is learned from training subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch, Pending
from graphssl.data.image_preparation import Framing, Preparation, Scale, resampled_size
from graphssl.data.image_source import ImageSource
from graphssl.data.images import ImageData
from graphssl.errors import CheckpointError, ConfigError, DataError

_EIGHT_BITS = (0.0, 255.0)


class ImageBuilder(AbstractBuilder):
    """Images in, an [`ImageBatch`][graphssl.data.ImageBatch] of references out; sizes and intensities are learned from training subjects.

    Volumes are turned to RAS and resampled to one spacing, then cut or padded to one size; images are resized. Clips give frames at even distances.

    Args:
        images: Name of the cohort's images; the only ones when left out.
        size: Voxels of a prepared image: `(H, W)`, `(D, H, W)`, `(T, H, W)` of clips, or one number for all axes; the median of the training images
            when left out.
        spacing: Size of a voxel in mm along each axis of space; `"median"` takes that of the training images where they are volumes of known spacing;
            None does not resample.
        framing: `"resize"` interpolates to the size, `"crop"` cuts and pads around the centre; when left out, volumes are cut, all else is resized.
        channels: Channels of a prepared image, 1 for gray; what most training images have when left out.
        scale: Intensities: `"training"` standardises by mean and spread of the training images, `"image"` by those of each image, `"unit"` maps the
            window to [0, 1], `"none"` leaves them.
        window: Lowest and highest intensity, beyond which values are cut off, such as `(-1000, 1000)` HU; for `"unit"` the range of the training
            images when left out, and 0 to 255 where they have eight bits.
        n_fitted: At most as many training images, at even distances, are decoded to learn intensities.
        memory_mib: Memory for prepared images, and as much for masks; beyond it they are decoded anew each time.

    Attributes:
        name_: Name of the cohort's images.
        preparation_: What is done to each image, `Preparation`.
        rank_: 2 of images and clips, 3 of volumes.
        classes_: Names of the classes of masks.
    """

    def __init__(
        self,
        images: str | None = None,
        size: int | Sequence[int] | None = None,
        spacing: Sequence[float] | Literal["median"] | None = "median",
        framing: Framing | None = None,
        channels: int | None = None,
        scale: Scale = "training",
        window: Sequence[float] | None = None,
        n_fitted: int = 1000,
        memory_mib: int = 1024,
    ) -> None:
        self.images = images
        self.size = size
        self.spacing = spacing
        self.framing = framing
        self.channels = channels
        self.scale = scale
        self.window = window
        self.n_fitted = n_fitted
        self.memory_mib = memory_mib

    def fit(self, cohort: Cohort, y: object = None) -> "ImageBuilder":
        """Learn size, spacing, channels and intensities from training subjects.

        Raises:
            ConfigError: If several kinds of images are there and none is named, or an argument does not fit the axes of the images.
            DataError: If the cohort has no images, or spacing is known of some volumes only.
        """
        self.name_ = self._chosen(cohort)
        data = cohort.images[self.name_].select(cohort.ids)
        if not len(data):
            raise DataError(f"Expected training subjects of {cohort.name!r} with images, found none among {len(cohort)}.")
        self.rank_, self.classes_ = data.rank, data.classes
        spacing = self._fitted_spacing(data)
        most = int(data.table["channels"].value_counts().index[0])
        framing: Framing = self.framing or ("crop" if data.rank == 3 else "resize")
        plain = Preparation(self._fitted_size(data, spacing), self.channels or most, data.clip, framing, spacing)
        self.preparation_ = self._fitted_scale(data, plain)
        return self

    def transform(self, cohort: Cohort) -> ImageBatch:
        """All images of a cohort as one batch of references, rows in the order of the subjects.

        Raises:
            DataError: If the builder is not fitted, a subject has no image, or images are of another rank or have other masks than the training ones.
        """
        if not hasattr(self, "preparation_"):
            raise DataError("Expected a fitted builder, found one without training subjects. Call fit first.")
        data = self._fitting(cohort)
        source = ImageSource(data, self.preparation_, self.memory_mib << 20)
        rows = Pending(source, tuple(range(len(data))))
        subjects = [str(subject) for subject in data.table["subject_id"]]
        together = cohort.groups
        groups = {name: tuple(str(value) for value in data.table[name]) for name in data.groups}
        groups["group"] = tuple(together.loc[subjects])
        return ImageBatch(tuple(subjects), rows, rows if data.has_masks else None, None, data.clip, groups)

    def readable(self, cohort: Cohort) -> list[str]:
        """Subjects with an image."""
        if not cohort.images or getattr(self, "name_", self.images) not in (None, *cohort.images):
            return []
        there = cohort.images[getattr(self, "name_", None) or self._chosen(cohort)].values
        return [subject for subject in cohort.ids if subject in there]

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments and what was fitted, for a model folder; there are no tensors."""
        arguments = {name: list(value) if isinstance(value, (tuple, list)) else value for name, value in self.get_params(deep=False).items()}
        fitted = {"name": self.name_, "rank": self.rank_, "classes": list(self.classes_), "preparation": asdict(self.preparation_)}
        return {"arguments": arguments, **fitted}, {}

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "ImageBuilder":
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing.
        """
        try:
            builder = cls(**record["arguments"])
            builder.name_, builder.rank_, builder.classes_ = str(record["name"]), int(record["rank"]), tuple(record["classes"])
            stored: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in record["preparation"].items()}
            builder.preparation_ = Preparation(**stored)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"Expected the fitted state of an ImageBuilder, found none of {error}. The folder is damaged.") from error
        return builder

    def describe(self) -> dict[str, str]:
        """What the images are made to, for the model card."""
        made = self.preparation_
        size = " × ".join(map(str, made.size))
        spacing = "" if made.spacing is None else f", voxels of {' × '.join(f'{mm:g}' for mm in made.spacing)} mm"
        masks = f"; masks of {', '.join(self.classes_)}" if self.classes_ else ""
        noun = "clips" if made.clip else "volumes" if self.rank_ == 3 else "images"
        return {noun: f"{self.name_}, {made.channels} × {size}{spacing}, {made.framing}, intensities by {made.scale}{masks}"}

    def _chosen(self, cohort: Cohort) -> str:
        found = list(cohort.images)
        if not found:
            raise DataError(f"Expected {cohort.name!r} to have images, found none. Load a folder or a table of images.")
        if self.images is None and len(found) > 1:
            raise ConfigError(f"Expected one kind of images in {cohort.name!r}, found {found}. Name one: ImageBuilder(images={found[0]!r}).")
        if self.images is not None and self.images not in found:
            raise ConfigError(f"Expected images called {self.images!r} in {cohort.name!r}, found {found}.")
        return self.images or found[0]

    def _fitting(self, cohort: Cohort) -> ImageData:
        """The cohort's images, where they fit the training ones."""
        if self.name_ not in cohort.images:
            raise DataError(f"Expected images called {self.name_!r} in {cohort.name!r}, found {list(cohort.images) or 'none'}.")
        data = cohort.images[self.name_].select(cohort.ids)
        absent = [subject for subject in cohort.ids if subject not in data.values]
        if absent:
            raise DataError(f"Expected an image of every subject of {cohort.name!r}, found none of {len(absent)}: {absent[:5]}. Leave them out.")
        mine, theirs = (self.rank_, self.preparation_.clip), (data.rank, data.clip)
        if mine != theirs:
            raise DataError(f"Expected images of rank {mine[0]}{' in clips' * mine[1]}, as in training, found {data.noun}s.")
        if data.has_masks and data.classes != self.classes_:
            raise DataError(f"Expected masks of the classes {list(self.classes_)}, as in training, found {list(data.classes)}.")
        return data

    def _fitted_spacing(self, data: ImageData) -> tuple[float, ...] | None:
        if self.spacing is None or (self.spacing == "median" and data.rank == 2):
            return None
        known = [spacing[-data.rank :] for spacing in data.table["spacing"] if spacing]
        if not isinstance(self.spacing, str):
            if len(self.spacing) != data.rank:
                raise ConfigError(f"Expected a spacing along {data.rank} axes of space, found {tuple(self.spacing)}.")
            given = tuple(float(mm) for mm in self.spacing)
        elif self.spacing != "median":
            raise ConfigError(f"Expected a spacing in mm, 'median' or None, found {self.spacing!r}.")
        else:
            given = tuple(np.median(np.asarray(known), axis=0).round(3).tolist()) if known else ()
        if known and len(known) < len(data):
            unknown = [str(path) for path, spacing in zip(data.table["path"], data.table["spacing"], strict=True) if not spacing]
            raise DataError(
                f"Expected the spacing of every {data.noun}, found none of {len(unknown)} of {len(data)}, such as {unknown[0]}. "
                "Leave them out, or do not resample: spacing=None."
            )
        return given if known else None

    def _fitted_size(self, data: ImageData, spacing: tuple[float, ...] | None) -> tuple[int, ...]:
        if isinstance(self.size, int):
            return (self.size,) * data.n_axes
        if self.size is not None:
            if len(self.size) != data.n_axes:
                raise ConfigError(f"Expected a size along {data.n_axes} axes, found {tuple(self.size)}.")
            return tuple(int(n) for n in self.size)
        shapes = []
        for shape, mm in zip(data.table["shape"], data.table["spacing"], strict=True):
            space = shape[-data.rank :]
            shapes.append((*shape[: -data.rank], *(space if spacing is None else resampled_size(space, mm[-data.rank :], spacing))))
        return tuple(int(n) for n in np.median(np.asarray(shapes), axis=0).round())

    def _fitted_scale(self, data: ImageData, plain: Preparation) -> Preparation:
        window = None if self.window is None else (float(self.window[0]), float(self.window[1]))
        if self.scale not in ("training", "unit") or (self.scale == "unit" and window is not None):
            return replace(plain, window=window, scale=self.scale)
        every = np.unique(np.linspace(0, len(data) - 1, min(len(data), self.n_fitted)).round().astype(int)).tolist()
        source = ImageSource(data, replace(plain, window=window), memory=0)
        total = torch.zeros(3, plain.channels, dtype=torch.float64)
        low, high, eight_bits = float("inf"), -float("inf"), True
        for row in every:
            picture = source.picture(row)
            eight_bits &= picture.pixels.dtype == np.uint8
            values = source.preparation.pixels(picture).double().flatten(start_dim=1)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total += torch.stack([torch.full((plain.channels,), values.shape[1]), values.sum(dim=1), values.square().sum(dim=1)])
        if self.scale == "unit":
            return replace(plain, window=_EIGHT_BITS if eight_bits else (low, high), scale="unit")
        mean = total[1] / total[0]
        std = (total[2] / total[0] - mean.square()).clamp(min=0.0).sqrt()
        std = torch.where(std > 0, std, 1.0)
        return replace(plain, window=window, scale="training", mean=tuple(mean.tolist()), std=tuple(std.tolist()))
