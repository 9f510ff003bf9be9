"""Relational records: tables of subjects and of events (MIMIC-III, eICU, OMOP, or a hospital's own) become one cohort by a mapping in YAML."""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from graphssl.data import Cohort, Events, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.events import COLUMNS, ORIGIN, read_times
from graphssl.data.schema import read_columns
from graphssl.datasets.columns import as_declared, with_categories
from graphssl.datasets.listing import Listing, list_files
from graphssl.datasets.participants import as_text, drop_empty_columns
from graphssl.datasets.postgres import PostgresTables, is_postgres, open_postgres
from graphssl.datasets.record_files import FileTables, table_name
from graphssl.datasets.table_files import stacked, tight
from graphssl.errors import ConfigError, DataError

Excluded = list[tuple[str, str, str]]
Tables = FileTables | PostgresTables


@dataclass(frozen=True)
class EventTable:
    """How the rows of one table become events. Names of tables and columns are in lower case.

    Args:
        table: Name of the table: that of its file without the ending.
        id: Column of the subject.
        code: Columns whose values, joined by `//`, are the code.
        prefix: What stands before the code.
        time: Column of the time of day and date.
        date: Column of the date, where the time is empty or there is none: such an event counts from the end of that day.
        offset: Column of the minutes since the start of the stay, instead of a time.
        value: Column of the value: a number, or else a text.
        unit: Column of the unit, which ends the code.
    """

    table: str
    id: str
    code: tuple[str, ...] = ()
    prefix: str = ""
    time: str | None = None
    date: str | None = None
    offset: str | None = None
    value: str | None = None
    unit: str | None = None

    @property
    def needed(self) -> list[str]:
        """Columns that are read."""
        return list(dict.fromkeys([self.id, *self.code, *filter(None, (self.time, self.date, self.offset, self.value, self.unit))]))


@dataclass(frozen=True)
class RecordMapping:
    """How a set of tables becomes a cohort.

    Args:
        name: Name of the source.
        table: Table with a row a subject, or a row a stay.
        id: Column of its ids.
        columns: What its other columns hold, as `Schema.save` writes it; those not named are not read.
        events: The tables of events.
        start: Column of the time from which hours count; when left out, times are offsets in minutes.
        end: Column of the time (or offset) of the end of the stay.
        replace: Value by old value by column, such as 90 for "> 89".
    """

    name: str
    table: str
    id: str
    columns: Schema
    events: tuple[EventTable, ...]
    start: str | None = None
    end: str | None = None
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, mapping: str | os.PathLike[str]) -> "RecordMapping":
        """Read a mapping: a shipped one by its name (`mimic3`, `eicu`, `omop`), or a file.

        Raises:
            ConfigError: If there is none, it is no YAML, or has an unknown or lacks a needed entry.
            SchemaError: If what its columns hold is not known.
        """
        shipped = files("graphssl.datasets") / "mappings"
        place = shipped / f"{mapping}.yaml"
        try:
            record = yaml.safe_load(place.read_text(encoding="utf-8") if place.is_file() else Path(mapping).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            known = ", ".join(sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir()))
            raise ConfigError(f"Expected a mapping: {known}, or a file in YAML; found {str(mapping)!r} ({error}).") from error
        _check_entries(record, cls, f"the mapping {mapping}")
        for entry in record["events"]:
            _check_entries(entry, EventTable, f"the events of the mapping {mapping}")
        tables = tuple(EventTable(**{**entry, "code": tuple(entry.get("code", ()))}) for entry in record["events"])
        return cls(**{**record, "columns": read_columns(record["columns"]), "events": tables})


def load_records(
    source: str | os.PathLike[str],
    *,
    mapping: str | os.PathLike[str],
    hours: float | None = None,
    name: str | None = None,
    schema: str = "public",
) -> Cohort:
    """Read relational tables as a cohort with events.

    Tables are `.csv`, `.csv.gz` or `.parquet` files, folders of Parquet shards, or those of a live PostgreSQL database, which are streamed and not
    changed; the case of names does not matter. What cannot be an event (no time, no code, a subject that is not in the table of subjects) is left out
    and counted in `excluded`, as are tables that are not there.

    Args:
        source: Folder of the tables, or the address of a database, such as `postgresql://user@host/database`.
        mapping: A shipped mapping (`mimic3`, `eicu`, `omop`), or a file of your own like those.
        hours: Prediction time, in hours from the start of the stay. Who left before is left out. No prediction time when left out.
        name: Name of the cohort; that of the mapping when left out.
        schema: Schema of the tables in a database.

    Raises:
        ConfigError: If the mapping is not known, or hours are asked for where it tells no start.
        DataError: If the table of subjects or every table of events is absent, a file cannot be read, or the database cannot be reached.
        SchemaError: If a column is absent, an id repeats, or values do not fit.
        MissingExtraError: If the source is a database and the driver is not installed.
    """
    chosen = RecordMapping.load(mapping)
    if is_postgres(source):
        with open_postgres(str(source), schema) as tables:
            return _load(chosen, tables, hours, name)
    return _load(chosen, FileTables(list_files(source)), hours, name)


def load_omop(source: str | os.PathLike[str], *, name: str = "omop", schema: str = "public") -> Cohort:
    """Read the tables of the OMOP Common Data Model 5.4: persons as rows, visits, conditions, drugs, procedures, measurements and deaths as events.

    Set prediction times with `cohort.predict_at`; before that the death of a person is an event like any other.

    Args:
        source: Folder of the tables, as CSV or Parquet, or the address of a PostgreSQL database.
        name: Name of the cohort.
        schema: Schema of the tables in a database.

    Raises:
        InputError: As `load_records`.
        MissingExtraError: As `load_records`.
    """
    return load_records(source, mapping="omop", name=name, schema=schema)


def fits_mapping(listing: Listing, mapping: str) -> bool:
    """Whether a listing has the table of subjects and a table of events of a shipped mapping."""
    chosen = RecordMapping.load(mapping)
    there = {table_name(name) for name in listing.names}
    return chosen.table in there and any(events.table in there for events in chosen.events)


def _load(chosen: RecordMapping, tables: Tables, hours: float | None, name: str | None) -> Cohort:
    table, schema, excluded, stays = _subjects(chosen, tables)
    parts = [part for events in chosen.events if (part := _events_of(events, tables, chosen, stays, excluded)) is not None]
    if not parts:
        known = [events.table for events in chosen.events]
        raise DataError(f"Expected a table of events of {chosen.name} in {tables.place}, found none of {known}. Check the path.")
    listed = pd.DataFrame(excluded, columns=list(EXCLUDED_COLUMNS), dtype="str")
    cohort = Cohort(name or chosen.name, table, schema, {}, listed, Events.of(stacked(parts)))
    return cohort if hours is None else _at_hour(cohort, stays, hours)


def _check_entries(record: Any, kind: type, what: str) -> None:
    known = [entry.name for entry in fields(kind)]
    needed = ("name", "table", "id", "columns", "events") if kind is RecordMapping else ("table", "id")
    if not isinstance(record, dict) or not set(needed) <= set(record):
        raise ConfigError(f"Expected the entries {', '.join(needed)} in {what}, found {list(record) if isinstance(record, dict) else record!r}.")
    strange = [key for key in record if key not in known]
    if strange:
        near = difflib.get_close_matches(str(strange[0]), known, n=1)
        raise ConfigError(f"Expected entries among {', '.join(known)} in {what}, found {strange[0]!r}{f'; perhaps {near[0]}' if near else ''}.")


def _subjects(chosen: RecordMapping, tables: Tables) -> tuple[pd.DataFrame, Schema, Excluded, pd.DataFrame]:
    """The table of subjects, its schema, what was left out, and start and end of each stay."""
    names = [column.name for column in chosen.columns]
    wanted = list(dict.fromkeys([chosen.id, *names, *filter(None, (chosen.start, chosen.end))]))
    raw = tables.read(chosen.table, wanted)
    if raw is None:
        raise DataError(f"Expected the table {chosen.table!r} of {chosen.name} in {tables.place}, found none. Check the path.")
    raw = raw.set_index(pd.Index(as_text(raw[chosen.id]).fillna("").tolist(), dtype="str"))
    values = {name: as_text(raw[name]).replace(dict(chosen.replace.get(name, {}))) for name in names}
    table, empty = drop_empty_columns(pd.DataFrame(values, index=raw.index), {c.name: c.role for c in chosen.columns if c.role != "feature"})
    schema = Schema([column for column in chosen.columns if column.name in table.columns])
    table = as_declared(table, schema)
    start = pd.Series(ORIGIN, index=raw.index) if chosen.start is None else read_times(raw[chosen.start])
    end = pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us]") if chosen.end is None else _moments(raw[chosen.end], chosen.start is None)
    return table, with_categories(schema, table), list(empty), pd.DataFrame({"start": start, "end": end})


def _moments(values: "pd.Series[Any]", are_offsets: bool) -> "pd.Series[Any]":
    if not are_offsets:
        return read_times(values)
    return ORIGIN + pd.to_timedelta(pd.to_numeric(as_text(values), errors="coerce"), unit="min")


def _events_of(events: EventTable, tables: Tables, chosen: RecordMapping, stays: pd.DataFrame, excluded: Excluded) -> pd.DataFrame | None:
    raw = tables.read(events.table, events.needed)
    if raw is None:
        excluded.append(("table", events.table, "not there"))
        return None
    subjects = as_text(raw[events.id])
    parts = [as_text(raw[column]).astype("str") for column in events.code]
    codes = _joined([*([pd.Series(events.prefix, index=raw.index, dtype="str")] if events.prefix else []), *parts])
    if events.unit is not None:
        units = as_text(raw[events.unit]).astype("str")  # also where all of it is empty
        codes = codes.where(units.isna(), codes + "//" + units)
    times = _times(events, raw)
    reasons = {"no time": times.isna(), "no code": codes.isna(), f"no such subject in {chosen.table}": ~subjects.isin(stays.index)}
    kept = pd.Series(True, index=raw.index)
    for reason, lacks in reasons.items():
        count = int((kept & lacks).sum())
        excluded += [("event", f"{count} of {events.table}", reason)] if count else []
        kept &= ~lacks
    text = pd.Series(np.nan, index=raw.index, dtype="str") if events.value is None else as_text(raw[events.value]).astype("str")
    numbers = pd.to_numeric(text, errors="coerce")
    columns = [subjects, times, codes, numbers.astype("float64"), text.where(numbers.isna())]
    return tight(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))[kept])


def _joined(parts: Sequence["pd.Series[Any]"]) -> "pd.Series[Any]":
    found = parts[0]
    for part in parts[1:]:
        found = found + "//" + part
    return found


def _times(events: EventTable, raw: pd.DataFrame) -> "pd.Series[Any]":
    if events.offset is not None:
        return _moments(raw[events.offset], are_offsets=True).astype("datetime64[us]")
    times = pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us]") if events.time is None else read_times(raw[events.time])
    if events.date is None:
        return times
    days = read_times(raw[events.date]).dt.normalize() + timedelta(days=1) - timedelta(seconds=1)
    return times.fillna(days)


def _at_hour(cohort: Cohort, stays: pd.DataFrame, hours: float) -> Cohort:
    times = stays["start"] + timedelta(hours=hours)
    reasons = {"no start": times.isna(), f"left before hour {hours:g}": stays["end"] < times}
    kept = pd.Series(True, index=stays.index)
    left_out: Excluded = []
    for reason, lacks in reasons.items():
        left_out += [("subject", str(subject), reason) for subject in stays.index[kept & lacks]]
        kept &= ~lacks
    chosen = cohort.select(kept.to_numpy())
    listed = pd.DataFrame(left_out, columns=list(EXCLUDED_COLUMNS), dtype="str")
    excluded = pd.concat([cohort.excluded, listed], ignore_index=True)
    return Cohort(chosen.name, chosen.subjects, chosen.schema, {}, excluded, chosen.events).predict_at(times[kept])
