"""The training patients most like a patient, over named groups of features."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from graphssl.data.cohort import Cohort, check_ids
from graphssl.data.schema import Schema
from graphssl.data.transforms import as_table
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError
from graphssl.graphs.approximate import InvertedLists
from graphssl.graphs.block_search import SPARE, BlockSearch
from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.similarity import group_similarity

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Search = Literal["auto", "exact", "approximate"]

_SAMPLE = 1000  # training patients from whom it is learned how alike neighbours are
_RECALL_SAMPLE = 200


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Patients and the training patients most like each, the most alike first.

    Attributes:
        subject_ids: The patients `[m]`.
        neighbor_ids: Ids of their neighbours `[m, k]`.
        indices: Places of the neighbours among the training patients `[m, k]`.
        similarity: Similarity of each neighbour, the weighted mean over groups `[m, k]`.
        by_group: Similarity in every group `[m, k, G]`.
        groups: Names of the groups `[G]`.
        unlikeness: Share of the training patients whose own neighbours are more like them than the patient's are `[m]`. Near 1 a patient is unlike
            the training cohort; it is spread evenly between 0 and 1 for patients who come from where the training patients came from.
    """

    subject_ids: tuple[str, ...]
    neighbor_ids: npt.NDArray[np.object_]
    indices: Integers
    similarity: Floats
    by_group: Floats
    groups: tuple[str, ...]
    unlikeness: Floats

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __repr__(self) -> str:
        return f"Neighbors({len(self)} patients × {self.indices.shape[1]} neighbours; groups {', '.join(self.groups)})"


class NeighborIndex(BaseEstimator):
    """Finds the training patients most like a patient; fitted on training patients, and on nobody else.

    The similarity of two patients is the weighted mean over groups of features. Neighbours are exact by default, found block by block and settled in
    double precision; of equally similar ones the first in the training table counts. The answer for a patient does not depend on who else is asked
    about, to the last bit.

    Where similarities rank as one distance or one inner product of vectors does (a single group, or `cosine` and `agreement` without tolerance; no
    missing values), candidates can be found approximately instead, with an inverted file of faiss; their similarities are exact all the same.

    Args:
        groups: Groups of features, each with its similarity.
        n_neighbors: Neighbours of a patient, where `query` is not told otherwise.
        search: `"exact"`, `"approximate"`, or `"auto"`: approximate from `threshold` training patients on where the similarity allows it.
        threshold: See `search`.
        min_recall: Share of the exact neighbours that an approximate search has to find; it looks further until it finds as many in a sample of
            training patients.
        seed: Of the approximate index and of the samples on which `recall_` and `unlikeness` rest.

    Attributes:
        ids_: Training patients, in order.
        search_: `"exact"` or `"approximate"`.
        recall_: Share of the exact neighbours that the search finds, measured on a sample of training patients; 1 where it is exact.
        familiarity_: Mean similarity to their `n_neighbors` nearest others, of training patients (a sample of at most 1000), rising.

    Example:
        >>> table = pd.DataFrame({"age": [60, 61, 75], "sex": ["f", "m", "f"]}, index=["a", "b", "c"])
        >>> group = FeatureGroup("demographics", ["age", "sex"], "agreement", tolerance={"age": 2})
        >>> index = NeighborIndex([group], n_neighbors=1).fit(table)
        >>> index.query(pd.DataFrame({"age": [74], "sex": ["f"]}, index=["new"])).neighbor_ids.tolist()
        [['c']]
    """

    def __init__(
        self,
        groups: Sequence[FeatureGroup],
        n_neighbors: int = 5,
        search: Search = "auto",
        threshold: int = 50_000,
        min_recall: float = 0.95,
        seed: int = 0,
    ) -> None:
        self.groups = groups
        self.n_neighbors = n_neighbors
        self.search = search
        self.threshold = threshold
        self.min_recall = min_recall
        self.seed = seed

    def fit(self, X: Cohort | pd.DataFrame, y: object = None) -> Self:
        """Learn units and categories from training patients, and keep their values.

        Args:
            X: A cohort, or a table indexed by subject id whose columns' kinds are guessed.
            y: Ignored.

        Raises:
            ConfigError: If there is no group, a name repeats, the search is unknown, or the similarity allows no approximate search.
            SchemaError: If a column is absent or of no kind that can be compared, or ids repeat or are not strings.
            DataError: If there are not more training patients than neighbours, or none has a value of a group.
            MissingExtraError: If the search is approximate and faiss is not installed.
        """
        self._check_arguments()
        self.ids_ = _ids(X)
        _check_k(self.n_neighbors, len(self.ids_))
        self.schema_ = _part(X, self.groups)
        self.similarities_ = [group_similarity(group) for group in self.groups]
        self.values_ = [similarity.fit(X) for similarity in self.similarities_]
        self._prepare()
        return self

    def query(self, X: Cohort | pd.DataFrame | None = None, k: int | None = None) -> Neighbors:
        """The training patients most like each patient.

        Args:
            X: Patients, with the columns of the training patients. When left out, the training patients themselves, none being its own neighbour (one
                that is given here finds itself).
            k: Neighbours of a patient, below the number of training patients; `n_neighbors` when left out.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            ConfigError: If `k` is below 1.
            DataError: If there are not more training patients than neighbours.
            SchemaError: If a column is absent, or not of the training patients' kind and unit, or ids repeat or are not strings.
        """
        check_is_fitted(self)
        wanted = self.n_neighbors if k is None else k
        _check_k(wanted, len(self.ids_))
        if X is None:
            return self._neighbors(self.ids_, self.values_, wanted, np.arange(len(self.ids_)))
        self._check_fits(X)
        return self._neighbors(_ids(X), [similarity.encode(X) for similarity in self.similarities_], wanted, None)

    def joined(self, X: Cohort | pd.DataFrame) -> "NeighborIndex":
        """An index over the training patients and others behind them, in the units of the training patients: for transductive graphs.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent, or not of the training patients' kind and unit, or an id is there twice.
        """
        check_is_fitted(self)
        self._check_fits(X)
        both = NeighborIndex(**self.get_params(deep=False))
        both.ids_ = (*self.ids_, *_ids(X))
        check_ids(list(both.ids_))
        both.schema_, both.similarities_ = self.schema_, self.similarities_
        both.values_ = [np.concatenate([old, new.encode(X)]) for old, new in zip(self.values_, self.similarities_, strict=True)]
        both._prepare()
        return both

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Arguments, units and ids as plain values, and the training patients' values as arrays, to be written without pickle.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self)
        arguments = {**self.get_params(deep=False), "groups": [asdict(group) for group in self.groups]}
        fitted = [similarity.state() for similarity in self.similarities_]
        schema = None if self.schema_ is None else self.schema_.to_dict()
        arrays = {group.name: values for group, values in zip(self.groups, self.values_, strict=True)}
        return {"arguments": arguments, "similarities": fitted, "schema": schema, "ids": list(self.ids_)}, arrays

    @classmethod
    def from_state(cls, record: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing, or arrays do not fit one another.
        """
        try:
            groups = [FeatureGroup(**group) for group in record["arguments"]["groups"]]
            index = cls(**{**record["arguments"], "groups": groups})
            index.ids_ = tuple(record["ids"])
            index.schema_ = None if record["schema"] is None else Schema.from_dict(record["schema"])
            index.similarities_ = [group_similarity(group) for group in groups]
            for similarity, fitted in zip(index.similarities_, record["similarities"], strict=True):
                similarity.restore(fitted)
            index.values_ = [np.asarray(arrays[group.name], dtype=np.float64) for group in groups]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Expected the fitted state of a NeighborIndex, found none of {error}. The file is damaged.") from error
        for group, values in zip(groups, index.values_, strict=True):
            if values.shape != (len(index.ids_), len(group.column_names)):
                raise CheckpointError(
                    f"Expected {len(index.ids_)} patients × {len(group.column_names)} columns of the group {group.name!r}, found {values.shape}."
                )
        index._prepare()
        return index

    def _check_arguments(self) -> None:
        names = [group.name for group in self.groups]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Expected at least one group of features, each with a name of its own; found {names}.")
        if self.search not in get_args(Search):
            raise ConfigError(f"Expected search to be one of {', '.join(map(repr, get_args(Search)))}; found {self.search!r}.")

    def _check_fits(self, X: Cohort | pd.DataFrame) -> None:
        """Check kinds and units against those of the training cohort, where both sides say them."""
        table = as_table(X)
        absent = [name for group in self.groups for name in group.column_names if name not in table.columns]
        if absent:
            raise SchemaError(f"Expected the columns {absent} of the training patients, found {list(table.columns)}. Add them.")
        if self.schema_ is None or not isinstance(X, Cohort):
            return
        for column in self.schema_:
            found = X.schema[column.name]
            if (found.kind, found.unit) != (column.kind, column.unit):
                raise SchemaError(
                    f"Expected the column {column.name!r} as the training patients have it ({column.kind}, unit {column.unit}), "
                    f"found {found.kind}, unit {found.unit}. Convert it, or correct the schema."
                )

    def _prepare(self) -> None:
        """All that follows from the values: which search, how good it is, and how alike neighbours are among training patients."""
        self.weights_ = np.array([group.weight for group in self.groups]) / sum(group.weight for group in self.groups)
        self.blocks_ = BlockSearch(self.similarities_, self.weights_, self.values_)
        self.lists_ = self._inverted_lists()
        self.search_: Literal["exact", "approximate"] = "exact" if self.lists_ is None else "approximate"
        rng = np.random.default_rng(self.seed)
        sample = np.sort(rng.choice(len(self.ids_), min(len(self.ids_), _SAMPLE), replace=False))
        self.recall_ = 1.0 if self.lists_ is None else self._widened(self.lists_, sample[:: max(1, len(sample) // _RECALL_SAMPLE)])
        found, similarity = self._search([values[sample] for values in self.values_], self.n_neighbors, sample)
        self.familiarity_ = np.sort(similarity.mean(axis=1))
        # Where the sample is everybody, their neighbours are known, and asked for next as a rule.
        self.known_ = (found, similarity) if len(sample) == len(self.ids_) else None

    def _inverted_lists(self) -> InvertedLists | None:
        if self.search == "exact" or (self.search == "auto" and len(self.ids_) < self.threshold):
            return None
        vectors = None if any(np.isnan(values).any() for values in self.values_) else self._vectors(self.values_)
        if vectors is not None:
            return InvertedLists(*vectors, seed=self.seed)
        if self.search == "auto":
            return None
        raise ConfigError(
            "Expected a similarity that ranks as a distance of vectors for an approximate search (one group, or cosine and agreement without "
            f"tolerance; no missing values), found {[(group.name, group.similarity) for group in self.groups]}. Use search='exact'."
        )

    def _widened(self, lists: InvertedLists, sample: Integers) -> float:
        """Recall among a sample of training patients, once twice as many lists were searched as often as it took."""
        values = [x[sample] for x in self.values_]
        exact, _ = self.blocks_.nearest(values, self.n_neighbors, sample)
        while True:
            found, _ = self._search(values, self.n_neighbors, sample)
            recall = float((found[:, :, None] == exact[:, None, :]).any(axis=2).mean())
            if recall >= self.min_recall or not lists.widen():
                return recall

    def _vectors(self, values: Sequence[Floats]) -> tuple[str, Floats] | None:
        """Metric and vectors `[n, D]` that rank as the similarity does; None if there are none."""
        parts = [similarity.vectors(x) for similarity, x in zip(self.similarities_, values, strict=True)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        if len(known) == 1:
            return known[0]
        if any(metric != "product" for metric, _ in known):
            return None
        return "product", np.concatenate([np.sqrt(weight) * vectors for weight, (_, vectors) in zip(self.weights_, known, strict=True)], axis=1)

    def _neighbors(self, ids: tuple[str, ...], values: list[Floats], k: int, own: Integers | None) -> Neighbors:
        wanted = max(k, self.n_neighbors)
        known = self.known_ if values is self.values_ and wanted == self.n_neighbors else None
        indices, similarity = self._search(values, wanted, own) if known is None else (known[0].copy(), known[1].copy())
        familiar = similarity[:, : self.n_neighbors].mean(axis=1)
        more = len(self.familiarity_) - np.searchsorted(self.familiarity_, familiar, side="right")
        indices = indices[:, :k]
        pairs = [s.exact(x[:, None], y[indices]) for s, x, y in zip(self.similarities_, values, self.values_, strict=True)]
        return Neighbors(
            ids,
            np.asarray(self.ids_, dtype=object)[indices],
            indices,
            similarity[:, :k],
            np.stack(pairs, axis=-1),
            tuple(group.name for group in self.groups),
            more / len(self.familiarity_),
        )

    def _search(self, values: list[Floats], k: int, own: Integers | None) -> tuple[Integers, Floats]:
        """Places and similarities `[m, k]` of neighbours; `own` are places that do not count `[m]`."""
        whole = ~np.any([np.isnan(x).any(axis=1) for x in values], axis=0)
        vectors = None if self.lists_ is None else self._vectors([x[whole] for x in values])
        if self.lists_ is None or vectors is None or not whole.any():
            return self.blocks_.nearest(values, k, own)
        indices, similarity = np.empty((len(whole), k), dtype=np.int64), np.empty((len(whole), k))
        candidates = self.lists_.search(vectors[1], min(k + SPARE, len(self.ids_)))
        indices[whole], similarity[whole] = self.blocks_.settle([x[whole] for x in values], candidates, k, None if own is None else own[whole])
        if not whole.all():
            lacking = [x[~whole] for x in values]
            indices[~whole], similarity[~whole] = self.blocks_.nearest(lacking, k, None if own is None else own[~whole])
        return indices, similarity


def _ids(X: Cohort | pd.DataFrame) -> tuple[str, ...]:
    ids = as_table(X).index.tolist()
    check_ids(ids)
    return tuple(ids)


def _part(X: Cohort | pd.DataFrame, groups: Sequence[FeatureGroup]) -> Schema | None:
    if not isinstance(X, Cohort):
        return None
    return Schema([X.schema[name] for name in dict.fromkeys(name for group in groups for name in group.column_names)])


def _check_k(k: int, n: int) -> None:
    if k < 1:
        raise ConfigError(f"Expected at least one neighbour of a patient, found {k}.")
    if k >= n:
        raise DataError(f"Expected more training patients than neighbours, found {n} patients and {k} neighbours. Ask for fewer.")
