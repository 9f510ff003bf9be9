"""The batches of sources: made once, of which tasks take their rows."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import pandas as pd
import torch
from sklearn.base import clone
from torch import Tensor

from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.image_batch import ImageBatch
from graphssl.data.regions import RegionData
from graphssl.data.schema import Schema
from graphssl.errors import ConfigError, DataError
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.training.meta.tasks import Source, Task


class SourceBatches:
    """The subjects of each source as one batch in memory.

    Connectomes are centred source by source, on the source's own subjects, so that what a scanner adds to all of its subjects is in no task; a target
    has to be treated alike (`centred_on`). Atlases may differ from source to source. Records (tables, timelines, events), and connectomes with
    covariates or a harmoniser, are made by one builder fitted on all, for the encoder must find the same columns everywhere.

    Patients of a population are attached to those of the other sources, as patients of a target will be to those of all sources: nobody in a task
    learns from anybody else in it. A source that is alone is its own population.

    Args:
        sources: The sources.
        builder: How batches are made; fitted here.
        is_fitted: Whether it was fitted before; it is then taken as it is.

    Attributes:
        builder_: The builder fitted on the subjects of all sources, for the model.

    Raises:
        DataError: If region data of one atlas are of different kinds.
        AtlasError: If atlases of one name have other labels.
        SchemaError: If columns of records differ between sources, or a subject of records is in two.
        ConfigError: If a population is transductive.
    """

    def __init__(self, sources: Sequence[Source], builder: AbstractBuilder, *, is_fitted: bool = False) -> None:
        if isinstance(builder, PopulationBuilder) and builder.transductive:
            raise ConfigError(
                "Expected a population to which patients are attached one by one, found transductive=True, where the query of a task is in the graph "
                "of its support. Set transductive to false."
            )
        self.sources, self.device = {source.name: source for source in sources}, torch.device("cpu")
        self.builder_ = builder if is_fitted else clone(builder).fit(together(sources, of_regions=_reads_regions_only(builder)))
        self.batches: dict[str, Batch] = _named_alike({source.name: self._batch(source) for source in sources})
        self._rows = {name: _rows_by_subject(batch.subject_ids) for name, batch in self.batches.items()}

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        moved = copy.copy(self)
        moved.device = device
        moved.batches = {name: _moved(batch, device) for name, batch in self.batches.items()}
        return moved

    def of_target(self, cohort: Cohort) -> Batch:
        """The batch of other subjects, treated as those of a source are."""
        return _moved(self._made(self.builder_, cohort), self.device)

    @property
    def keeps_apart(self) -> bool:
        """Whether nobody in a task learns from anybody else in it; in a population of one source patients do."""
        return len(self.sources) > 1 or not isinstance(self.builder_, PopulationBuilder)

    def support(self, task: Task) -> tuple[Batch, Tensor]:
        """The rows of a task's support, and the class of each row `[B]`."""
        return self.take(task.source, task.support, task.support_labels)

    def query(self, task: Task) -> tuple[Batch, Tensor]:
        """The rows of a task's query, and the class of each row `[B]`."""
        return self.take(task.source, task.query, task.query_labels)

    def take(self, source: str, subjects: Sequence[str], labels: Sequence[int]) -> tuple[Batch, Tensor]:
        """The rows of some subjects of a source, subject by subject, and the class of each row.

        Args:
            source: Name of the source.
            subjects: Ids of the subjects.
            labels: Class of each subject, as a number.

        Raises:
            DataError: If a subject has no row.
        """
        rows = self._rows[source]
        absent = [subject for subject in subjects if subject not in rows]
        if absent:
            raise DataError(f"Expected rows of every subject of a task of {source!r}, found none for {absent[:5]}.")
        chosen = [row for subject in subjects for row in rows[subject]]
        repeated = [label for subject, label in zip(subjects, labels, strict=True) for _ in rows[subject]]
        return self.batches[source][chosen].to(self.device), torch.tensor(repeated, device=self.device)

    def _batch(self, source: Source) -> Batch:
        builder, others = self.builder_, [other for other in self.sources.values() if other.name != source.name]
        if isinstance(builder, PopulationBuilder) and others:
            builder = builder.among(together(others))
        return self._made(builder, source.cohort.select(list(source.labels)))

    def _made(self, builder: AbstractBuilder, cohort: Cohort) -> Batch:
        if isinstance(builder, ConnectomeBuilder) and _reads_regions_only(builder):
            builder = centred_on(builder, cohort)
        return builder.transform(cohort)


def centred_on(builder: ConnectomeBuilder, cohort: Cohort) -> ConnectomeBuilder:
    """A builder of the same arguments fitted on some subjects, as those of a source are; in the atlases that these have.

    Args:
        builder: Whose arguments to use.
        cohort: Subjects to fit on; leave test subjects out of it.
    """
    atlases = None if builder.atlases is None else [name for name in builder.atlases if name in cohort.regions] or None
    fitted: ConnectomeBuilder = clone(builder).set_params(atlases=atlases)
    return fitted.fit(cohort)


def _moved(batch: Batch, device: torch.device) -> Batch:
    """A batch on another device; images, which are decoded when they are moved, follow task by task."""
    return batch if isinstance(batch, ImageBatch) else batch.to(device)


def with_network_names(batch: ConnectomeBatch, names: tuple[str, ...]) -> ConnectomeBatch:
    """A batch with its networks counted by other names, so that batches of different atlases go together.

    Args:
        batch: The batch.
        names: Names of the networks, its own among them.

    Raises:
        DataError: If a name of the batch is not among them.
    """
    absent = sorted(set(batch.network_names) - set(names))
    if absent:
        raise DataError(f"Expected the networks of the batch among {list(names)}, found {absent[:5]} too.")
    places = torch.tensor([*(names.index(name) for name in batch.network_names), -1], device=batch.device)  # the last is that of the unknown
    return replace(batch, networks=places[batch.networks], network_names=names)


def _named_alike(batches: dict[str, Batch]) -> dict[str, Batch]:
    """Batches whose networks are counted by the names of all of them, since cohorts may know different networks of one atlas."""
    names = {name for batch in batches.values() if isinstance(batch, ConnectomeBatch) for name in batch.network_names}
    in_order = tuple(sorted(names))
    return {name: with_network_names(batch, in_order) if isinstance(batch, ConnectomeBatch) else batch for name, batch in batches.items()}


def together(sources: Sequence[Source], *, of_regions: bool = False) -> Cohort:
    """The subjects of all sources as one cohort.

    Args:
        sources: The sources, whose columns are the same.
        of_regions: Whether only region data are wanted; columns may then differ, and are left out, and subjects are named `source/subject`.

    Raises:
        SchemaError: If columns differ, or a subject is in two sources.
        AtlasError: If atlases of one name have other labels.
        DataError: If region data or images do not fit.
    """
    parts = [source.cohort.select(list(source.labels)) for source in sources]
    if not of_regions:
        joined = parts[0]
        for part in parts[1:]:
            joined = joined | part
        return joined
    regions: dict[str, RegionData] = {}
    for source, part in zip(sources, parts, strict=True):
        for name, data in part.regions.items():
            named = _renamed(data, source.name)
            regions[name] = regions[name].union(named) if name in regions else named
    ids = [f"{source.name}/{subject}" for source, part in zip(sources, parts, strict=True) for subject in part.ids]
    return Cohort("+".join(source.name for source in sources), pd.DataFrame(index=pd.Index(ids, dtype="str")), Schema([]), regions)


def _reads_regions_only(builder: AbstractBuilder) -> bool:
    return isinstance(builder, ConnectomeBuilder) and not builder.covariates and builder.harmonizer is None


def _renamed(data: RegionData, prefix: str) -> RegionData:
    """Region data with the source before the subject, for two sources may use one id."""

    def named(of_subjects: Any) -> dict[str, Any]:
        return {f"{prefix}/{subject}": value for subject, value in of_subjects.items()}

    return RegionData(data.atlas, named(data.values), data.provenance, named(data.observed))


def _rows_by_subject(subject_ids: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, subject in enumerate(subject_ids):
        rows.setdefault(subject, []).append(row)
    return rows
