"""What a clinical table's columns hold: guessed from names and values, and values turned into what a schema declares."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from graphssl.data import Column, Schema
from graphssl.data.events import read_times
from graphssl.data.schema import Role
from graphssl.data.units import unit_in_name
from graphssl.datasets.participants import as_text, is_class
from graphssl.errors import DataError, SchemaError


def guess_schema(table: pd.DataFrame, roles: Mapping[str, Role]) -> Schema:
    """Guess what each column holds; where the guess is wrong, save the schema, correct it and give it.

    Beyond `Schema.infer`: units in names (`glucose (mg/dL)`, `age_years`), ranges of ages and percentages where all values are inside, dates, codes
    (whole numbers under a name of a code: categorical; three to seven of them: ordinal), columns of unique ids, of the site (`hospital`), and
    columns of repeated ids of people (`patient_nbr`: a group, so that a person never stands on two sides of a split).

    Args:
        table: The table, its ids taken off.
        roles: Roles that are known, by column name.

    Raises:
        SchemaError: If a role names a column that is absent.
    """
    known = {**{name: role for name in table.columns if (role := _role(name, table[name], roles))}, **roles}
    return Schema([_refined(column, table[column.name]) for column in Schema.infer(_without_dates(table, known), known)])


def as_declared(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The columns of a schema with values as it declares them: numbers, times, or names.

    What is no number or time stays as it is, so that a check of the schema can name it.
    """
    return table.assign(**{column.name: _as_kind(table[column.name], column) for column in schema if column.name in table.columns})[
        [column.name for column in schema if column.name in table.columns]
    ]


def with_categories(schema: Schema, table: pd.DataFrame) -> Schema:
    """The schema with the values that occur as categories of the columns of names that declare none; numbers in the order of their size."""
    return Schema([replace(c, categories=_words(table[c.name])) if _is_listed(c) else c for c in schema])


def find_ids(table: pd.DataFrame) -> str | None:
    """The first column that is called as ids of rows are and has another one in every row, or None.

    Raises:
        SchemaError: If ids of such a column differ, and some rows have none.
    """
    named = [str(name) for name in table.columns if is_called_id(str(name))]
    found = next((name for name in named if _are_ids(table[name])), None)
    if found is None:
        gaps = {name: table[name].isna() for name in named if not table[name].dropna().empty and _are_ids(table[name].dropna())}
        name = next((name for name, lacks in gaps.items() if 2 * int(lacks.sum()) < len(lacks)), None)
        if name is not None:
            rows = gaps[name].to_numpy()
            raise SchemaError(
                f"Expected an id in every row of column {name!r}, found none in {int(rows.sum())} of {len(rows)}, the first being row "
                f"{int(rows.argmax()) + 1}. Fill them in, take rows out that are no subjects, drop the column, or name another with id_column=…"
            )
    return found


def is_called_id(name: str) -> bool:
    """Whether a column is called as ids of rows, or of people, are."""
    return _ROW_ID.search(_spaced(name)) is not None


def _role(name: str, values: "pd.Series[Any]", roles: Mapping[str, Role]) -> Role | None:
    if name in roles or values.isna().all():
        return None
    if _PERSON.search(_spaced(name)) and values.dropna().duplicated().any():
        return "group"
    if (is_called_id(name) or _NUMBER_OF.search(_spaced(name))) and _are_ids(values):
        return "identifier"
    if _SITE.fullmatch(name) and "site" not in roles.values() and values.notna().all() and 1 < values.nunique() <= _MAX_SITES:
        return "site"
    return None


def _refined(column: Column, values: "pd.Series[Any]") -> Column:
    if column.role in _UNLISTED:
        return replace(column, categories=None)
    if column.kind != "continuous":
        return column if column.categories is None else replace(column, categories=_words(as_text(values)))
    if column.role == "target" and is_class(values):
        return replace(column, kind="binary" if values.nunique() == 2 else "categorical", categories=_words(as_text(values)))
    is_whole = bool((values.dropna().astype("float64") % 1 == 0).all())
    if is_whole and _CODE.search(_spaced(column.name)) and values.nunique() <= _MAX_CODES:
        return replace(column, kind="categorical", categories=_words(as_text(values)))
    if is_whole and 3 <= values.nunique() <= _MAX_STEPS and len(values) >= _ROWS_A_STEP * values.nunique():
        return replace(column, kind="ordinal", categories=_words(as_text(values)))
    unit = unit_in_name(column.name)
    if unit is None and _AGE.fullmatch(column.name) and values.max() > _GROWN:
        unit = "years"
    limits = (0.0, 120.0) if _AGE.search(_spaced(column.name)) and unit == "years" else (0.0, 100.0) if unit == "%" else None
    fits = limits is not None and bool(values.dropna().between(*limits).all())
    return replace(column, unit=unit, valid_range=limits if fits else None)


def _without_dates(table: pd.DataFrame, roles: Mapping[str, Role]) -> pd.DataFrame:
    """Columns of dates in text as times."""
    return table.assign(**{name: read_times(table[name]) for name in table.columns if name not in roles and _are_dates(table[name])})


def _are_dates(values: "pd.Series[Any]") -> bool:
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return False
    words = values.dropna().astype("str")
    if not len(words) or not words.iloc[:1].str.match(r"\d{4}-\d\d-\d\d").all() or not words.str.match(r"\d{4}-\d\d-\d\d").all():
        return False
    try:
        read_times(words)
    except DataError:
        return False
    return True


def _as_kind(values: "pd.Series[Any]", column: Column) -> "pd.Series[Any]":
    if column.kind == "continuous" and not pd.api.types.is_numeric_dtype(values):
        text = as_text(values)
        numbers = pd.to_numeric(text, errors="coerce")
        return numbers if numbers.isna().sum() == text.isna().sum() else text
    if column.kind == "timestamp":
        return read_times(values)
    return values if column.kind == "continuous" else as_text(values)


def _are_ids(values: "pd.Series[Any]") -> bool:
    is_fractional = pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 != 0).any())
    return bool(values.notna().all() and values.is_unique) and not is_fractional


def _is_listed(column: Column) -> bool:
    return column.kind in _NAMES and column.categories is None and column.role not in _UNLISTED


def _words(values: "pd.Series[Any]") -> tuple[str, ...]:
    words = sorted(set(values.dropna().astype("str")))
    numbers = pd.to_numeric(pd.Series(words, dtype="str"), errors="coerce")
    return tuple(words) if numbers.isna().any() else tuple(words[k] for k in numbers.argsort(kind="stable"))


def _spaced(name: object) -> str:
    """A name in words: `patientId` is `patient Id`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(name)).replace("_", " ")


_UNLISTED = ("group", "identifier")  # as many values as there are people
_NAMES = ("categorical", "binary", "ordinal")
_PERSON = re.compile(
    r"\b(?:patient|subject|person|participant|family|mrn)\b.*\b(?:id|nr|nbr|no|num|number|key)\b|^(?:subject|person|patient)?id$|^mrn$", re.IGNORECASE
)
# Columns of ids of rows: the word itself, or people and cases with or without a word for their number. An age or weight of a patient is none.
_ROW = "subj(?:ect)?|participant|pat(?:ient(?:en)?)?|proband(?:en)?|person|case|stay|visit|record|admission|encounter"
_ROW_ID = re.compile(
    rf"\bid\b|^(?:{_ROW})\w*id$|^(?:{_ROW})(?:[ .-]?(?:code|nr|nbr|no|num|number|key|pseudonym)\.?)?$"
    r"|^(?:code|nr|no|number|key|mrn|[ps]id|pseudonym)$",
    re.IGNORECASE,
)
_NUMBER_OF = re.compile(r"\b(?:code|nr|nbr|no|key)$", re.IGNORECASE)
_SITE = re.compile(r"(?:site|hospital|cent(?:er|re)|institution|clinic)(?:_?id)?", re.IGNORECASE)
_CODE = re.compile(r"\b(?:id|code|type|class|category|cat)$", re.IGNORECASE)
_AGE = re.compile(r"\bage\b", re.IGNORECASE)
_MAX_SITES, _MAX_CODES, _MAX_STEPS = 500, 60, 7
# Few values among few rows may as well be measurements.
_ROWS_A_STEP = 10
# No age in years is known to be one below this maximum: months and weeks go as far.
_GROWN = 60
