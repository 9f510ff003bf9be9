"""Looks at patients of several modalities: some out of sight, and a look of its own at each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.cohort import Cohort
from graphssl.data.multimodal import MultimodalBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views.base import AbstractView


@dataclass(frozen=True)
class HideModalities(AbstractView):
    """Each modality that a patient has is out of sight with a probability, but one is always left.

    Two such looks, contrasted, bring what is known of a patient by one modality near what is known by another.

    Args:
        p: Probability.

    Raises:
        ConfigError: If the probability is not in [0, 1].
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ConfigError(f"Expected a probability in [0, 1], found {self.p}.")

    def draw(self, batch: MultimodalBatch, generator: torch.Generator) -> Bool[Tensor, "B M"]:
        """Which modalities of each patient are hidden.

        Raises:
            DataError: If the batch is not one of several modalities.
        """
        check_modalities(batch)
        there = batch.presence.cpu()
        chance = torch.rand(there.shape, generator=generator)
        last = F.one_hot(chance.masked_fill(~there, -1.0).argmax(dim=1), there.shape[1]).bool()
        return there & (chance < self.p) & ~last

    def apply(self, batch: MultimodalBatch, draw: Bool[Tensor, "B M"]) -> MultimodalBatch:
        """Hide them."""
        return batch.hide(draw.to(batch.device))


@dataclass(frozen=True)
class PartViews(AbstractView):
    """A look of its own at each modality, such as a crop of images beside corrupted columns; modalities without one are seen as they are.

    Args:
        views: The look at each modality, by its name.

    Raises:
        ConfigError: If there is none.
    """

    views: Mapping[str, AbstractView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.views:
            raise ConfigError("Expected a look at one modality at least, found none.")

    @property
    def needs_series(self) -> bool:
        """Whether one of them must see the time series."""
        return any(view.needs_series for view in self.views.values())

    def for_cohort(self, cohort: Cohort) -> "PartViews":
        """The looks with what they must learn of training subjects."""
        return replace(self, views={name: view.for_cohort(cohort) for name, view in self.views.items()})

    def draw(self, batch: MultimodalBatch, generator: torch.Generator) -> dict[str, Any]:
        """A draw of the look at each modality that there is, by its name.

        Raises:
            DataError: If the batch is not one of several modalities, or has none of a name.
        """
        check_modalities(batch)
        strange = sorted(set(self.views) - set(batch.modalities))
        if strange:
            raise DataError(f"Expected looks at modalities among {', '.join(batch.modalities)}, found one at {strange[0]!r}.")
        return {name: view.draw(batch.parts[name], generator) for name, view in self.views.items() if name in batch.parts}

    def apply(self, batch: MultimodalBatch, draw: dict[str, Any]) -> MultimodalBatch:
        """Apply each look to its modality."""
        return batch.with_parts(**{name: self.views[name].apply(batch.parts[name], drawn) for name, drawn in draw.items()})


def check_modalities(batch: Any) -> None:
    """Check that a batch is one of several modalities.

    Raises:
        DataError: If it is not.
    """
    if not isinstance(batch, MultimodalBatch):
        raise DataError(f"Expected patients by modality, found a {type(batch).__name__}. Give a MultimodalBuilder, or a view of what is there.")
