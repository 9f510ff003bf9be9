"""A pool of other subjects in a configuration, and which of them to pre-train on."""

from dataclasses import dataclass

from graphssl.errors import ConfigError
from graphssl.experiment.cohort_source import CohortSource
from graphssl.graphs.neighbors import Search
from graphssl.objectives.base import AbstractObjective
from graphssl.training.fit import TrainingSettings
from graphssl.training.selection import Leaks, SelectionSettings
from graphssl.training.selection_order import Rule


@dataclass(frozen=True)
class PoolSettings:
    """A pool of unlabelled subjects, and which of them to pre-train on besides those of the cohort: see `graphssl.select_nearest`.

    Args:
        pools: Where the pool comes from: cohorts by name, with which the ids of their subjects begin.
        budget: How many to choose: a number, or a share of the pool below 1.
        k: Neighbours of each subject of the cohort at first.
        rule: Which neighbours come first: `rounds`, `similarity`, `votes`, `diversity` or `class_means`; `random` and `all` are the controls.
        balance: Column of the pool whose values are chosen in turn, such as `site` or `source`.
        encoder: Folder of the model that compares subjects (f0); when left out, one is trained on a part of the pool.
        subset: Share of the pool on which it is trained; 50,000 subjects at most.
        objective: What it is trained on; that of the experiment when left out.
        pretraining: How long and how fast it is trained; as the experiment when left out.
        near_duplicate: Cosine from which two subjects count as one.
        leaks: `refuse` a pool that holds subjects of the cohort, or `exclude` them.
        search: `exact`, `approximate` or `auto`.
        with_target: Whether the cohort's own training subjects are pre-trained on as well.
        seed: Of the part of the pool, and of what is chosen at random.

    Raises:
        ConfigError: If there is no pool, or a number is impossible.
    """

    pools: dict[str, CohortSource]
    budget: float
    k: int = 10
    rule: Rule = "rounds"
    balance: str | None = None
    encoder: str | None = None
    subset: float = 0.1
    objective: AbstractObjective | None = None
    pretraining: TrainingSettings | None = None
    near_duplicate: float | None = 0.99
    leaks: Leaks = "refuse"
    search: Search = "auto"
    with_target: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.pools or not 0 < self.subset <= 1:
            raise ConfigError(f"Expected one or more pools to choose from and a subset in (0, 1], found {list(self.pools)} and {self.subset}.")
        self.chosen_by()  # which checks the numbers

    def chosen_by(self) -> SelectionSettings:
        """How many to choose, and by what."""
        return SelectionSettings(self.budget, self.k, self.rule, self.balance, self.seed)
