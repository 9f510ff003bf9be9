"""What objectives made of objectives share: what is asked or told of the whole is asked or told of each part."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.objectives.base import AbstractObjective, Loss


class AbstractSeveral(AbstractObjective):
    """Several objectives on one encoder, by name; each draws and embeds for itself. Subclasses say how their losses are put together."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, AbstractObjective]:
        """The objectives by name."""

    def with_parts(self, parts: Mapping[str, AbstractObjective]) -> Self:
        """The same of other objectives by the same names."""
        return self.but(**parts)

    @property
    def needs_series(self) -> bool:
        """Whether one of them must see the time series."""
        return any(part.needs_series for part in self.parts.values())

    @property
    def selects_epoch(self) -> bool:
        """Whether the loss of each says which epoch is the best."""
        return all(part.selects_epoch for part in self.parts.values())

    @property
    def reads_maps(self) -> bool:
        """Whether one of them reads feature maps."""
        return any(part.reads_maps for part in self.parts.values())

    @property
    def reads_tokens(self) -> bool:
        """Whether one of them reads tokens."""
        return any(part.reads_tokens for part in self.parts.values())

    @property
    def reads_labels(self) -> bool:
        """Whether one of them trains on labels."""
        return any(part.reads_labels for part in self.parts.values())

    @property
    def target_encoder(self) -> AbstractEncoder | None:
        """The slow copy of the first that keeps one."""
        return next((found for part in self.parts.values() if (found := part.target_encoder) is not None), None)

    def for_cohort(self, cohort: Cohort) -> Self:
        """The same of objectives with what each must know."""
        return self.with_parts({name: part.for_cohort(cohort) for name, part in self.parts.items()})

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The same of objectives with the labels of some subjects, where they read any."""
        return self.with_parts({name: part.with_labels(labels) for name, part in self.parts.items()})

    def fresh(self) -> Self:
        """The same of new objectives."""
        return self.with_parts({name: part.fresh() for name, part in self.parts.items()})

    def prepare(self, encoder: AbstractEncoder) -> "AbstractSeveral":
        """Prepare each for the encoder."""
        for part in self.parts.values():
            part.prepare(encoder)
        return self

    def losses(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> dict[str, Loss]:
        """The loss of each on a batch, by name."""
        return {name: part(encoder, batch, generator) for name, part in self.parts.items()}

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Tell each of the step."""
        for part in self.parts.values():
            part.after_step(encoder, progress)


def noted(losses: Mapping[str, Loss]) -> dict[str, Tensor]:
    """Losses and their parts for the history, as `NAME_loss` and `NAME_PART`."""
    return {f"{name}_{part}": value for name, loss in losses.items() for part, value in [("loss", loss.total.detach()), *loss.parts.items()]}
