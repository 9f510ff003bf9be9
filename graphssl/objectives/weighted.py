"""Several objectives at once."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss


class WeightedSum(AbstractObjective):
    """The sum of objectives, each times its weight; each draws and embeds for itself.

    Their losses and parts are noted as `NAME_loss` and `NAME_PART`. Instead of all, one of them can be drawn for every minibatch, as in the
    multi-task pre-training of Pellegrini, Navab & Kazi (Medical Image Analysis 2023): a step then costs one of them. Which epoch is the best is
    always told by all.

    Args:
        objectives: Objectives by name.
        weights: Weight by name; 1 where left out.
        each_step: `"all"` sums them in every training step; `"one"` draws one, weights being its chances (their sum need not be 1).

    Raises:
        ConfigError: If there is no objective, a weight has none, or is not positive, or a step takes neither all nor one.
    """

    def __init__(
        self, objectives: dict[str, AbstractObjective], weights: dict[str, float] | None = None, each_step: Literal["all", "one"] = "all"
    ) -> None:
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
        if each_step not in ("all", "one"):
            raise ConfigError(f"Expected each_step 'all' or 'one', found {each_step!r}.")
        # A list, for a dictionary of modules refuses names such as `values`.
        self.objectives, self.each_step = nn.ModuleList(objectives.values()), each_step

    @property
    def parts(self) -> Mapping[str, AbstractObjective]:
        """The objectives by name."""
        return dict(zip(self.weights, self.objectives, strict=True))  # type: ignore[arg-type]

    @property
    def needs_series(self) -> bool:
        """Whether one of them must see the time series."""
        return any(objective.needs_series for objective in self.parts.values())

    @property
    def selects_epoch(self) -> bool:
        """Whether the loss of each says which epoch is the best."""
        return all(objective.selects_epoch for objective in self.parts.values())

    @property
    def reads_maps(self) -> bool:
        """Whether one of them reads feature maps."""
        return any(objective.reads_maps for objective in self.parts.values())

    @property
    def reads_tokens(self) -> bool:
        """Whether one of them reads tokens."""
        return any(objective.reads_tokens for objective in self.parts.values())

    @property
    def reads_labels(self) -> bool:
        """Whether one of them trains on labels."""
        return any(objective.reads_labels for objective in self.parts.values())

    def with_labels(self, labels: Mapping[str, str]) -> "WeightedSum":
        """The sum of the objectives with the labels of some subjects."""
        return WeightedSum({name: objective.with_labels(labels) for name, objective in self.parts.items()}, self.weights, self.each_step)

    @property
    def target_encoder(self) -> AbstractEncoder | None:
        """The slow copy of the first that keeps one."""
        return next((found for objective in self.parts.values() if (found := objective.target_encoder) is not None), None)

    def for_cohort(self, cohort: Cohort) -> "WeightedSum":
        """The sum of the objectives with what each must know."""
        return WeightedSum({name: objective.for_cohort(cohort) for name, objective in self.parts.items()}, self.weights, self.each_step)

    def prepare(self, encoder: AbstractEncoder) -> "WeightedSum":
        """Prepare each for the encoder."""
        for objective in self.parts.values():
            objective.prepare(encoder)
        return self

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The weighted sum on a batch; while training one by one, the loss of the one that was drawn, times the sum of the weights."""
        if self.training and self.each_step == "one":
            name = self._drawn(generator)
            loss = self.parts[name](encoder, batch, generator)
            return Loss(sum(self.weights.values()) * loss.total, _named(name, loss))
        losses = {name: objective(encoder, batch, generator) for name, objective in self.parts.items()}
        total = torch.stack([self.weights[name] * loss.total for name, loss in losses.items()]).sum()
        return Loss(total, {part: value for name, loss in losses.items() for part, value in _named(name, loss).items()})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Tell each of the step."""
        for objective in self.parts.values():
            objective.after_step(encoder, progress)

    def arguments(self) -> dict[str, Any]:
        """The objectives and their weights by name."""
        return {"objectives": dict(self.parts), "weights": self.weights, "each_step": self.each_step}

    def fresh(self) -> "WeightedSum":
        """A new sum of new objectives."""
        return WeightedSum({name: objective.fresh() for name, objective in self.parts.items()}, self.weights, self.each_step)

    def _drawn(self, generator: torch.Generator) -> str:
        return list(self.weights)[int(torch.multinomial(torch.tensor(list(self.weights.values())), 1, generator=generator))]


def _named(name: str, loss: Loss) -> dict[str, Tensor]:
    return {f"{name}_{part}": value for part, value in [("loss", loss.total.detach()), *loss.parts.items()]}
