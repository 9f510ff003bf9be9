"""Images of several kinds side by side: radiographs and volumes, or two modalities; a minibatch holds one kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from sklearn.base import clone
from torch import Tensor

from graphssl.data.batch import row_numbers
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.errors import CheckpointError, ConfigError, DataError


@dataclass(frozen=True, eq=False)
class MixedImages:
    """Batches of images that differ in size, channels or rank, one below the other; a subject may have rows in several.

    Rows of one kind are taken as an [`ImageBatch`][graphssl.data.ImageBatch], so that encoders and objectives only ever see one.

    Args:
        parts: The batches, by name of the kind.
        in_turn: Whether an epoch passes over one kind after the other; else minibatches of all kinds come in random order.
    """

    parts: Mapping[str, ImageBatch]
    in_turn: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __repr__(self) -> str:
        return f"MixedImages({', '.join(f'{name}: {part!r}' for name, part in self.parts.items())})"

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Subject of each row `[B]`."""
        return tuple(subject for part in self.parts.values() for subject in part.subject_ids)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Name of the kind of each row `[B]`."""
        return tuple(name for name, part in self.parts.items() for _ in range(len(part)))

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.parts.values())).device

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> "ImageBatch | MixedImages":
        """The given rows: a batch of images where they are of one kind.

        Raises:
            DataError: If rows of several kinds are asked for out of their order.
        """
        chosen = row_numbers(rows, torch.device("cpu")).tolist()
        found, start = {}, 0
        for name, part in self.parts.items():
            inside = [row - start for row in chosen if start <= row < start + len(part)]
            if inside:
                found[name] = (part[inside], [row + start for row in inside])
            start += len(part)
        if [row for _, numbers in found.values() for row in numbers] != chosen:
            raise DataError("Expected rows of one kind of images after those of another, found them mixed. Ask for them in the order of the batch.")
        if len(found) == 1:
            return next(iter(found.values()))[0]
        return MixedImages({name: part for name, (part, _) in found.items()}, self.in_turn)

    def to(self, device: torch.device | str) -> "MixedImages":
        """The batches on another device."""
        return MixedImages({name: part.to(device) for name, part in self.parts.items()}, self.in_turn)

    def signature(self) -> bytes:
        """What tells these rows from others."""
        return b"\n".join(name.encode() + part.signature() for name, part in self.parts.items()) + bytes([self.in_turn])


class MixedImageBuilder(AbstractBuilder):
    """Images of several kinds in, [`MixedImages`][graphssl.data.MixedImages] out; every kind is made by a builder of its own.

    A subject has images of at least one kind. What is embedded of a subject with several is the mean over all of its images.

    Args:
        builders: How images of each kind are made, by the name that they have in the cohort.
        in_turn: Whether an epoch of training passes over one kind after the other, as UniMiSS alternates; else minibatches of all kinds are shuffled.

    Attributes:
        builders_: The builders, fitted.
    """

    def __init__(self, builders: dict[str, ImageBuilder], in_turn: bool = False) -> None:
        self.builders = builders
        self.in_turn = in_turn

    def fit(self, cohort: Cohort, y: object = None) -> "MixedImageBuilder":
        """Fit the builder of every kind on the training subjects that have it.

        Raises:
            ConfigError: If no kind is told, or one is not in the cohort.
            DataError: If no training subject has images of a kind.
        """
        self._check_kinds(cohort)
        self.builders_ = {}
        for name, builder in self.builders.items():
            subjects = _subjects_with(cohort, name)
            if not subjects:
                raise DataError(f"Expected training subjects of {cohort.name!r} with images of {name}, found none among {len(cohort)}.")
            self.builders_[name] = clone(builder).set_params(images=name).fit(cohort.select(subjects))
        return self

    def transform(self, cohort: Cohort) -> MixedImages:
        """All images of a cohort, kind after kind; a kind that nobody has is left out.

        Raises:
            DataError: If the builder is not fitted, or a subject has no image of any kind.
        """
        if not hasattr(self, "builders_"):
            raise DataError("Expected a fitted builder, found one without training subjects. Call fit first.")
        subjects = {name: _subjects_with(cohort, name) for name in self.builders_}
        parts = {name: builder.transform(cohort.select(subjects[name])) for name, builder in self.builders_.items() if subjects[name]}
        seen = {subject for part in parts.values() for subject in part.subject_ids}
        absent = [subject for subject in cohort.ids if subject not in seen]
        if absent:
            kinds = ", ".join(self.builders_)
            raise DataError(f"Expected an image of {kinds} of every subject of {cohort.name!r}, found none of {len(absent)}: {absent[:5]}.")
        return MixedImages(parts, self.in_turn)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """State of every builder, for a model folder."""
        return {"kinds": {name: builder.state()[0] for name, builder in self.builders_.items()}, "in_turn": self.in_turn}, {}

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "MixedImageBuilder":
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing.
        """
        try:
            fitted = {name: ImageBuilder.from_state(state, {}) for name, state in record["kinds"].items()}
            builder = cls({name: clone(each) for name, each in fitted.items()}, record["in_turn"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"Expected the fitted state of a MixedImageBuilder, found none of {error}. The folder is damaged.") from error
        builder.builders_ = fitted
        return builder

    def describe(self) -> dict[str, str]:
        """What the images of every kind are made to, for the model card."""
        return {name: ", ".join(f"{noun} {made}" for noun, made in builder.describe().items()) for name, builder in self.builders_.items()}

    def _check_kinds(self, cohort: Cohort) -> None:
        absent = [name for name in self.builders if name not in cohort.images]
        if absent or not self.builders:
            found = ", ".join(cohort.images) or "none"
            raise ConfigError(f"Expected kinds of images of {cohort.name!r} ({found}), found {', '.join(absent) or 'none'} in builders.")


def _subjects_with(cohort: Cohort, name: str) -> list[str]:
    """The subjects that have images of a kind."""
    there = cohort.images[name].values if name in cohort.images else {}
    return [subject for subject in cohort.ids if subject in there]
