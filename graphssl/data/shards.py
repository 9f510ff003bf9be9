"""A cohort in shards: a folder of Parquet and NumPy files of some subjects each, and an index that seals them."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import EXCLUDED_COLUMNS, Cohort
from graphssl.data.events import Events
from graphssl.data.regions import Provenance, RegionData
from graphssl.data.schema import Schema
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.folders import written_whole
from graphssl.seal import file_hash

INDEX = "shards.json"
_FORMAT = 1


def write_shards(cohort: Cohort | Iterable[Cohort], folder: str | os.PathLike[str], *, size: int = 1024) -> Path:
    """Write a cohort as a folder of shards, whole or not at all.

    Columns lie as Parquet in `subjects/`, events as Parquet in the columns of MEDS in `data/`, region data as one array a shard and atlas in
    `regions/`, which is mapped into memory when it is read. A cohort that does not fit into memory is given in parts, such as by a generator; one
    part is held at a time, and the ids of all.

    Args:
        cohort: The cohort, or parts of it that are alike in columns and atlases. Each part begins a new shard.
        folder: The folder.
        size: Subjects in a shard, at most.

    Raises:
        ConfigError: If a shard is to hold no subject.
        DataError: If there is no part, one has images, or parts differ in the kind of their region data or in whether they have events.
        AtlasError: If atlases of one name differ.
        SchemaError: If parts differ in columns, or a subject is in two.
        RunFolderError: If the folder exists and is not an earlier cohort in shards.
    """
    if size < 1:
        raise ConfigError(f"Expected shards of one subject or more, found size={size}.")
    with written_whole(folder, marker=INDEX, what="a cohort in shards") as aside:
        writer = _Writer(aside)
        for part in [cohort] if isinstance(cohort, Cohort) else cohort:
            writer.add(part, size)
        writer.finish()
    return Path(folder)


class Shard(NamedTuple):
    """Some subjects of a cohort in shards.

    Args:
        name: Its number as text, by which its files are called.
        n_subjects: Subjects in it.
        files: Bytes and SHA-256 of each file, by its place in the folder.
    """

    name: str
    n_subjects: int
    files: dict[str, tuple[int, str]]


class ShardFolder:
    """A cohort in shards, opened. That no file is missing or cut is seen now; that none was changed when a shard is first read.

    Args:
        folder: The folder.

    Attributes:
        name: Name of the cohort.
        hash: Twelve hex digits over everything, the hashes of all files among it.
        schema: Kind and role of every column.
        shards: The shards, in order.
        n_reordered: Events that were out of order in their source; None where there are no events.

    Raises:
        DataError: If the index is absent, changed or of another version, or a file is missing or of another length.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        record = _read_index(self.path / INDEX)
        try:
            self.name, self.hash, self.schema = str(record["name"]), str(record["hash"]), Schema.from_dict(record["schema"])
            self.shards = tuple(Shard(name, n, {place: (size, sha) for place, (size, sha) in files.items()}) for name, n, files in record["shards"])
            self._regions = {name: (Atlas.from_dict(one["atlas"]), Provenance(**one["provenance"])) for name, one in record["regions"].items()}
            self.n_reordered: int | None = record["n_reordered"]
            self.excluded = pd.DataFrame(record["excluded"], columns=list(EXCLUDED_COLUMNS), dtype="str")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"Expected an index of shards in {self.path / INDEX}, found one without {error}. Write the shards again.") from error
        self._files = {place: sealed for shard in self.shards for place, sealed in shard.files.items()}
        self._unchanged: set[str] = set()
        for place in self._files:
            self._check_size(place)

    def check(self, number: int) -> None:
        """Compare the files of a shard with their hashes, if that was not done before.

        Raises:
            DataError: If a file is not what was written.
        """
        for place in self.shards[number].files:
            self._check(place)

    def table(self, number: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Columns of the subjects of a shard.

        Args:
            number: Number of the shard.
            columns: Names of the columns; all when left out.

        Raises:
            DataError: If a file of the shard cannot be read, or is not what was written.
        """
        shard = self.shards[number]
        path = self._check(_subjects(shard.name))
        with self._reading(shard):
            return pd.read_parquet(path, columns=None if columns is None else list(columns))

    def column(self, number: int, name: str) -> "pd.Series[Any]":
        """A column of the subjects of a shard, without their ids, which take most of the time to read.

        Raises:
            DataError: If the file of the shard cannot be read, or is not what was written.
        """
        shard = self.shards[number]
        path = self._check(_subjects(shard.name))
        with self._reading(shard):
            return pq.read_table(path, columns=[name]).to_pandas(ignore_metadata=True)[name]

    def events(self, number: int) -> Events | None:
        """Events of the subjects of a shard; None where the cohort has none.

        Raises:
            DataError: If a file of the shard cannot be read, or is not what was written.
        """
        if self.n_reordered is None:
            return None
        shard = self.shards[number]
        path, codes = self._check(_events(shard.name)), _codes(shard.name)
        with self._reading(shard):
            found = Events.load(path)
            return replace(found, codes=pd.read_parquet(self._check(codes))) if codes in shard.files else found

    def regions(self) -> dict[str, RegionData]:
        """Region data of all subjects by atlas, as views of files that are mapped into memory: what is not looked at is not read.

        Raises:
            DataError: If a file of a shard cannot be read.
        """
        return {name: self._mapped(name, atlas, provenance) for name, (atlas, provenance) in self._regions.items()}

    def _mapped(self, name: str, atlas: Atlas, provenance: Provenance) -> RegionData:
        values: dict[str, npt.NDArray[np.float32]] = {}
        observed: dict[str, npt.NDArray[np.bool_]] = {}
        for shard in self.shards:
            if _regions(name, shard.name, "npy") not in shard.files:
                continue
            path = self._check(_regions(name, shard.name, "parquet"))
            with self._reading(shard):
                rows = pd.read_parquet(path)
                stack = np.load(self.path / _regions(name, shard.name, "npy"), mmap_mode="r")
                if stack.shape != (rows["n_rows"].sum(), len(atlas)) or stack.dtype != np.float32:
                    raise DataError(f"an array of shape {stack.shape} and type {stack.dtype} for {rows['n_rows'].sum()} rows of {name}")
                ids, ends = rows["subject_id"].tolist(), rows["n_rows"].cumsum().tolist()
                values |= {subject: stack[start:end] for subject, start, end in zip(ids, [0, *ends], ends, strict=False)}
                observed |= dict(zip(ids, np.stack(rows["observed"].to_list()).astype(bool), strict=True))
        return RegionData(atlas, values, provenance, observed)

    def _check(self, place: str) -> Path:
        if place not in self._files:
            raise DataError(f"Expected {place} among the files of {self.path / INDEX}, found none. Write the shards again.")
        if place not in self._unchanged:
            self._check_size(place)
            if file_hash(self.path / place) != self._files[place][1]:
                raise DataError(f"Expected {place} of {self.path} as it was written, found a changed file. Copy it again, or write the shards again.")
            self._unchanged.add(place)
        return self.path / place

    def _check_size(self, place: str) -> None:
        path, size = self.path / place, self._files[place][0]
        found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
        if found != f"{size} bytes":
            raise DataError(f"Expected {size} bytes in {place} of {self.path}, found {found}. Copy it again, or write the shards again.")

    @contextmanager
    def _reading(self, shard: Shard) -> Iterator[None]:
        """What others' readers raise, with the name of the shard."""
        try:
            yield
        except Exception as error:  # damaged bytes make the readers of others fail in any way
            raise DataError(f"Expected shard {shard.name} of {self.path} as it was written, found {error}. Write the shards again.") from error


class _Writer:
    """Writes one shard after the other into a folder, and the index at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name, self.schema = "", Schema([])
        self.shards: list[Shard] = []
        self.ids: list["pd.Index[Any]"] = []
        self.excluded: list[pd.DataFrame] = []
        self.regions: dict[str, RegionData] = {}  # without values: atlas and provenance
        self.n_reordered: int | None = None

    def add(self, part: Cohort, size: int) -> None:
        """Write a part as one or more shards."""
        self._check(part)
        self.excluded.append(part.excluded)
        for name, data in part.regions.items():
            empty = RegionData(data.atlas, {}, data.provenance)
            self.regions[name] = self.regions[name].union(empty) if name in self.regions else empty
        ids = part.ids
        for start in range(0, len(ids), size):
            self._write(part.select(ids[start : start + size]))

    def finish(self) -> None:
        """Write what belongs to all shards."""
        if not self.shards:
            raise DataError("Expected at least one part of a cohort to write, found none.")
        ids = self.ids[0].append(self.ids[1:])
        if not ids.is_unique:
            twice = ids[ids.duplicated()].unique().tolist()
            raise SchemaError(f"Expected each subject in one part, found {len(twice)} in several: {twice[:5]}. Leave them out of all but one.")
        excluded = pd.concat(self.excluded).drop_duplicates().to_numpy().tolist()
        regions = {name: {"atlas": data.atlas.to_dict(), "provenance": data.provenance.to_dict()} for name, data in self.regions.items()}
        record: dict[str, Any] = {"format": _FORMAT, "name": self.name, "schema": self.schema.to_dict(), "regions": regions}
        record |= {"n_reordered": self.n_reordered, "excluded": excluded, "shards": self.shards}
        (self.folder / INDEX).write_text(json.dumps({"hash": _digest(record), **record}), encoding="utf-8")

    def _check(self, part: Cohort) -> None:
        if part.images:
            raise DataError(
                f"Expected columns, region data and events to write in shards, found images in {part.name!r}, which are read from their files "
                "anyway. Save the cohort as it is."
            )
        if self.shards and (part.events is None) != (self.n_reordered is None):
            raise DataError(f"Expected events in all parts or in none, found {'none' if part.events is None else 'some'} in a later one.")
        if part.events is not None:
            self.n_reordered = (self.n_reordered or 0) + part.events.n_reordered
        if not self.shards:
            self.name, self.schema = part.name, part.schema
        if part.schema.to_dict() != self.schema.to_dict():
            raise SchemaError(f"Expected the columns of the first part in every part, found {part.schema!r} later. Read all parts with one schema.")

    def _write(self, cohort: Cohort) -> None:
        name = f"{len(self.shards):05d}"
        self.ids.append(cohort.subjects.index)
        cohort.subjects.rename_axis(None).to_parquet(self._place(_subjects(name)), index=True)
        places = [_subjects(name)]
        for atlas, data in cohort.regions.items():
            if len(data):
                arrays = list(data.values.values())
                np.save(self._place(_regions(atlas, name, "npy")), np.concatenate(arrays, dtype=np.float32))
                rows = {
                    "subject_id": list(data.values),
                    "n_rows": list(map(len, arrays)),
                    "observed": [data.observed[s].tolist() for s in data.values],
                }
                pd.DataFrame(rows).to_parquet(self._place(_regions(atlas, name, "parquet")), index=False)
                places += [_regions(atlas, name, ending) for ending in ("npy", "parquet")]
        if cohort.events is not None:
            cohort.events.save(self._place(_events(name)))
            places.append(_events(name))
            if cohort.events.codes is not None:
                cohort.events.codes.to_parquet(self._place(_codes(name)))
                places.append(_codes(name))
        sealed = {place: ((self.folder / place).stat().st_size, file_hash(self.folder / place)) for place in places}
        self.shards.append(Shard(name, len(cohort), sealed))

    def _place(self, place: str) -> Path:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _subjects(shard: str) -> str:
    return f"subjects/{shard}.parquet"


def _events(shard: str) -> str:
    return f"data/{shard}.parquet"


def _codes(shard: str) -> str:
    return f"metadata/{shard}.parquet"


def _regions(atlas: str, shard: str, ending: str) -> str:
    return f"regions/{quote(atlas, safe='')}/{shard}.{ending}"


def _read_index(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"Expected a cohort in shards at {path.parent} (with {INDEX}), found none. Make one with `graphssl build --shards`.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        is_known = record["format"] == _FORMAT
        is_sealed = record["hash"] == _digest({key: value for key, value in record.items() if key != "hash"})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"Expected an index of shards in {path}, found a damaged file ({error!r}). Write the shards again.") from error
    if not (is_known and is_sealed):
        found = "a changed one" if is_known else f"format {record['format']}, of another version"
        raise DataError(f"Expected the index {path} as it was written, of format {_FORMAT}, found {found}. Write the shards again.")
    return dict(record)


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
