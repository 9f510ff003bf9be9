"""Records in MEDS, the Medical Event Data Standard: shards of events, splits of subjects, and labels with their prediction times.

Source: MEDS 0.4, https://medical-event-data-standard.github.io/docs/.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.data import Cohort, Column, Events, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.datasets.listing import Listing
from graphssl.datasets.participants import as_text
from graphssl.datasets.table_files import read_shards
from graphssl.errors import ChoiceError, DataError, SchemaError

_VALUES = ("boolean_value", "categorical_value", "integer_value", "float_value")


def load_meds(folder: str | os.PathLike[str], *, labels: str | os.PathLike[str] | None = None, name: str | None = None) -> Cohort:
    """Read records in MEDS as a cohort.

    With labels a row is a sample: a subject at one of its prediction times, with the events strictly before it and an id such as `10000032_0`. The
    column `person` has the role `group`, so that samples of a person never stand on two sides of a split. Without labels a row is a subject, with
    all of its events, for pre-training. Subjects of the labels that have no event are listed in `excluded`.

    Descriptions and parents of codes in `metadata/codes.parquet` are kept with the events, and name the columns that `EventSummary` makes of them.

    Args:
        folder: Folder with `data/**/*.parquet`, perhaps `metadata/subject_splits.parquet`, whose splits become a column of the role `split`.
        labels: Name of a file of `labels/` without its ending, a file, or a folder of shards.
        name: Name of the cohort; that of the folder when left out.

    Raises:
        ChoiceError: If the labels are not there; names those that are.
        DataError: If there are no events, or a shard cannot be read; names it.
        SchemaError: If a column of MEDS is absent, a subject is labelled twice for one time, nothing is labelled, or a code is described twice.
    """
    root = Path(folder)
    events = Events.of(read_shards(sorted((root / "data").rglob("*.parquet"))))
    if not len(events):
        raise DataError(f"Expected events in {root / 'data'}, found none. Copy the shards again.")
    events = replace(events, codes=_codes(root))
    excluded: list[tuple[str, str, str]] = []
    called = name or root.resolve().name
    if labels is None:
        table = pd.DataFrame({"person": events.ids}, index=pd.Index(events.ids, dtype="str"))
        return _cohort(called, table, [], _splits(root), events, excluded)
    place = _labels_place(root, labels)
    rows = _read_labels(place)
    strangers = ~rows["person"].isin(events.ids)
    excluded += [("subject", str(sample), "labelled, without an event") for sample in rows.index[strangers]]
    rows = rows[~strangers]
    target = Column(place.stem, "continuous" if pd.api.types.is_numeric_dtype(rows["value"]) else "categorical", "target")
    if set(rows["value"].dropna()) <= {"no", "yes"}:
        target = Column(place.stem, "binary", "target", categories=("no", "yes"))
    table = pd.DataFrame({target.name: rows["value"], "person": rows["person"]})
    samples = events.of_samples(pd.DataFrame({"subject_id": rows["person"], "time": rows["time"]}))
    return _cohort(called, table, [target], _splits(root), samples, excluded).predict_at(rows["time"])


def is_meds(listing: Listing) -> bool:
    """Whether a listing has shards of MEDS."""
    return any(name.startswith("data/") and name.endswith(".parquet") for name in listing.names)


def _cohort(
    name: str, table: pd.DataFrame, columns: list[Column], splits: "pd.Series[Any] | None", events: Events, excluded: list[tuple[str, str, str]]
) -> Cohort:
    columns = [*columns, Column("person", "categorical", "group")]
    if splits is not None:
        columns = [*columns, Column("split", "categorical", "split")]
        table = table.assign(split=table["person"].map(splits))
    return Cohort(name, table, Schema(columns), {}, pd.DataFrame(excluded, columns=list(EXCLUDED_COLUMNS), dtype="str"), events)


def _splits(root: Path) -> "pd.Series[Any] | None":
    path = root / "metadata" / "subject_splits.parquet"
    if not path.is_file():
        return None
    table = _with_columns(read_shards([path]), ("subject_id", "split"), path)
    return pd.Series(table["split"].astype("str").to_numpy(), index=as_text(table["subject_id"]))


def _codes(root: Path) -> pd.DataFrame | None:
    """Description and parents by code."""
    path = root / "metadata" / "codes.parquet"
    if not path.is_file():
        return None
    table = _with_columns(read_shards([path]), ("code",), path)
    twice = table["code"][table["code"].duplicated()].unique().tolist()
    if twice:
        raise SchemaError(f"Expected each code once in {path}, found several rows of {twice[:5]}. Leave one of them.")
    parents = pd.read_parquet(path)["parent_codes"] if "parent_codes" in table.columns else pd.Series(None, index=table.index, dtype="object")
    description = table["description"].astype("str") if "description" in table.columns else pd.Series(None, index=table.index, dtype="str")
    codes = pd.DataFrame({"description": description, "parent_codes": parents})
    return codes.set_axis(pd.Index(table["code"].astype("str").tolist(), name="code"))


def _labels_place(root: Path, labels: str | os.PathLike[str]) -> Path:
    places = (root / "labels" / f"{labels}.parquet", root / "labels" / labels, Path(labels))
    found = next((place for place in places if place.exists()), None)
    if found is None:
        there = sorted({path.stem for path in (root / "labels").glob("*.parquet")})
        raise ChoiceError(
            f"Expected labels {str(labels)!r} in {root / 'labels'}, found {', '.join(there) or 'none'}. Name one of them with labels=…."
        )
    return found


def _read_labels(place: Path) -> pd.DataFrame:
    """One row a sample: `person`, `time` and `value`; boolean labels are no and yes."""
    paths = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    table = _with_columns(read_shards(paths), ("subject_id", "prediction_time"), place)
    given = [column for column in _VALUES if column in table.columns and table[column].notna().any()]
    if not given:
        raise SchemaError(f"Expected labels in one of the columns {', '.join(_VALUES)} of {place}, found none. Give labels in MEDS.")
    values = table[given[0]]
    rows = pd.DataFrame(
        {
            "person": as_text(table["subject_id"]),
            "time": table["prediction_time"].astype("datetime64[us]"),
            "value": as_text(values).map({"True": "yes", "False": "no"}) if given[0] == "boolean_value" else values,
        }
    ).sort_values(["person", "time"], kind="stable", ignore_index=True)
    if given[0] == "categorical_value":
        rows["value"] = as_text(rows["value"])
    twice = rows.duplicated(["person", "time"])
    if twice.any():
        raise SchemaError(
            f"Expected one label a subject and prediction time in {place}, found several for {rows.loc[twice, 'person'].unique()[:5].tolist()}."
        )
    return rows.set_index(rows["person"] + "_" + rows.groupby("person").cumcount().astype("str")).rename_axis(None)


def _with_columns(table: pd.DataFrame, names: tuple[str, ...], path: Path) -> pd.DataFrame:
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise SchemaError(f"Expected the columns {list(names)} in {path}, found none called {absent}. Give a file in MEDS.")
    return table
