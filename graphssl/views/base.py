"""What every view is, and views one after another."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from graphssl.data.cohort import Cohort
from graphssl.errors import ConfigError


class AbstractView(ABC):
    """One random look at a batch, of connectomes, tables or images: first it is drawn, then it is applied.

    A draw is a tensor (or a tuple of draws) that says all that is random about the look, so a step replays from its record. Subclasses are frozen
    dataclasses: their arguments are what they are.
    """

    @property
    def needs_series(self) -> bool:
        """Whether it must see the time series, [`Scans`][graphssl.data.Scans]."""
        return False

    @abstractmethod
    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        """Choose what to do to each row of a batch.

        Args:
            batch: A `ConnectomeBatch`, a `TableBatch` where the view is one of tables, an `ImageBatch` where it is one of images.
            generator: Source of randomness, on the CPU, so that draws do not depend on the device.
        """

    @abstractmethod
    def apply(self, batch: Any, draw: Any) -> Any:
        """Do what was drawn. Nothing here is random."""

    def for_cohort(self, cohort: Cohort) -> "AbstractView":
        """The view with what it must learn of training subjects; itself where it needs nothing."""
        return self

    def __call__(self, batch: Any, generator: torch.Generator) -> Any:
        """Draw, then apply."""
        return self.apply(batch, self.draw(batch, generator))


@dataclass(frozen=True)
class Compose(AbstractView):
    """Views one after another. All are drawn for the batch as it came, so that a draw needs no applied view.

    Args:
        views: The views, in the order in which they are applied.

    Raises:
        ConfigError: If there is none.
    """

    views: Sequence[AbstractView]

    def __post_init__(self) -> None:
        if not self.views:
            raise ConfigError("Expected at least one view to compose, found none.")
        object.__setattr__(self, "views", tuple(self.views))

    @property
    def needs_series(self) -> bool:
        """Whether one of them must see the time series."""
        return any(view.needs_series for view in self.views)

    def for_cohort(self, cohort: Cohort) -> "Compose":
        """The views with what they must learn of training subjects."""
        return Compose([view.for_cohort(cohort) for view in self.views])

    def draw(self, batch: Any, generator: torch.Generator) -> tuple[Any, ...]:
        """A draw of each view."""
        return tuple(view.draw(batch, generator) for view in self.views)

    def apply(self, batch: Any, draw: tuple[Any, ...]) -> Any:
        """Apply each view with its draw."""
        for view, drawn in zip(self.views, draw, strict=True):
            batch = view.apply(batch, drawn)
        return batch
