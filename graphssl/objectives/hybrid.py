"""Labels and a task without labels, whose share fades."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.several import AbstractSeveral, noted
from graphssl.objectives.two_views import check_positive


class Hybrid(AbstractSeveral):
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
    def parts(self) -> Mapping[str, AbstractObjective]:
        """Both."""
        return {"supervised": self.supervised, "self_supervised": self.self_supervised}

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The weighted sum, and both losses with their parts."""
        losses = self.losses(encoder, batch, generator)
        share = weight_at(self.weight, self.final_weight, float(self.done)) if self.training else self.final_weight
        return Loss(losses["supervised"].total + share * losses["self_supervised"].total, noted(losses))

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Tell both of the step, and note how far the training is."""
        super().after_step(encoder, progress)
        self.done.fill_(progress)


def weight_at(start: float, end: float, progress: float) -> float:
    """A weight on its way from `start` to `end` along half a cosine.

    Args:
        start: Weight at the beginning.
        end: Weight at the end.
        progress: Share of the training that is done, in [0, 1].
    """
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
