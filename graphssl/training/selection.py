"""Which subjects of a large pool to pre-train on: those nearest to a target."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.overlap import contents, overlap, repeated, telling_columns
from graphssl.data.pooled import SOURCE, together, without_masks
from graphssl.errors import ConfigError, DataError, LeakageError
from graphssl.graphs.neighbors import Search
from graphssl.statistics.distances import frechet_distance, maximum_mean_discrepancy, median_distance
from graphssl.training.model import Model
from graphssl.training.selection_order import Rule, in_order

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Leaks = Literal["refuse", "exclude"]

_SAMPLE = 2000  # vectors at most of which a kernel of all pairs is made
_BLOCK = 512


@dataclass(frozen=True)
class SelectionSettings:
    """How many subjects of a pool to choose, and by what.

    Args:
        budget: How many: a number, or a share of the pool below 1.
        k: Neighbours of each subject of the target at first; doubled until the budget is reached.
        rule: Which neighbours come first. `rounds`: the first neighbours of all, then the second, so that each subject of the target is served;
            `similarity`: the most alike of all; `votes`: those that most subjects of the target have as a neighbour; `diversity`: those farthest from
            all chosen before (greedy k-centre; Sener & Savarese, ICLR 2018); `class_means`: nearest to the mean of each class of the target, which
            reads labels; and as controls `random` and `all`.
        balance: Column of the pool, such as the site, whose values are chosen in turn.
        seed: Of what is chosen at random, and of the approximate search.

    Raises:
        ConfigError: If a number is not above 0, or the rule is unknown.
    """

    budget: float
    k: int = 10
    rule: Rule = "rounds"
    balance: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.budget > 0 or (self.budget >= 1 and self.budget != int(self.budget)) or self.k < 1:
            raise ConfigError(f"Expected a budget of whole subjects or a share below 1, and k of at least 1; found {self.budget} and {self.k}.")
        if self.rule not in get_args(Rule):
            raise ConfigError(f"Expected a rule among {', '.join(get_args(Rule))}; found {self.rule!r}.")

    def of(self, n: int) -> int:
        """The budget for a pool of `n`."""
        return max(1, round(self.budget * n)) if self.budget < 1 else int(self.budget)


class Pool:
    """Subjects without labels that a model has embedded, from whom those nearest to a target are chosen.

    What is in the protected cohort too (under the same id, of the same family, or as identical data under another name) is refused or
    left out, and so is what repeats others. Vectors are taken in the pool's own units (mean and spread of each entry), so that the cosine
    of two of them is not ruled by what all have in common.

    Args:
        cohort: The pool: images, tables, timelines or connectomes, whatever the model reads.
        model: A pre-trained model, or what makes one of those who may be chosen. It should have seen no subject of the target.
        protected: Subjects who must not be pre-trained on, such as the test subjects of the target.
        leaks: What to do where the pool holds protected subjects: `refuse`, or `exclude` them.
        near_duplicate: Cosine from which two vectors count as one subject; of several one is chosen, and nobody who is that near to a protected
            subject. None keeps all but identical data.
        search: `exact`, `approximate` (inverted lists of faiss), or `auto`: approximate from 50,000 subjects on.

    Attributes:
        eligible: Who may be chosen.
        vectors: Their vectors, of length one `[n, P]`.
        excluded: Who may not, with the columns `what`, `id` and `reason`.

    Raises:
        LeakageError: If the pool holds protected subjects; names them.
        ConfigError: If `leaks` is neither of the two.
        DataError: If nobody is left to choose from.
        MissingExtraError: If the search is approximate and faiss is not installed.
    """

    def __init__(
        self,
        cohort: Cohort,
        model: Model | Callable[[Cohort], Model],
        *,
        protected: Cohort | None = None,
        leaks: Leaks = "refuse",
        near_duplicate: float | None = 0.99,
        search: Search = "auto",
    ) -> None:
        self.eligible, self.excluded = apart(cohort, protected, leaks)
        self.model = model if isinstance(model, Model) else model(self.eligible)
        self.near_duplicate, self.search, self.n_pool = near_duplicate, search, len(cohort)
        embedded = self._embedded(self.eligible)
        if protected is not None and near_duplicate is not None and len(embedded) > 1:
            kept = _largest(_units(embedded, embedded), _units(embedded, self._embedded(protected)))[0] < near_duplicate
            embedded = embedded[kept]
            self._exclude(~kept, "nearly identical to a protected subject")
        self.embedded, self.vectors = embedded, _units(embedded, embedded)

    def __repr__(self) -> str:
        return f"Pool({self.eligible.name!r}, {len(self.eligible)} of {self.n_pool} subjects to choose from)"

    @property
    def hash(self) -> str:
        """Twelve hex digits over who may be chosen and the weights of the model."""
        digest = hashlib.sha256(f"{self.eligible.hash} {self.near_duplicate} {self.search}".encode())
        for name, value in self.model.encoder.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def select(self, target: Cohort, settings: SelectionSettings, labels: Mapping[str, str] | None = None) -> "Selection":
        """Choose subjects for a target.

        Args:
            target: Training subjects of the target.
            settings: How many, and by what.
            labels: Class by subject id, for the rule `class_means`; those of the target's one target column when left out. No other rule reads any.

        Raises:
            DataError: If nobody is left to choose from, or the rule is `class_means` and there are no two classes.
            SchemaError: If the pool has no column to balance.
        """
        table = self.eligible.subjects
        if settings.balance is not None:
            self.eligible.schema[settings.balance]
        own = overlap(self.eligible, target, families=False)
        free = np.flatnonzero(~table.index.isin(own.index))
        if not len(free):
            raise DataError(f"Expected subjects of {self.eligible.name!r} to choose from, found only those of the target. Give another pool.")
        vectors, targets = self.vectors[free], _units(self.embedded, self._embedded(target))
        asked = _class_means(targets, target, labels) if settings.rule == "class_means" else targets
        values = None if settings.balance is None else table[settings.balance].iloc[free]
        ranked = in_order(
            vectors,
            asked,
            rule=settings.rule,
            budget=settings.of(self.n_pool),
            k=settings.k,
            near_duplicate=self.near_duplicate,
            values=values,
            search=self.search,
            seed=settings.seed,
        )
        similarity, nearest = _largest(vectors, targets)
        of_free = pd.DataFrame({"similarity": similarity, "nearest": np.asarray(target.ids, dtype=object)[nearest]}, index=table.index[free])
        of_free = of_free.join(ranked[["rank", "votes"]].set_axis(of_free.index[ranked.index.to_numpy()]).astype("Int64"))
        chosen = tuple(str(subject) for subject in of_free.index[ranked.index[ranked["chosen"]].to_numpy()])
        excluded = pd.concat([self.excluded, _rows(own, "in the target: ")], ignore_index=True)
        return Selection(chosen, of_free, self.eligible, target, vectors, targets, settings, excluded, self.n_pool)

    def _embedded(self, cohort: Cohort) -> pd.DataFrame:
        return self.model.embed(without_masks(cohort))

    def _exclude(self, who: npt.NDArray[np.bool_], reason: str) -> None:
        gone = [("subject", subject, reason) for subject in self.eligible.subjects.index[who]]
        self.excluded = pd.concat([self.excluded, pd.DataFrame(gone, columns=self.excluded.columns, dtype="str")], ignore_index=True)
        if who.all():
            raise DataError(f"Expected subjects of {self.eligible.name!r} to choose from, found none that is not {reason}. Give another pool.")
        self.eligible = self.eligible.select(~who)


@dataclass(frozen=True, eq=False)
class Selection:
    """Subjects chosen of a pool, and how far they are from the target.

    Attributes:
        ids: The chosen, in the order in which they were chosen.
        table: A row a subject that could be chosen: `similarity` to the subject of the target that is most alike (cosine), `nearest`, who that is,
            `rank`, the place among the neighbours of a target subject (1 is the nearest), and `votes`, how many have it among their neighbours; the
            last two are missing where it is no neighbour.
        pool: Who could be chosen, but for those who are in the target as well.
        target: The target.
        vectors: Vectors of the rows of the table, of length one `[n, P]`.
        target_vectors: Vectors of the target `[m, P]`.
        settings: How it was chosen.
        excluded: Who could not be chosen, and why.
        n_pool: Subjects of the whole pool.
    """

    ids: tuple[str, ...]
    table: pd.DataFrame = field(repr=False)
    pool: Cohort = field(repr=False)
    target: Cohort = field(repr=False)
    vectors: Floats = field(repr=False)
    target_vectors: Floats = field(repr=False)
    settings: SelectionSettings
    excluded: pd.DataFrame = field(repr=False)
    n_pool: int

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        mean, everybody = self.similarity.mean(), self.table["similarity"].mean()
        return f"Selection({len(self)} of {self.n_pool} subjects by {self.settings.rule}, mean similarity {mean:.2f}, of the pool {everybody:.2f})"

    @property
    def similarity(self) -> "pd.Series[float]":
        """Similarity of each chosen subject to the subject of the target that is most alike."""
        return self.table.loc[[*self.ids], "similarity"]

    @property
    def ranks(self) -> "pd.Series[int]":
        """Place of each chosen subject among the neighbours of a subject of the target; missing where it was not found as a neighbour."""
        return self.table.loc[[*self.ids], "rank"]

    @property
    def cohort(self) -> Cohort:
        """The chosen subjects, to pre-train on."""
        return self.pool.select(self.ids)

    def with_target(self) -> Cohort:
        """The chosen subjects and those of the target, without labels.

        Raises:
            SchemaError: If they have a subject in common.
        """
        return together(self.cohort, self.target)

    def random(self, seed: int = 0) -> "Selection":
        """As many subjects of the same pool, drawn at random: the control."""
        drawn = np.random.default_rng(seed).choice(len(self.table), len(self), replace=False)
        ids = tuple(str(subject) for subject in self.table.index[drawn])
        settings = SelectionSettings(len(self), self.settings.k, "random", seed=seed)
        return Selection(ids, self.table, self.pool, self.target, self.vectors, self.target_vectors, settings, self.excluded, self.n_pool)

    def report(self, seed: int = 0) -> pd.DataFrame:
        """How far from the target the chosen are, as many drawn at random, and the whole pool.

        Args:
            seed: Of the draws.

        Returns:
            A row each with `n`, the mean and the quartiles of `similarity`, the Fréchet distance of the vectors from those of the target, and their
            maximum mean discrepancy; both are missing below two subjects. Fréchet distances compare at one number of subjects only.
        """
        rows = {"chosen": list(self.ids), "random": list(self.random(seed).ids), "pool": self.table.index.tolist()}
        target = _sample(self.target_vectors, seed)
        everybody = _sample(self.vectors, seed)
        can_compare = min(len(target), len(everybody)) > 1
        length = median_distance(everybody, target) if can_compare else 1.0
        lines = {}
        for name, ids in rows.items():
            vectors = self.vectors[self.table.index.get_indexer(pd.Index(ids))]
            similarity = self.table.loc[ids, "similarity"]
            lines[name] = {"n": len(ids), "similarity": similarity.mean(), "low": similarity.quantile(0.25), "high": similarity.quantile(0.75)}
            if can_compare and len(ids) > 1:
                lines[name]["frechet"] = frechet_distance(vectors, self.target_vectors)
                lines[name]["mmd"] = maximum_mean_discrepancy(_sample(vectors, seed), target, length=length)
        return pd.DataFrame.from_dict(lines, orient="index").reindex(columns=["n", "similarity", "low", "high", "frechet", "mmd"]).astype({"n": int})

    def counts(self, column: str) -> pd.DataFrame:
        """How many of the chosen and of the pool have each value of a column of the pool, such as the site.

        Raises:
            SchemaError: If there is no such column.
        """
        self.pool.schema[column]
        values = self.pool.subjects[column].astype("str").fillna("–").loc[self.table.index]
        found = {"chosen": values.loc[[*self.ids]].value_counts(), "pool": values.value_counts()}
        return pd.DataFrame(found).fillna(0).astype(int).sort_values("pool", ascending=False)

    def counted_columns(self) -> list[str]:
        """Columns of the pool that `counts` is worth asking for: the source, the site, and the column that was balanced."""
        names = [SOURCE, *self.pool.schema.named("site"), *filter(None, [self.settings.balance])]
        return [name for name in dict.fromkeys(names) if name in self.pool.schema]


@dataclass(frozen=True, eq=False)
class PoolSelection:
    """A pool, and how to choose of it for the training subjects of any split.

    Args:
        pool: The pool, apart from every subject of the target cohort.
        settings: How many, and by what.
        with_target: Whether the training subjects themselves are pre-trained on as well.
    """

    pool: Pool
    settings: SelectionSettings
    with_target: bool = True

    def __sklearn_clone__(self) -> "PoolSelection":
        """Nothing is fitted on a split, so that estimators share it."""
        return self

    def arguments(self) -> dict[str, Any]:
        """What decides which subjects are chosen for a target, as plain values."""
        return {"pool": self.pool.hash, "settings": asdict(self.settings), "with_target": self.with_target}

    def cohort_for(self, target: Cohort, labels: Mapping[str, str] | None = None) -> Cohort:
        """What to pre-train on for the training subjects of a target.

        Args:
            target: The training subjects.
            labels: Class by subject id, as far as it may be known.

        Raises:
            DataError: If nobody is left to choose from.
        """
        return self.joined(self.pool.select(target, self.settings, labels))

    def joined(self, selection: "Selection") -> Cohort:
        """The chosen subjects, and those of the target where they are to be pre-trained on as well."""
        return selection.with_target() if self.with_target else without_masks(selection.cohort, like=selection.target)


def select_nearest(
    pool: Cohort,
    target: Cohort,
    model: Model,
    *,
    budget: float,
    k: int = 10,
    rule: Rule = "rounds",
    balance: str | None = None,
    protected: Cohort | None = None,
    leaks: Leaks = "refuse",
    near_duplicate: float | None = 0.99,
    search: Search = "auto",
    seed: int = 0,
) -> Selection:
    """Choose the subjects of a pool that are most like those of a target, to pre-train on (SEPT: Lin et al., AAAI 2023).

    Args:
        pool: Any cohort that the model reads.
        target: Training subjects of the target.
        model: A pre-trained model, at best one trained on a part of the pool.
        budget: How many subjects to choose: a number, or a share of the pool below 1.
        k: Neighbours of each subject of the target at first; doubled until the budget is reached.
        rule: Which neighbours come first; see `SelectionSettings`.
        balance: Column of the pool whose values are chosen in turn.
        protected: Subjects who must not be pre-trained on, such as the test subjects of the target.
        leaks: `refuse` a pool that holds protected subjects, or `exclude` them.
        near_duplicate: Cosine from which two vectors count as one subject.
        search: `exact`, `approximate` or `auto`.
        seed: Of what is random.

    Raises:
        LeakageError: If the pool holds protected subjects; names them.
        ConfigError: If an argument is none of those that exist.
        DataError: If nobody is left to choose from.
        SchemaError: If the pool has no column to balance.
        MissingExtraError: If the search is approximate and faiss is not installed.

    Example:
        >>> selection = select_nearest(pool, target, model, budget=500, protected=test)  # doctest: +SKIP
        >>> better = graphssl.pretrain(selection.with_target())  # doctest: +SKIP
    """
    settings = SelectionSettings(budget, k, rule, balance, seed)
    return Pool(pool, model, protected=protected, leaks=leaks, near_duplicate=near_duplicate, search=search).select(target, settings)


def apart(pool: Cohort, protected: Cohort | None, leaks: Leaks = "refuse") -> tuple[Cohort, pd.DataFrame]:
    """The subjects of a pool who are not protected and do not repeat others, and a list of those left out.

    Raises:
        LeakageError: If the pool holds protected subjects; names them.
        ConfigError: If `leaks` is neither `refuse` nor `exclude`.
        DataError: If nobody is left.
    """
    if leaks not in get_args(Leaks):
        raise ConfigError(f"Expected leaks to be 'refuse' or 'exclude', found {leaks!r}.")
    known = contents(pool, telling_columns(*[pool] if protected is None else [pool, protected]))
    shared = _NOBODY if protected is None else overlap(pool, protected, known=known)
    if len(shared) and leaks == "refuse":
        reasons = ", ".join(f"{n} with {reason}" for reason, n in shared["reason"].value_counts().items())
        raise LeakageError(
            f"Expected a pool without protected subjects, found {len(shared)} in {pool.name!r} ({reasons}): {shared.index.tolist()[:5]}. "
            "Leave them out, or say leaks='exclude'; ids that are those of other people by chance get names of their own by graphssl.data.pooled."
        )
    again = repeated(pool, known)
    again = again[~again.index.isin(shared.index)]
    kept = ~pool.subjects.index.isin([*shared.index, *again.index])
    if not kept.any():
        raise DataError(f"Expected subjects of {pool.name!r} to choose from, found none that is not protected. Give another pool.")
    excluded = pd.concat([_rows(shared, "protected: "), _rows(again, "")], ignore_index=True)
    return (pool if kept.all() else pool.select(kept)), excluded


_NOBODY = pd.DataFrame({"other": pd.Series(dtype="str"), "reason": pd.Series(dtype="str")}, index=pd.Index([], dtype="str"))


def _rows(found: pd.DataFrame, before: str) -> pd.DataFrame:
    """Entries of a list of what was left out."""
    rows = [("subject", subject, f"{before}{reason} as {other}") for subject, other, reason in found.itertuples()]
    return pd.DataFrame(rows, columns=["what", "id", "reason"], dtype="str")


def _units(pool: pd.DataFrame, vectors: pd.DataFrame) -> Floats:
    """Vectors in units of the pool, of length one."""
    centre, spread = pool.to_numpy(dtype=np.float64).mean(axis=0), pool.to_numpy(dtype=np.float64).std(axis=0)
    scaled = (vectors.to_numpy(dtype=np.float64) - centre) / np.where(spread > 1e-9 * np.maximum(1.0, np.abs(centre)), spread, 1.0)
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), np.finfo(float).tiny))


def _class_means(vectors: Floats, target: Cohort, labels: Mapping[str, str] | None) -> Floats:
    known = target.target() if labels is None else pd.Series(dict(labels), dtype="str").reindex(target.ids)
    return pd.DataFrame(vectors).groupby(known.astype("str").where(known.notna()).to_numpy()).mean().to_numpy()


def _largest(vectors: Floats, others: Floats) -> tuple[Floats, Integers]:
    """Highest cosine of each vector with the others, and the place of that one."""
    blocks = [block @ others.T for block in np.array_split(vectors, max(1, len(vectors) // _BLOCK))]
    return np.concatenate([block.max(axis=1) for block in blocks]), np.concatenate([block.argmax(axis=1) for block in blocks])


def _sample(vectors: Floats, seed: int) -> Floats:
    if len(vectors) <= _SAMPLE:
        return vectors
    return vectors[np.random.default_rng(seed).choice(len(vectors), _SAMPLE, replace=False)]
