"""Event streams: what was measured, given or noted when, one row an event, in the columns of MEDS."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.errors import DataError, SchemaError
from graphssl.folders import ordinary

COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value")

# Where a source counts time from the admission and tells no date, its hour 0.
ORIGIN = pd.Timestamp("2000-01-01")


@dataclass(frozen=True, eq=False)
class Events:
    """Events of many subjects, sorted by subject and time. `Events.of` makes them of any table in the columns of MEDS.

    An event without a time is static: it holds at all times, as a birth date does. Ids, codes and texts are categories and values single precision,
    so that an event takes about 20 bytes.

    Source: Medical Event Data Standard 0.4 (https://medical-event-data-standard.github.io/docs/).

    Args:
        table: One row an event with the columns `subject_id`, `time`, `code`, `numeric_value` and `text_value`, as `of` makes it.
        n_reordered: How often an event of the source stood right behind a later one of the same subject.
        codes: What codes mean, where the source says it: `description` and `parent_codes` (of vocabularies such as LOINC), indexed by code.

    Raises:
        SchemaError: If the columns are others, or were not made by `of`.
    """

    table: pd.DataFrame
    n_reordered: int = 0
    codes: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        found = {name: str(dtype) for name, dtype in self.table.dtypes.items()}
        if found != _DTYPES:
            raise SchemaError(f"Expected events with the columns {_DTYPES}, found {found}. Make them with Events.of(table).")

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Events":
        """Events of a table, in any order.

        Times are naive; those of one zone become UTC. Text is read as ISO 8601.

        Args:
            table: The columns `subject_id` (text or whole numbers), `time` (missing where static) and `code`, and perhaps `numeric_value` and
                `text_value`; others are not read.

        Raises:
            SchemaError: If one of the first three columns is absent, or an id or a code is missing.
            DataError: If a time cannot be read, times are of several zones, or a value is no number or infinite.
        """
        absent = [name for name in COLUMNS[:3] if name not in table.columns]
        if absent:
            raise SchemaError(
                f"Expected events with the columns {list(COLUMNS[:3])}, found {list(table.columns)[:10]}. Rename them, or add {absent}."
            )
        columns = {name: as_category(table[name], name) for name in ("subject_id", "code")}
        for name, column in columns.items():
            if (column.codes < 0).any():
                raise SchemaError(
                    f"Expected a {name} for every event, found none in row {int(np.argmax(column.codes < 0))}. Fill it in, or leave it out."
                )
        times = read_times(table["time"]).to_numpy()
        subjects = columns["subject_id"].codes
        by_subject = np.argsort(subjects, kind="stable")
        by_subject = by_subject[~np.isnat(times[by_subject])]
        back = (np.diff(subjects[by_subject]) == 0) & (np.diff(times[by_subject]) < np.timedelta64(0))
        order = np.lexsort((times.astype("int64"), subjects))  # a missing time is the smallest number: static events come first
        texts = table["text_value"] if "text_value" in table.columns else pd.Series(np.nan, index=table.index, dtype="str")
        tidy = {
            "subject_id": columns["subject_id"][order],
            "time": times[order],
            "code": columns["code"][order],
            "numeric_value": _numbers(table)[order],
            "text_value": as_category(texts, "text_value")[order],
        }
        return cls(pd.DataFrame(tidy), int(back.sum()))

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        reordered = f", {self.n_reordered} out of order in the source" if self.n_reordered else ""
        return f"Events({len(self)} of {len(self.ids)} subjects, {len(self.table['code'].cat.categories)} codes{reordered})"

    @property
    def ids(self) -> list[str]:
        """Subjects with an event, sorted."""
        return self.table["subject_id"].cat.categories.tolist()

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over all events, in their order."""
        digest = hashlib.sha256()
        for name in ("subject_id", "code", "text_value"):
            column = self.table[name].cat
            digest.update("\0".join([name, *column.categories]).encode())
            digest.update(column.codes.to_numpy().astype("int32").tobytes())
        digest.update(self.table["time"].to_numpy().astype("int64").tobytes())
        values = self.table["numeric_value"].to_numpy()
        digest.update(np.where(np.isnan(values), np.float32(np.nan), values).tobytes())
        return digest.hexdigest()[:12]

    def select(self, subjects: Iterable[str]) -> "Events":
        """The events of the given subjects; a subject without any is none of ours to refuse."""
        return self._where(self.table["subject_id"].isin(list(subjects)))

    def before(self, times: "pd.Series[Any]", window: timedelta | None = None) -> "Events":
        """The events strictly before a time a subject, and the static ones.

        Args:
            times: Time by subject id.
            window: Keep only what is not older than this before the time; everything when left out.

        Raises:
            DataError: If a subject with events has no time.
        """
        return self._where(self._precedes(times, window))

    def n_from(self, times: "pd.Series[Any]") -> tuple[int, int]:
        """How many events are at a subject's time or after it, and of how many subjects they are.

        Raises:
            DataError: If a subject with events has no time.
        """
        late = ~self._precedes(times, None)
        return int(late.sum()), int(self.table.loc[late, "subject_id"].nunique())

    def of_samples(self, samples: pd.DataFrame) -> "Events":
        """The events of each sample: those of its subject strictly before its time, and the static ones.

        A subject's history is repeated in each of its samples.

        Args:
            samples: The columns `subject_id` and `time`, indexed by sample id; subjects without an event have none here either.
        """
        codes = self.table["subject_id"].cat.codes.to_numpy()
        # A sample's events are one stretch of the sorted table, which begins with those without a time.
        subjects = pd.Index(self.ids).get_indexer(pd.Index(samples["subject_id"]))
        starts = np.searchsorted(codes, subjects)
        stops = np.searchsorted(codes, subjects, side="right")
        times = self.table["time"].to_numpy().astype("int64")
        limits = samples["time"].to_numpy(dtype="datetime64[us]").astype("int64")
        ends = [a + int(np.searchsorted(times[a:b], limit)) for a, b, limit in zip(starts, stops, limits, strict=True)]
        rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [np.empty(0, np.int64)]).astype(np.int64)
        owners = np.repeat(np.arange(len(samples)), np.asarray(ends, dtype=np.int64) - starts)
        table = self.table.iloc[rows].reset_index(drop=True)
        stream = Events.of(table.assign(subject_id=pd.Categorical.from_codes(owners, pd.Index(samples.index.tolist(), dtype="str"))))
        return replace(stream, codes=self.codes)

    def describe(self, code: str) -> str | None:
        """What a code means, or None where the source does not say."""
        if self.codes is None or code not in self.codes.index:
            return None
        words = self.codes.loc[code, "description"]
        return words if isinstance(words, str) else None

    def union(self, other: "Events") -> "Events":
        """The events of both."""
        both = {
            name: pd.api.types.union_categoricals([self.table[name], other.table[name]])
            if _DTYPES[name] == "category"
            else np.concatenate([self.table[name].to_numpy(), other.table[name].to_numpy()])
            for name in COLUMNS
        }
        known = [events.codes for events in (self, other) if events.codes is not None]
        codes = pd.concat(known) if known else None
        codes = None if codes is None else codes.loc[~codes.index.duplicated()]
        return Events(Events.of(pd.DataFrame(both)).table, self.n_reordered + other.n_reordered, codes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the events as Parquet."""
        self.table.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Events":
        """Read events that `save` wrote, or any shard of MEDS.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            table = pd.read_parquet(ordinary(Path(path)))
        except (OSError, ValueError) as error:
            raise DataError(f"Expected events in {Path(path)}, found a file that cannot be read ({error}). Copy or make it again.") from error
        return cls.of(table)

    def _precedes(self, times: "pd.Series[Any]", window: timedelta | None) -> "pd.Series[bool]":
        limits = times.reindex(self.ids)
        if limits.isna().any():
            raise DataError(
                f"Expected a time for every subject with events, found none for {limits.index[limits.isna()].tolist()[:5]}. Leave them out."
            )
        limit = limits.to_numpy(dtype="datetime64[us]")[self.table["subject_id"].cat.codes]
        time = self.table["time"]
        inside = time < limit
        if window is not None:
            inside &= time >= limit - np.timedelta64(window)
        return inside | time.isna()

    def _where(self, kept: "pd.Series[bool]") -> "Events":
        table = self.table[kept].reset_index(drop=True)
        used = {name: _used(table[name].array) for name, dtype in _DTYPES.items() if dtype == "category"}
        return replace(self, table=table.assign(**used))


def read_times(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Times without a zone, in microseconds: text is read as ISO 8601, and times of one zone become UTC.

    Raises:
        DataError: If a time cannot be read, or times are of several zones.
    """
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")
    if pd.api.types.is_datetime64_dtype(values):
        return values.astype("datetime64[us]")
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        raise DataError(
            f"Expected times such as 2131-05-04 13:30, found numbers such as {values.dropna().iloc[0]}. Add them to the time they count from."
        )
    text = values.astype("str").str.strip().mask(values.isna() | (values.astype("str").str.strip() == ""))
    present = text.dropna().drop_duplicates()
    zones = present.str.extract(_ZONE)[0].fillna("no zone")
    examples = present.groupby(zones).first().tolist()
    if len(examples) > 1:
        raise DataError(f"Expected times of one zone, found {len(examples)}: {examples[:3]}. Write them all in one zone, such as UTC.")
    parsed = pd.to_datetime(present, format="ISO8601", errors="coerce", utc=True)
    odd = present[parsed.isna()]
    if len(odd):
        raise DataError(
            f"Expected times such as 2131-05-04 13:30, found {odd.tolist()[:3]} (first in row {list(values.index).index(odd.index[0])}). "
            "Write them as year-month-day hour:minute, or leave cells of unknown times empty."
        )
    by_text = pd.Series(parsed.dt.tz_localize(None).astype("datetime64[us]").to_numpy(), index=pd.Index(present, dtype="str"))
    return by_text.reindex(text).set_axis(values.index)


def as_category(values: "pd.Series[Any]", name: str) -> pd.Categorical:
    """Text as categories, those that occur, sorted; whole numbers as they are written.

    Args:
        values: Text or whole numbers.
        name: What to call them in an error.

    Raises:
        SchemaError: If they are other numbers.
    """
    if pd.api.types.is_float_dtype(values) and values.notna().any():
        raise SchemaError(f"Expected {name} as text or whole numbers, found {values.dropna().iloc[0]}. Read the column as text.")
    column = pd.Categorical(values).remove_unused_categories()
    # Categories are of the type str even where there is none, so that streams with and without text can be joined.
    column = pd.Categorical.from_codes(column.codes, column.categories.astype("str"))
    return column.reorder_categories(pd.Index(sorted(column.categories), dtype="str"))


def _used(column: pd.Categorical) -> pd.Categorical:
    """Without categories that do not occur: what pandas does by sorting, by counting."""
    is_used = np.zeros(len(column.categories) + 1, dtype=bool)
    is_used[column.codes] = True  # the last one is that of missing values, -1
    places = np.append(np.cumsum(is_used[:-1]) - 1, -1)
    return pd.Categorical.from_codes(places[column.codes], column.categories[is_used[:-1]])


def _numbers(table: pd.DataFrame) -> "np.ndarray[Any, np.dtype[np.float32]]":
    if "numeric_value" not in table.columns:
        return np.full(len(table), np.nan, np.float32)
    try:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as such
            numbers: np.ndarray[Any, np.dtype[np.float32]] = table["numeric_value"].astype("float32").to_numpy()
    except (TypeError, ValueError) as error:
        raise DataError(f"Expected numbers in numeric_value, found text ({error}). Put words into text_value.") from error
    n_infinite = int(np.isinf(numbers).sum())
    if n_infinite:
        raise DataError(
            f"Expected finite numbers in numeric_value, found infinite ones, or such beyond single precision, in {n_infinite} of {len(numbers)} "
            "events. Leave these values empty, or correct them."
        )
    return numbers


_DTYPES = {"subject_id": "category", "time": "datetime64[us]", "code": "category", "numeric_value": "float32", "text_value": "category"}
# Behind a time of day.
_ZONE = re.compile(r"\d:\d\d(?::\d\d(?:\.\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)$")
