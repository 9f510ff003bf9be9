"""A cohort that is read a few shards at a time: who its subjects are is in memory, what is known of them is not."""

import copy
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.events import Events
from graphssl.data.regions import RegionData
from graphssl.data.schema import Schema
from graphssl.data.shards import ShardFolder
from graphssl.errors import ConfigError


class StreamedCohort:
    """A cohort in shards of which only a window of shards is ever in memory.

    In memory are ids and the columns with the roles group, site, target and split, which splits and objectives read of everybody. Region data are
    mapped files; other columns and events are read a shard at a time, or one column at a time where something is learned of it.

    Args:
        folder: Folder of a cohort in shards, as `write_shards` makes it.
        window: Shards in memory, at most; all when left out.

    Attributes:
        known: The subjects as a cohort, with the columns that are in memory and mapped region data.
        shards: Number of the shard of each subject `[n]`.

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
        self.shards: npt.NDArray[np.int64] = np.repeat(np.arange(self.n_shards), list(map(len, tables)))
        self._rows = np.concatenate([np.arange(len(table)) for table in tables])  # place of each subject in its shard
        self.known = Cohort(self.name, pd.concat(tables), Schema(held), self.folder.regions(), self.folder.excluded)

    def __len__(self) -> int:
        return len(self.known)

    def __repr__(self) -> str:
        regions = "".join(f", {name} {data.provenance.kind}" for name, data in self.known.regions.items())
        events = "" if self.folder.n_reordered is None else ", events"
        return f"StreamedCohort({self.name!r}: {len(self)} subjects, {self.window} of {self.n_shards} shards at a time{regions}{events})"

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
        places = self.known.subjects.index.get_indexer(chosen.known.subjects.index)
        chosen.shards, chosen._rows = self.shards[places], self._rows[places]
        vars(chosen).pop("_by_shard", None)  # which is that of the subjects before
        return chosen

    def column(self, name: str) -> "pd.Series[Any]":
        """A column of all subjects, in their order."""
        pieces = [self.folder.column(number, name).iloc[self._rows[places]] for number, places in self._by_shard.items()]
        found = pd.concat(pieces).iloc[np.argsort(np.concatenate(list(self._by_shard.values())))]
        return found.set_axis(self.known.subjects.index)

    def part(self, number: int) -> Cohort:
        """The subjects of a shard, in their order, with all that is known of them.

        Args:
            number: Number of the shard.

        Raises:
            DataError: If a file of the shard is not what was written.
        """
        self.folder.check(number)
        table = self.folder.table(number).iloc[self._rows[self._by_shard[number]]]
        regions = {name: data.select(table.index) for name, data in self.known.regions.items()}
        events = self.folder.events(number)
        events = None if events is None else events.select(table.index)
        return Cohort(self.name, table, self.schema, {name: data for name, data in regions.items() if len(data)}, events=events)

    @cached_property
    def _by_shard(self) -> dict[int, npt.NDArray[np.int64]]:
        """Places of the subjects of each shard that has some."""
        numbers, sizes = np.unique(self.shards, return_counts=True)
        return dict(zip(numbers.tolist(), np.split(np.argsort(self.shards, kind="stable"), np.cumsum(sizes)[:-1]), strict=True))

    def parts(self) -> Iterator[Cohort]:
        """The subjects, shard by shard."""
        return map(self.part, self._by_shard)

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
        events = self._joined([part.events for part in parts if part.events is not None])
        return Cohort(self.name, table, self.schema, regions, self.known.excluded, events)

    def sample(self, seed: int = 0) -> Cohort:
        """As many subjects as the window holds, drawn at random, in memory; all where there are no more.

        Args:
            seed: Seed of the draw.

        Raises:
            DataError: If a file is not what was written.
        """
        n_held = sum(sorted(shard.n_subjects for shard in self.folder.shards)[-self.window :])
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:n_held])
        return self.select(self.known.subjects.index[chosen]).whole()

    def _joined(self, streams: list[Events]) -> Events | None:
        """Events of all shards as one stream."""
        while len(streams) > 1:  # by twos: each event is copied as often as the number of shards can be halved
            streams = [reduce(Events.union, streams[k : k + 2]) for k in range(0, len(streams), 2)]
        return replace(streams[0], n_reordered=self.folder.n_reordered or 0) if streams else None


_HELD = ("group", "site", "target", "split")
