"""Ways of learning from sources what a target is to start from; each says what a step on their tasks minimises."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from graphssl.errors import ConfigError, DataError
from graphssl.training.meta.generator import AdaptiveStep
from graphssl.training.meta.inner import GradientStep, InnerLoop, Parameters
from graphssl.training.meta.reweighting import AbstractWeighting
from graphssl.training.meta.tasks import Source

Algorithm = Literal["maml", "first_order", "anil", "reptile", "meta_sgd"]


@dataclass(frozen=True)
class DirectLearning:
    """Learn from no source: random weights, which meet the target's labelled subjects only."""


@dataclass(frozen=True)
class SingleSource:
    """Learn from one source as if it were the target.

    Args:
        source: Its name; the one with the most subjects when left out.
    """

    source: str | None = None

    def choose(self, sources: Sequence[Source]) -> Source:
        """The source.

        Raises:
            DataError: If there is none of that name.
        """
        if self.source is None:
            return max(sources, key=lambda source: len(source.labels))
        named = {source.name: source for source in sources}
        if self.source not in named:
            raise DataError(f"Expected a source among {', '.join(named)}; found {self.source!r}.")
        return named[self.source]


@dataclass(frozen=True)
class JointTraining:
    """Learn from all sources together, without an inner loop.

    Args:
        weighting: How much each source counts; alike when left out.
    """

    weighting: AbstractWeighting | None = None


@dataclass(frozen=True)
class MetaLearning:
    """Learn a start from which steps on the support of a task lead to what is good on its query.

    Args:
        algorithm: `"maml"` (Finn et al., ICML 2017), `"first_order"` of it, `"anil"`, which adapts the head alone (Raghu et al., ICLR 2020),
            `"reptile"` (Nichol et al., 2018), or `"meta_sgd"`, which learns a learning rate for every weight (Li et al., 2017).
        learning_rate: Of the inner steps; the one to start with where it is learned.
        weight_decay: Of the inner steps, likewise.
        n_steps: Inner steps.
        adaptive: Whether a generator makes learning rate and weight decay of each tensor for each task, so that sources which help little move
            little (adaptive reweighting: Yang et al., KDD 2022).
        weighting: How much each source's query counts; alike when left out.

    Raises:
        ConfigError: If the algorithm is unknown, or what it learns from has no place for adaptive rates or for weights of sources.
    """

    algorithm: Algorithm = "maml"
    learning_rate: float = 0.05
    weight_decay: float = 0.0
    n_steps: int = 1
    adaptive: bool = False
    weighting: AbstractWeighting | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise ConfigError(f"Expected the algorithm to be one of {', '.join(get_args(Algorithm))}; found {self.algorithm!r}.")
        if self.adaptive and self.algorithm in ("reptile", "meta_sgd"):
            raise ConfigError(
                f"Expected an algorithm whose queries train the generator of rates, found {self.algorithm!r}. Use 'maml', 'first_order' or 'anil'."
            )
        if self.weighting is not None and self.algorithm == "reptile":
            raise ConfigError("Expected an algorithm with a query to weigh, found 'reptile', which has none. Leave the weighting out.")

    @property
    def first_order(self) -> bool:
        """Whether gradients of inner steps are taken for constants."""
        return self.algorithm in ("first_order", "reptile")

    def update(self, parameters: Parameters) -> GradientStep | nn.Module:
        """What an inner step does to tensors of these names; a module where it is learned."""
        adapted = self.adapted(parameters) or list(parameters)
        if self.adaptive:
            return AdaptiveStep(adapted, self.learning_rate, self.weight_decay or 1e-4)
        if self.algorithm == "meta_sgd":
            return _LearnedRates({name: parameters[name] for name in adapted}, self.learning_rate, self.weight_decay)
        return GradientStep(self.learning_rate, self.weight_decay)

    def adapted(self, parameters: Parameters) -> list[str] | None:
        """Names of the tensors that the inner steps move; None for all.

        Raises:
            ConfigError: If the head alone is to be adapted where there is none.
        """
        if self.algorithm != "anil":
            return None
        named = [name for name in parameters if name.startswith("head.")]
        if not named:
            raise ConfigError("Expected a head to adapt by 'anil', found an objective without labels. Use 'maml', or give the sources a target.")
        return named

    def inner(self, update: GradientStep | nn.Module, parameters: Parameters) -> InnerLoop:
        """The inner loop with what an inner step does."""
        return InnerLoop(update, self.n_steps, self.first_order, self.adapted(parameters))


Strategy = DirectLearning | SingleSource | JointTraining | MetaLearning
# The five to compare on the same splits.
STRATEGIES: dict[str, Strategy] = {
    "direct": DirectLearning(),
    "single_source": SingleSource(),
    "joint": JointTraining(),
    "meta": MetaLearning(),
    "meta_reweighted": MetaLearning(adaptive=True),
}


class _LearnedRates(nn.Module):
    """A gradient step with a learned rate for every weight."""

    def __init__(self, parameters: Parameters, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        self.names, self.weight_decay = tuple(parameters), weight_decay
        self.rates = nn.ParameterList(torch.full_like(tensor, learning_rate) for tensor in parameters.values())

    def forward(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        rates = dict(zip(self.names, self.rates, strict=True))
        return GradientStep(rates, self.weight_decay)(parameters, gradients)
