"""Typed columns: what a column holds and what it is for."""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import yaml

from graphssl.data.units import read_unit
from graphssl.errors import SchemaError
from graphssl.folders import file_written_whole, ordinary

Kind = Literal["continuous", "ordinal", "categorical", "binary", "timestamp", "text"]
Role = Literal["feature", "target", "site", "group", "covariate", "identifier", "split", "prediction_time"]

_MAX_CATEGORIES = 20
_MAX_SHOWN = 6
_SEVERAL = (list, tuple, dict, set, bytes, np.ndarray)
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
# Up to here every whole number is a double; ids beyond stay as they are.
_LARGEST_EXACT = 2**53
_LARGEST = float(np.finfo(np.float32).max)
_ENTRIES = ("kind", "role", "unit", "range", "categories", "description")


@dataclass(frozen=True)
class Column:
    """One column of a cohort's table.

    Args:
        name: Its name in the table.
        kind: What it holds.
        role: What it is for. `group` marks a family or repeated scans: its members never stand on two sides of a split. Nothing
            at or after the `prediction_time`, a timestamp, may tell anything of the subject.
        unit: Unit of a continuous column, such as `"years"`.
        valid_range: Smallest and largest possible value of a continuous column.
        categories: Possible values of a categorical, binary or ordinal column, in order.
        description: What it is, in words; for people to read, so columns that differ in nothing else are equal.
    """

    name: str
    kind: Kind
    role: Role = "feature"
    unit: str | None = None
    valid_range: tuple[float, float] | None = None
    categories: tuple[str, ...] | None = None
    description: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for value, allowed, what in ((self.kind, get_args(Kind), "kind"), (self.role, get_args(Role), "role")):
            if value not in allowed:
                raise SchemaError(f"Expected {what} of column {self.name!r} to be one of {', '.join(allowed)}; found {value!r}.")


class Schema:
    """Columns by name.

    Args:
        columns: The columns; names are unique and at most one has the role `site`.

    Raises:
        SchemaError: If a name repeats, two columns are the site, or the prediction times are no one timestamp column.
    """

    def __init__(self, columns: tuple[Column, ...] | list[Column]) -> None:
        self._columns = {column.name: column for column in columns}
        if len(self._columns) != len(columns):
            names = [column.name for column in columns]
            raise SchemaError(f"Expected unique column names, found repeated {sorted({n for n in names if names.count(n) > 1})}.")
        if len(self.named("site")) > 1:
            raise SchemaError(f"Expected at most one site column, found {self.named('site')}. Give the others the role 'covariate'.")
        times = self.named("prediction_time")
        if len(times) > 1 or any(self._columns[name].kind != "timestamp" for name in times):
            raise SchemaError(f"Expected at most one column of prediction times, a timestamp; found {times}. Leave the others out.")

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            raise SchemaError(f"Expected one of the columns {sorted(self._columns)}, found {name!r}.")
        return self._columns[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self._columns == other._columns

    def __repr__(self) -> str:
        return "Schema(" + ", ".join(f"{c.name}: {c.kind} {c.role}" for c in self) + ")"

    def __str__(self) -> str:
        """One line a column, aligned: name, kind, role, unit, what values are possible, and what it is."""
        rows = [(column.name, column.kind, column.role, column.unit or "", _possible(column)) for column in self]
        widths = [max((len(row[k]) for row in rows), default=0) for k in range(4)]
        return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows)

    def named(self, role: Role) -> list[str]:
        """Names of the columns with this role."""
        return [column.name for column in self if column.role == role]

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values, for JSON."""
        return [asdict(column) for column in self]

    @classmethod
    def from_dict(cls, records: list[dict[str, Any]]) -> "Schema":
        """The inverse of `to_dict`."""
        plain: list[dict[str, Any]] = [{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()} for record in records]
        return cls([Column(**record) for record in plain])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the columns as YAML, to be corrected by hand: kind, role, unit, range, categories and description by name."""
        record = {}
        for column in self:
            entry: dict[str, Any] = {"kind": column.kind, "role": column.role, "unit": column.unit}
            entry |= {"range": column.valid_range and list(column.valid_range), "categories": column.categories and list(column.categories)}
            entry["description"] = column.description
            record[column.name] = {key: value for key, value in entry.items() if value is not None}
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, default_flow_style=None)
        with file_written_whole(path) as aside:
            aside.write_text(f"# kind: {', '.join(get_args(Kind))}\n# role: {', '.join(get_args(Role))}\n{text}", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Schema":
        """Read a schema that `save` wrote and perhaps a person corrected.

        Raises:
            SchemaError: If the file is no such YAML, or names an unknown kind, role, unit or entry.
        """
        try:
            record = yaml.safe_load(ordinary(Path(path)).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise SchemaError(
                f"Expected a schema as YAML in {path}, found a file that cannot be read ({error}). Write one with Schema.save."
            ) from error
        return read_columns(record)

    @classmethod
    def infer(cls, table: pd.DataFrame, roles: Mapping[str, Role] | None = None) -> "Schema":
        """Guess the kind of every column; roles not given are `feature`.

        Sites, groups and splits are categorical. Else a column of at most two words or whole numbers is binary, other numbers are continuous, up to
        twenty words are categorical, and more are text. Where the guess is wrong, make the `Schema` by hand.

        Args:
            table: The table.
            roles: Role by column name.

        Raises:
            SchemaError: If a role names a column that is absent.
        """
        roles = dict(roles or {})
        absent = sorted(set(roles) - set(table.columns))
        if absent:
            raise SchemaError(f"Expected the columns {absent} in the table, found {list(table.columns)}.")
        return cls([_infer_column(table[name], str(name), roles.get(str(name), "feature")) for name in table.columns])

    def check(self, table: pd.DataFrame) -> None:
        """Check a table against the schema.

        Raises:
            SchemaError: If a column is absent, is not of its kind, or holds values that are infinite, out of range or out of its categories.
        """
        absent = [column.name for column in self if column.name not in table.columns]
        if absent:
            raise SchemaError(f"Expected the columns {absent} in the table, found {list(table.columns)}.")
        for column in self:
            _check_column(column, table[column.name])


def read_columns(record: Any) -> Schema:
    """The columns of YAML as `Schema.save` writes it.

    Raises:
        SchemaError: If it is no mapping of columns by name, or names an unknown kind, role, unit or entry.
    """
    if not isinstance(record, dict) or not all(isinstance(entry, dict) for entry in record.values()):
        raise SchemaError("Expected columns by name, each with its kind; found something else. Write them as Schema.save does.")
    return Schema([_read_column(str(name), entry) for name, entry in record.items()])


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns of objects are numbers where they hold nothing else, as those from databases often do.

    Raises:
        SchemaError: If cells hold lists or the like.
    """
    if not table.columns.is_unique:  # refused where columns get their kinds
        return table
    return table.assign(**{name: _typed_column(table[name]) for name in table.columns if table[name].dtype == object})


def _typed_column(values: pd.Series) -> pd.Series:
    present = values.dropna()
    odd = next((value for value in present if isinstance(value, _SEVERAL)), None)
    if odd is not None:
        raise SchemaError(
            f"Expected one value in each cell, found {type(odd).__name__} in column {values.name!r}. Leave it out, or write a column for each value."
        )
    kind = pd.api.types.infer_dtype(present)
    if kind not in _NUMBERS or any(abs(value) > _LARGEST_EXACT for value in present):
        return values
    return values.astype("int64" if kind == "integer" and len(present) == len(values) else "float64")


def _possible(column: Column) -> str:
    words = column.categories or ()
    values = ", ".join(words[:_MAX_SHOWN]) + (f" … ({len(words)})" if len(words) > _MAX_SHOWN else "")
    if column.valid_range is not None:
        values = f"{column.valid_range[0]:g} to {column.valid_range[1]:g}"
    return "  ".join(filter(None, [values, column.description]))


def _read_column(name: str, entry: Mapping[str, Any]) -> Column:
    for key in entry:
        if key not in _ENTRIES:
            near = difflib.get_close_matches(str(key), _ENTRIES, n=1)
            raise SchemaError(f"Expected {', '.join(_ENTRIES)} for column {name!r}, found {key!r}{f'; perhaps {near[0]}' if near else ''}.")
    if "kind" not in entry:
        raise SchemaError(f"Expected the kind of column {name!r}, found none. Add kind: {', '.join(get_args(Kind))}.")
    limits, words = entry.get("range"), entry.get("categories")
    if limits is not None and not (isinstance(limits, list) and len(limits) == 2 and all(type(end) in (int, float) for end in limits)):
        raise SchemaError(f"Expected the range of column {name!r} as [smallest, largest], found {limits!r}.")
    if words is not None and (not isinstance(words, list) or any(isinstance(word, bool) for word in words)):
        raise SchemaError(
            f"Expected the categories of column {name!r} as a list of words, found {words!r}. Words such as yes and no need quotation marks."
        )
    unit = entry.get("unit")
    return Column(
        name,
        entry["kind"],
        entry.get("role", "feature"),
        None if unit is None else read_unit(str(unit)),
        None if limits is None else (float(limits[0]), float(limits[1])),
        None if words is None else tuple(str(word) for word in words),
        entry.get("description"),
    )


def _infer_column(values: pd.Series, name: str, role: Role) -> Column:
    present = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(values):
        return Column(name, "timestamp", role)
    if role == "identifier":
        return Column(name, "text", role)
    categories = tuple(sorted(set(present.astype(str))))
    if role in ("site", "group", "split"):
        return Column(name, "categorical", role, categories=categories)
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    # Codes are whole numbers: two ages of a tiny cohort are no classes.
    if 0 < len(categories) <= 2 and not (numeric and (present % 1 != 0).any()):
        return Column(name, "binary", role, categories=categories)
    if numeric:
        return Column(name, "continuous", role)
    if len(categories) <= _MAX_CATEGORIES:
        return Column(name, "categorical", role, categories=categories)
    return Column(name, "text", role)


def _check_column(column: Column, values: pd.Series) -> None:
    present = values.dropna()
    if column.kind == "continuous":
        if len(present) and not pd.api.types.is_numeric_dtype(values):
            odd = present[pd.to_numeric(present, errors="coerce").isna()].astype(str).unique().tolist()
            raise SchemaError(f"Expected numbers in column {column.name!r}, found {odd[:3] or 'numbers stored as text'}.")
        n_infinite = int((np.abs(present.to_numpy(dtype="float64")) > _LARGEST).sum())
        if n_infinite:
            raise SchemaError(
                f"Expected finite numbers in column {column.name!r}, found infinite ones, or such beyond single precision, in {n_infinite} of "
                f"{len(values)} rows. Leave such cells empty, or name them as missing=['inf', '-inf', …]."
            )
        if column.valid_range is not None and len(present):
            low, high = column.valid_range
            outside = present[(present < low) | (present > high)]
            if len(outside):
                raise SchemaError(
                    f"Expected {column.name!r} within {low} to {high}{' ' + column.unit if column.unit else ''}, found "
                    f"{outside.iloc[0]} for {outside.index[0]!r} and {len(outside) - 1} more. Missing values belong in the table as empty cells."
                )
    elif column.categories is not None:
        odd = sorted(set(present.astype(str).unique()) - set(column.categories))
        if odd:
            raise SchemaError(f"Expected {column.name!r} to be one of {list(column.categories)}, found {odd[:3]}.")
