"""Several objectives at once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss


class WeightedSum(AbstractObjective):
    """The sum of objectives, each times its weight; each draws and embeds for itself.

    Their losses and parts are noted as `NAME_loss` and `NAME_PART`.

    Args:
        objectives: Objectives by name.
        weights: Weight by name; 1 where left out.

    Raises:
        ConfigError: If there is no objective, a weight has none, or is not positive.
    """

    def __init__(self, objectives: dict[str, AbstractObjective], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        if not objectives:
            raise ConfigError("Expected at least one objective to sum, found none.")
        unknown = sorted(set(weights or {}) - set(objectives))
        if unknown:
            raise ConfigError(f"Expected weights of the objectives {', '.join(objectives)}; found one of {unknown[0]!r}.")
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in objectives}
        wrong = {name: weight for name, weight in self.weights.items() if not weight > 0}
        if wrong:
            raise ConfigError(f"Expected weights above 0, found {wrong}. Leave an objective out that should not count.")
        self.objectives = nn.ModuleDict(objectives)

    @property
    def parts(self) -> Mapping[str, AbstractObjective]:
        """The objectives by name."""
        return dict(self.objectives.items())  # type: ignore[arg-type]

    @property
    def needs_series(self) -> bool:
        """Whether one of them must see the time series."""
        return any(objective.needs_series for objective in self.parts.values())

    @property
    def selects_epoch(self) -> bool:
        """Whether the loss of each says which epoch is the best."""
        return all(objective.selects_epoch for objective in self.parts.values())

    def for_cohort(self, cohort: Cohort) -> "WeightedSum":
        """The sum of the objectives with what each must know."""
        return WeightedSum({name: objective.for_cohort(cohort) for name, objective in self.parts.items()}, self.weights)

    def prepare(self, encoder: AbstractEncoder) -> "WeightedSum":
        """Prepare each for the encoder."""
        for objective in self.parts.values():
            objective.prepare(encoder)
        return self

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """The weighted sum on a batch."""
        losses = {name: objective(encoder, batch, generator) for name, objective in self.parts.items()}
        total = torch.stack([self.weights[name] * loss.total for name, loss in losses.items()]).sum()
        noted = {f"{name}_{part}": value for name, loss in losses.items() for part, value in [("loss", loss.total.detach()), *loss.parts.items()]}
        return Loss(total, noted)

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Tell each of the step."""
        for objective in self.parts.values():
            objective.after_step(encoder, progress)

    def arguments(self) -> dict[str, Any]:
        """The objectives and their weights by name."""
        return {"objectives": dict(self.parts), "weights": self.weights}

    def fresh(self) -> "WeightedSum":
        """A new sum of new objectives."""
        return WeightedSum({name: objective.fresh() for name, objective in self.parts.items()}, self.weights)
