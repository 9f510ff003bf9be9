"""Labels and a task without labels, whose share fades."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.two_views import check_positive


class Hybrid(AbstractObjective):
    """A supervised loss and `λ` times a self-supervised one, on one encoder; `λ` falls along half a cosine in the course of the training.

    The hybrid regime of Ghesu et al. (2022, arXiv 2201.01283), which is described and not published as code. Subjects without a label take part in
    the second loss alone. On validation subjects `λ` is the last one, so that epochs compare.

    Args:
        supervised: The objective that reads labels, such as `PredictLabel`.
        self_supervised: The objective that does not.
        weight: `λ` at the beginning.
        final_weight: `λ` at the end.

    Raises:
        ConfigError: If a weight is not positive, the first objective reads no labels, or the second does.
    """

    done: Tensor

    def __init__(self, supervised: AbstractObjective, self_supervised: AbstractObjective, weight: float = 1.0, final_weight: float = 0.1) -> None:
        super().__init__()
        check_positive(weight=weight, final_weight=final_weight)
        if not supervised.reads_labels or self_supervised.reads_labels:
            found = f"{type(supervised).__name__} and {type(self_supervised).__name__}"
            raise ConfigError(f"Expected an objective that reads labels and one that reads none, found {found}. Take PredictLabel for the first.")
        self.supervised, self.self_supervised = supervised, self_supervised
        self.weight, self.final_weight = weight, final_weight
        self.register_buffer("done", torch.zeros(()))

    @property
    def reads_labels(self) -> bool:
        """Yes."""
        return True

    @property
    def needs_series(self) -> bool:
        """Whether one of them must see the time series."""
        return self.supervised.needs_series or self.self_supervised.needs_series

    @property
    def selects_epoch(self) -> bool:
        """Whether the loss of each says which epoch is the best."""
        return self.supervised.selects_epoch and self.self_supervised.selects_epoch

    @property
    def reads_maps(self) -> bool:
        """Whether one of them reads feature maps."""
        return self.supervised.reads_maps or self.self_supervised.reads_maps

    @property
    def reads_tokens(self) -> bool:
        """Whether one of them reads tokens."""
        return self.supervised.reads_tokens or self.self_supervised.reads_tokens

    @property
    def target_encoder(self) -> AbstractEncoder | None:
        """The slow copy of the objective without labels, where it keeps one."""
        return self.self_supervised.target_encoder

    def for_cohort(self, cohort: Cohort) -> "Hybrid":
        """The same of objectives with what each must know."""
        return self._of(self.supervised.for_cohort(cohort), self.self_supervised.for_cohort(cohort))

    def with_labels(self, labels: Mapping[str, str]) -> "Hybrid":
        """The same with the labels of some subjects."""
        return self._of(self.supervised.with_labels(labels), self.self_supervised)

    def fresh(self) -> "Hybrid":
        """The same of new objectives."""
        return self._of(self.supervised.fresh(), self.self_supervised.fresh())

    def prepare(self, encoder: AbstractEncoder) -> "Hybrid":
        """Prepare both for the encoder."""
        self.supervised.prepare(encoder)
        self.self_supervised.prepare(encoder)
        return self

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The weighted sum, and both losses with their parts."""
        losses = {"supervised": self.supervised(encoder, batch, generator), "self_supervised": self.self_supervised(encoder, batch, generator)}
        share = weight_at(self.weight, self.final_weight, float(self.done)) if self.training else self.final_weight
        parts = {f"{name}_{part}": value for name, loss in losses.items() for part, value in [("loss", loss.total.detach()), *loss.parts.items()]}
        return Loss(losses["supervised"].total + share * losses["self_supervised"].total, parts)

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Tell both of the step, and note how far the training is."""
        self.done.fill_(progress)
        self.supervised.after_step(encoder, progress)
        self.self_supervised.after_step(encoder, progress)

    def _of(self, supervised: AbstractObjective, self_supervised: AbstractObjective) -> "Hybrid":
        return Hybrid(supervised, self_supervised, self.weight, self.final_weight)


def weight_at(start: float, end: float, progress: float) -> float:
    """A weight on its way from `start` to `end` along half a cosine.

    Args:
        start: Weight at the beginning.
        end: Weight at the end.
        progress: Share of the training that is done, in [0, 1].
    """
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
