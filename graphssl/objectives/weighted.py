"""Several objectives at once."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import nn

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.several import AbstractSeveral, noted


class WeightedSum(AbstractSeveral):
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

    def with_parts(self, parts: Mapping[str, AbstractObjective]) -> Self:
        """The same sum of other objectives by the same names."""
        return self.but(objectives=dict(parts))

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The weighted sum on a batch; while training one by one, the loss of the one that was drawn, times the sum of the weights."""
        if self.training and self.each_step == "one":
            name = self._drawn(generator)
            loss = self.parts[name](encoder, batch, generator)
            return Loss(sum(self.weights.values()) * loss.total, noted({name: loss}))
        losses = self.losses(encoder, batch, generator)
        total = torch.stack([self.weights[name] * loss.total for name, loss in losses.items()]).sum()
        return Loss(total, noted(losses))

    def arguments(self) -> dict[str, Any]:
        """The objectives and their weights by name."""
        return {"objectives": dict(self.parts), "weights": self.weights, "each_step": self.each_step}

    def _drawn(self, generator: torch.Generator) -> str:
        return list(self.weights)[int(torch.multinomial(torch.tensor(list(self.weights.values())), 1, generator=generator))]
