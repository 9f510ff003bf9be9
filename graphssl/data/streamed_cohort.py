"""A cohort that is read a few shards at a time: who its subjects are is in memory, what is known of them is not."""

import copy
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.regions import RegionData
from graphssl.data.schema import Schema
from graphssl.data.shards import ShardFolder
from graphssl.errors import ConfigError


class StreamedCohort:
    """A cohort in shards of which only a window of shards is ever in memory.

    In memory are ids and the columns with the roles group, site, target and split, which splits and objectives read of everybody. Region data are
    mapped files; other columns are read a shard at a time, or one column at a time where something is learned of it.

    Args:
        folder: Folder of a cohort in shards, as `write_shards` makes it.
        window: Shards in memory, at most; all when left out.

    Attributes:
        known: The subjects as a cohort, with the columns that are in memory and mapped region data.

    Raises:
        ConfigError: If the window is to hold no shard.
        DataError: If the folder holds no cohort in shards, or a file of it is missing, cut or changed.
        SchemaError: If a subject is in two shards.
    """

    def __init__(self, folder: str | os.PathLike[str], window: int | None = None) -> None:
        self.folder = ShardFolder(folder)
        self.n_shards = len(self.folder.shards)
        self.window = self.n_shards if window is None else window
        if self.window < 1:
            raise ConfigError(f"Expected a window of one shard or more, found window={window}.")
        held = [column for column in self.schema if column.role in _HELD]
        tables = [self.folder.table(number, [column.name for column in held]) for number in range(self.n_shards)]
        self._places = np.repeat(np.arange(self.n_shards), list(map(len, tables)))
        self.known = Cohort(self.name, pd.concat(tables), Schema(held), self.folder.regions(), self.folder.excluded)

    def __len__(self) -> int:
        return len(self.known)

    def __repr__(self) -> str:
        regions = "".join(f", {name} {data.provenance.kind}" for name, data in self.known.regions.items())
        return f"StreamedCohort({self.name!r}: {len(self)} subjects, {self.window} of {self.n_shards} shards at a time{regions})"

    @property
    def name(self) -> str:
        """Name for reports and results."""
        return self.folder.name

    @property
    def schema(self) -> Schema:
        """Kind and role of every column."""
        return self.folder.schema

    @property
    def hash(self) -> str:
        """Twelve hex digits over the contents of all shards, whoever is selected."""
        return self.folder.hash

    @property
    def excluded(self) -> pd.DataFrame:
        """What was left out when the cohort was made."""
        return self.known.excluded

    @property
    def ids(self) -> list[str]:
        """Subject ids, in order."""
        return self.known.ids

    @property
    def shards(self) -> npt.NDArray[np.int64]:
        """Number of the shard of each subject `[n]`."""
        return self._places

    @property
    def has_all(self) -> bool:
        """Whether the window holds all shards."""
        return self.window >= self.n_shards

    def check(self) -> None:
        """Compare all files with their hashes, which else is done when a shard is first read.

        Raises:
            DataError: If a file is not what was written.
        """
        for number in range(self.n_shards):
            self.folder.check(number)

    def select(self, subjects: Iterable[str] | npt.NDArray[Any]) -> "StreamedCohort":
        """The given subjects, by id or by a mask of booleans `[n]`, in the given order.

        Raises:
            DataError: If an id is not in the cohort, or a mask has another length.
        """
        chosen = copy.copy(self)
        chosen.known = self.known.select(subjects)
        chosen._places = self._places[self.known.subjects.index.get_indexer(chosen.known.subjects.index)]
        return chosen

    def column(self, name: str) -> "pd.Series[Any]":
        """A column of all subjects, in their order."""
        shards = np.unique(self._places).tolist()
        return pd.concat([self.folder.table(number, [name])[name] for number in shards]).loc[self.known.subjects.index]

    def part(self, number: int) -> Cohort:
        """The subjects of a shard, in their order, with all that is known of them.

        Args:
            number: Number of the shard.

        Raises:
            DataError: If a file of the shard is not what was written.
        """
        self.folder.check(number)
        table = self.folder.table(number).loc[self.known.subjects.index[self._places == number]]
        regions = {name: data.select(table.index) for name, data in self.known.regions.items()}
        return Cohort(self.name, table, self.schema, {name: data for name, data in regions.items() if len(data)})

    def parts(self) -> Iterator[Cohort]:
        """The subjects, shard by shard."""
        return map(self.part, np.unique(self._places).tolist())

    def whole(self) -> Cohort:
        """All subjects in memory, as a cohort that was never in shards.

        Raises:
            DataError: If a file is not what was written.
        """
        parts = list(self.parts())
        regions = {
            name: RegionData(data.atlas, {subject: np.array(array) for subject, array in data.values.items()}, data.provenance, data.observed)
            for name, data in self.known.regions.items()
            if len(data)
        }
        table = pd.concat([part.subjects for part in parts]).loc[self.known.subjects.index]
        return Cohort(self.name, table, self.schema, regions, self.known.excluded)


_HELD = ("group", "site", "target", "split")
