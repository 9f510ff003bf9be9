"""From cohorts to patients in a population: their records as tokens, and neighbours among the training patients."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from graphssl.data.builder import AbstractTokenizer
from graphssl.data.cohort import Cohort
from graphssl.data.event_tokens import EventBatch, EventTokenizer
from graphssl.data.multimodal import MultimodalBatch, MultimodalBuilder
from graphssl.data.population import PopulationGraph
from graphssl.data.population_batch import Patients, Population, PopulationBatch
from graphssl.data.records import AbstractRecords
from graphssl.data.stored_patients import images_at, restored_patients, stored_patients
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer, TableBatch
from graphssl.data.timeline import TimelineBatch, TimelineTokenizer
from graphssl.data.transforms import ColumnEncoder, as_table
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.neighbors import NeighborIndex, Neighbors
from graphssl.graphs.population import population_graph


class PopulationBuilder(AbstractTokenizer):
    """A cohort in, a `PopulationBatch` out; the training patients, their records and their graph are what is fitted.

    Two things are told apart: what an encoder reads of a patient, which the tokenizer says (columns, bins of time, events, or connectome, image and
    table side by side), and by what patients are compared, which is always columns of the table, such as those that `EventSummary` makes of events
    before the prediction time, or [`with_vectors`][graphssl.graphs.with_vectors] of what an encoder says of images.

    A patient of the training cohort is its node of the training graph, whatever else is in the call: those without a label stay there for those with
    one. Every other patient is attached to the training patients most like it, and gives nothing to anybody.

    What is fitted holds the training patients' values and ids, and so does every model that is saved with it; of images it holds where they lie and
    what they contain by hash, and nothing is decoded before an encoder reads it.

    Args:
        tokenizer: How the record of a patient becomes tokens; a `ColumnTokenizer` with its defaults when left out. A `MultimodalBuilder` where an
            encoder reads several kinds of data, or images.
        groups: Groups of columns by which patients are compared. When left out, all numbers as one and all categories as another: the first by the
            mean of the columns' distances (`statistics`), which a patient with few values does not make short, the other by `agreement`. Columns are
            then those that the tokenizer reads; where it reads events, all with its roles, summaries of events among them; where it reads several
            kinds of data, those of its `ColumnTokenizer`, or all features.
        n_neighbors: Neighbours of a patient; all others where there are fewer.
        symmetric: Whether training patients are connected where one of the two has the other among its nearest.
        transductive: Connect new patients among all, as most published results do; they are then no longer independent of one another.

    Attributes:
        tokenizer_: The fitted tokenizer.
        index_: Fitted `NeighborIndex`.
        population_: The training patients, as records and as a graph.
    """

    def __init__(
        self,
        tokenizer: ColumnTokenizer | TimelineTokenizer | EventTokenizer | MultimodalBuilder | None = None,
        groups: Sequence[FeatureGroup] | None = None,
        n_neighbors: int = 5,
        symmetric: bool = True,
        transductive: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.groups = groups
        self.n_neighbors = n_neighbors
        self.symmetric = symmetric
        self.transductive = transductive

    def fit(self, cohort: Cohort | pd.DataFrame, y: object = None) -> Self:
        """Learn tokens and similarities from training patients, and keep them with their graph.

        Raises:
            ConfigError: If a group is wrong, or there is no neighbour to be.
            SchemaError: If a column is absent or not of its kind, or there is none to compare patients by.
            DataError: If there is one training patient only, none has a value of a group, or what is to be read is not there.
        """
        tokenizer = clone(self.tokenizer or ColumnTokenizer())
        if not isinstance(cohort, Cohort) and not isinstance(tokenizer, ColumnTokenizer):
            raise DataError(f"Expected a cohort for a {type(tokenizer).__name__}, found a table. Give a cohort, or a ColumnTokenizer.")
        self.tokenizer_ = tokenizer.fit(cohort)
        groups = default_groups(_compared(self.tokenizer_, cohort), cohort) if self.groups is None else self.groups
        return self._among(cohort, groups)

    def among(self, cohort: Cohort | pd.DataFrame) -> Self:
        """A builder of the same tokens and groups with other training patients: those whom all others are attached to.

        Args:
            cohort: The patients of the other population.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent or not of its kind.
            DataError: If there is one patient only, or none has a value of a group.
        """
        check_is_fitted(self, "population_")
        other: Self = clone(self)
        other.tokenizer_ = self.tokenizer_
        return other._among(cohort, self.index_.groups)

    def transform(self, cohort: Cohort | pd.DataFrame, found: Neighbors | None = None) -> PopulationBatch:
        """Any patients: those of the training cohort by their place, others with their neighbours there.

        Args:
            cohort: The patients.
            found: What `index_.query` found for them, where it was asked already; searched when left out.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If a patient has the id of a training patient and other values, or neighbours of other patients are given.
            SchemaError: If a column is absent, or not of the training patients' kind and unit.
        """
        check_is_fitted(self, "population_")
        patients = self.tokenizer_.transform(cohort)
        nodes = torch.from_numpy(pd.Index(self.index_.ids_).get_indexer(pd.Index(patients.subject_ids)))
        self._check_same(patients, nodes)
        if torch.equal(nodes, torch.arange(len(self.population_))):
            patients = self.population_.patients  # all of them: no second copy
        new = (nodes < 0).numpy()
        if self.transductive and new.any():
            return self._joined(cohort, patients, nodes)
        shape = (len(patients), self.index_.n_neighbors if new.any() else 0)
        neighbors = torch.full(shape, -1)
        similarity = torch.zeros(*shape, len(self.index_.groups))
        if new.any():
            indices, by_group = self._neighbors(cohort, patients.subject_ids, new, found)
            neighbors[new], similarity[new] = torch.from_numpy(indices), torch.from_numpy(by_group.astype(np.float32))
        return PopulationBatch(patients, nodes, neighbors, similarity, self.population_)

    def fit_transform(self, cohort: Cohort | pd.DataFrame, y: object = None) -> PopulationBatch:
        """Fit on training patients and give them."""
        return self.fit(cohort).transform(cohort)

    def unknown(self, cohort: Cohort | pd.DataFrame) -> pd.DataFrame:
        """Who has a category that no training patient had, by column of categories.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent.
        """
        check_is_fitted(self, "population_")
        return self.tokenizer_.unknown(cohort)

    def layout(self) -> dict[str, Any]:
        """That of the columns, and the names of the groups by which patients are compared.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "population_")
        return {**self.tokenizer_.layout(), "groups": self.population_.graph.groups}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments and what was fitted, the training patients' ids among it, as plain values; their values and their graph as tensors.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "population_")
        tokenizer, ends = self.tokenizer_.state()
        index, values = self.index_.state()
        graph = self.population_.graph
        tensors = {f"tokenizer.{name}": value for name, value in ends.items()}
        tensors.update({f"index.{name}": torch.from_numpy(value) for name, value in values.items()})
        patients, known = _stored(self.population_.patients)
        tensors.update({f"patients.{name}": value for name, value in known.items()})
        tensors.update({f"graph.{name}": getattr(graph, name) for name in _GRAPH})
        arguments = {name: getattr(self, name) for name in ("n_neighbors", "symmetric", "transductive")}
        kind = type(self.tokenizer_).__name__
        return {"arguments": arguments, "tokenizer": {"class": kind, **tokenizer}, "index": index, **patients}, tensors

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing or does not fit the others.
        """
        try:
            kind = _KINDS[record["tokenizer"]["class"]]
            tokenizer = kind.from_state(record["tokenizer"], _below("tokenizer", tensors))
            index = NeighborIndex.from_state(record["index"], {name: value.numpy() for name, value in _below("index", tensors).items()})
            patients = _restored(tokenizer, index.ids_, record, _below("patients", tensors))
            everybody = torch.ones(len(index.ids_), dtype=torch.bool)
            starts, neighbors, similarity = (tensors[f"graph.{name}"] for name in _GRAPH)
            graph = PopulationGraph(index.ids_, starts, neighbors, similarity, _names(index.groups), everybody)
            builder = cls(tokenizer, index.groups, **record["arguments"])
            builder.population_ = Population(patients, graph)
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise CheckpointError(f"Expected the fitted state of a PopulationBuilder, found a problem with {error}. The file is damaged.") from error
        builder.tokenizer_, builder.index_ = tokenizer, index
        return builder

    def images_at(self, name: str, root: str | os.PathLike[str]) -> Self:
        """A builder whose training patients have their images below another folder, where the files were moved.

        Args:
            name: Name of the modality.
            root: The folder that the paths of the references are relative to.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            ConfigError: If it is no modality of images.
        """
        check_is_fitted(self, "population_")
        patients = self.population_.patients
        if not isinstance(patients, MultimodalBatch):
            raise ConfigError(f"Expected patients with images, found a {type(patients).__name__}. Only a MultimodalBuilder reads images.")
        moved: Self = copy.copy(self)
        moved.population_ = Population(images_at(patients, name, root), self.population_.graph)
        return moved

    def describe(self) -> dict[str, str]:
        """What is read, the graph, and a warning of what it holds, for the model card."""
        n, names = len(self.population_), ", ".join(_names(self.index_.groups))
        return {
            **self.tokenizer_.describe(),
            "population": f"{n} training patients, {self.index_.n_neighbors} neighbours each, over {names}",
            "PATIENT DATA": (
                f"THIS FOLDER HOLDS THE VALUES AND IDS OF {n} TRAINING PATIENTS, from whom new patients learn. "
                "Share it as you may share their table, or not at all."
            ),
        }

    def _among(self, cohort: Cohort | pd.DataFrame, groups: Sequence[FeatureGroup]) -> Self:
        """Keep patients, made by the fitted tokenizer, with their graph."""
        patients = self.tokenizer_.transform(cohort)
        self.index_ = NeighborIndex(groups, n_neighbors=min(self.n_neighbors, max(1, len(patients) - 1))).fit(cohort)
        self.population_ = Population(patients, population_graph(self.index_, symmetric=self.symmetric))
        return self

    def _neighbors(
        self, cohort: Cohort | pd.DataFrame, ids: tuple[str, ...], new: npt.NDArray[np.bool_], found: Neighbors | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Places of the new patients' neighbours, and their similarities by group."""
        if found is None:
            found = self.index_.query(_rows(cohort, new))
            return found.indices, found.by_group
        if found.subject_ids != ids or found.indices.shape[1] != self.index_.n_neighbors:
            raise DataError(
                f"Expected {self.index_.n_neighbors} neighbours of each of the {len(ids)} patients that are given, found {found!r}, "
                "or those of others. Ask index_.query for these patients, or leave them out."
            )
        return found.indices[new], found.by_group[new]

    def _joined(self, cohort: Cohort | pd.DataFrame, patients: Patients, nodes: Tensor) -> PopulationBatch:
        """All patients as one population."""
        new = nodes < 0
        graph = population_graph(self.index_, _rows(cohort, new.numpy()), symmetric=self.symmetric, transductive=True)
        population = Population(patients.cat([self.population_.patients, patients[new]]), graph)
        places = torch.where(new, len(self.population_) + new.cumsum(0) - 1, nodes)
        none = torch.full((len(patients), 0), -1)
        return PopulationBatch(patients, places, none, torch.zeros(*none.shape, len(graph.groups)), population)

    def _check_same(self, patients: Patients, nodes: Tensor) -> None:
        """Check that who has the id of a training patient is that patient."""
        known = nodes >= 0
        given = patients[known]
        other = ~self.population_.patients[nodes[known]].same_rows(given)
        if bool(other.any()):
            raise DataError(
                f"Expected the values of the training patients for those who have their ids, found others for "
                f"{given[other].subject_ids[:5]}. Give patients who are not those of the training cohort ids of their own."
            )


def default_groups(columns: ColumnEncoder, cohort: Cohort | pd.DataFrame) -> list[FeatureGroup]:
    """All numbers as one group and all categories as another, without the columns in which the training patients have no value.

    Args:
        columns: The columns, fitted on the training patients.
        cohort: The training patients.
    """
    seen = as_table(cohort).notna().any()
    numbers = [(column.name,) for column in columns.continuous if seen[column.name]]
    categories = [column.name for column in columns.categorical if seen[column.name]]
    # A mean distance gives similarities up to one half, agreement up to one.
    groups = [FeatureGroup("numbers", numbers, "statistics", weight=2.0)] if numbers else []
    return groups + ([FeatureGroup("categories", categories, "agreement")] if categories else [])


_KINDS: dict[str, type[AbstractTokenizer]] = {kind.__name__: kind for kind in (ColumnTokenizer, TimelineTokenizer, EventTokenizer, MultimodalBuilder)}
_RECORDS: dict[str, type[AbstractRecords]] = {"ColumnTokenizer": TableBatch, "TimelineTokenizer": TimelineBatch, "EventTokenizer": EventBatch}
_GRAPH = ("starts", "neighbors", "similarity")


def _compared(tokenizer: AbstractTokenizer, cohort: Cohort | pd.DataFrame) -> ColumnEncoder:
    """The columns by which patients are compared where no groups are named."""
    if isinstance(tokenizer, ColumnTokenizer):
        return tokenizer.encoder_
    if isinstance(tokenizer, MultimodalBuilder):
        columns = [builder.encoder_ for builder in tokenizer.builders_.values() if isinstance(builder, ColumnTokenizer)]
        return columns[0] if columns else ColumnEncoder().fit(cohort)
    assert isinstance(tokenizer, AbstractStreamTokenizer)
    return ColumnEncoder(roles=tokenizer.roles).fit(cohort)


def _stored(patients: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Patients as plain values, where they need some, and as tensors."""
    if isinstance(patients, MultimodalBatch):
        record, tensors = stored_patients(patients)
        return {"patients": record}, tensors
    return {}, {name: value for name, value in patients.tensors().items() if not name.endswith("hidden")}


def _restored(tokenizer: AbstractTokenizer, ids: tuple[str, ...], record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Patients:
    if isinstance(tokenizer, MultimodalBuilder):
        return restored_patients(ids, record["patients"], tensors, tokenizer)
    return _RECORDS[type(tokenizer).__name__].of_tensors(ids, tensors)


def _rows(X: Cohort | pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> Cohort | pd.DataFrame:
    return X.select(as_table(X).index[chosen].tolist()) if isinstance(X, Cohort) else X[chosen]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def _names(groups: Sequence[FeatureGroup]) -> tuple[str, ...]:
    return tuple(group.name for group in groups)
