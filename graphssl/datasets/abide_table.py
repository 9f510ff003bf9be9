"""ABIDE's table of subjects: codes as words, numbers as numbers, and the cohort of those who have data."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.data import Cohort, Column, RegionData, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.regions import missing_regions as list_missing_regions
from graphssl.errors import DataError, SchemaError

Excluded = list[tuple[str, str, str]]

COLUMNS = {
    column.name: column
    for column in (
        Column("diagnosis", "binary", "target", categories=("control", "autism")),
        Column("site", "categorical", "site"),
        Column("age", "continuous", "covariate", "years", (0.0, 120.0)),
        Column("sex", "binary", "covariate", categories=("female", "male")),
        # Part of the picture of the condition rather than a nuisance of the scan.
        Column("fiq", "continuous", "feature", "IQ points", (0.0, 250.0)),
        Column("eye_status", "binary", "covariate", categories=("closed", "open")),
        Column("mean_fd", "continuous", "covariate", "mm", (0.0, 100.0)),
    )
}


def read_table(path: Path, needed: Collection[str]) -> pd.DataFrame:
    """Columns as text, indexed by the seven-digit id."""
    if not path.is_file():
        raise DataError(f"Expected the table of subjects at {path}, found no such file. Check the path.")
    try:
        # The original holds free text in unknown encodings, in columns that are not used.
        records = pd.read_csv(path, dtype="str", encoding_errors="replace")
    except (OSError, ValueError) as error:
        raise DataError(f"Expected the table of subjects in {path}, found a file that cannot be read ({error}). Copy it again.") from error
    absent = [name for name in ("SUB_ID", *needed) if name not in records.columns]
    if absent:
        raise SchemaError(f"Expected the columns {absent} in {path}, found {list(records.columns)[:10]}. Give the project's own table.")
    ids = records["SUB_ID"].str.strip().str.zfill(7)
    return records[list(needed)].set_index(pd.Index(ids.tolist(), dtype="str"))


def typed_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Codes as words and numbers as numbers; -9999 is missing, and so is a code of 0."""
    typed = table.copy()
    for name, codes in _CODES.items():
        numbers = as_number(table[name], name).replace(0.0, np.nan)
        unknown = sorted(set(numbers.dropna()) - set(codes))
        if unknown:
            raise SchemaError(f"Expected the codes {codes} for {name}, found {unknown[:3]}. Give the project's own table.")
        typed[name] = numbers.map(codes).astype("str")
    for name in ("age", "fiq", "mean_fd"):
        typed[name] = as_number(table[name], name)
    return typed


def as_number(column: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    """A column as numbers; what stands for nothing is missing.

    Raises:
        SchemaError: If it holds text.
    """
    try:
        numbers = pd.to_numeric(column).astype("float64")
    except ValueError as error:
        raise SchemaError(f"Expected numbers for {name}, found text ({error}). Give the project's own table.") from error
    return numbers.mask(numbers == _NOT_KNOWN)


def abide_cohort(name: str, table: pd.DataFrame, regions: Mapping[str, RegionData], excluded: Excluded, target: str) -> Cohort:
    """A cohort with everybody in it who has data in at least one atlas; who and what is left out is listed."""
    if target not in COLUMNS:
        raise SchemaError(f"Expected the target to be one of {', '.join(COLUMNS)}; found {target!r}.")
    served = [subject for subject in table.index if any(subject in data.values for data in regions.values())]
    chosen = table.loc[served, list(COLUMNS)]
    has_data = set(served)
    for atlas, data in regions.items():
        excluded += [("region", subject, f"no data in atlas {atlas}") for subject in served if subject not in data.values]
        excluded += list_missing_regions(data, served)
    excluded += [("subject", str(subject), "no file, or no region with a signal") for subject in table.index if subject not in has_data]
    columns = [replace(column, role="target") if column.name == target else column for column in COLUMNS.values()]
    if target != "diagnosis":
        columns[0] = replace(columns[0], role="feature")
    sites = tuple(sorted(chosen["site"].dropna().unique()))
    columns = [replace(column, categories=sites) if column.name == "site" else column for column in columns]
    return Cohort(name, chosen, Schema(columns), dict(regions), pd.DataFrame(excluded, columns=list(EXCLUDED_COLUMNS), dtype="str"))


_NOT_KNOWN = -9999
_CODES = {
    "diagnosis": {1.0: "autism", 2.0: "control"},
    "sex": {1.0: "male", 2.0: "female"},
    "eye_status": {1.0: "open", 2.0: "closed"},
}
