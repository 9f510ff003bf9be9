"""Columns of one cohort found again in another: what was learned of them is kept, what does not fit is refused."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column
from graphssl.data.table import ColumnTokenizer
from graphssl.data.units import conversion
from graphssl.errors import SchemaError


def carry_over(tokenizer: ColumnTokenizer, cohort: Cohort, columns: Sequence[str] | None = None) -> tuple[ColumnTokenizer, pd.DataFrame]:
    """A tokenizer for the columns of another cohort, which reads the shared ones as the given tokenizer does.

    A column is shared if it has the same name, holds numbers or categories in both, and its units are the same or can be converted. It keeps mean,
    scale, pieces and categories, in the units of this cohort: the weights of an encoder were learned for these numbers, and a patient with the
    same value must look the same to it. Categories that it had not are added behind. Everything of the other columns is learned from this cohort.

    Args:
        tokenizer: Fitted on one cohort.
        cohort: Training subjects of another.
        columns: Names of its columns to read; all with one of the tokenizer's roles when left out.

    Returns:
        The tokenizer, and a row a column of either cohort, by name: `what` (`"column"`), `state` (`"shared"`, `"new"` or `"left out"`), `kind`,
        `unit` here and `learned_unit`, `factor` and `offset` from the one to the other, the `added` categories, and its `learned_name`.

    Raises:
        SchemaError: If no column is shared, or one of the same name is of another kind or of a unit that cannot be converted.
    """
    made = ColumnTokenizer(columns, roles=tokenizer.roles, n_pieces=tokenizer.n_pieces).fit(cohort)
    found = keep_columns(tokenizer, made)
    if not (found["state"] == "shared").any():
        learned, now = (", ".join(column.name for column in each.encoder_.columns_) for each in (tokenizer, made))
        raise SchemaError(
            f"Expected at least one column of the model ({learned}) in {cohort.name!r}, found {now}. "
            "Rename columns that mean the same, or train on this cohort alone."
        )
    return made, found


def keep_columns(tokenizer: ColumnTokenizer | None, made: ColumnTokenizer | None) -> pd.DataFrame:
    """Put what one tokenizer has learned of columns into one that was fitted on another cohort, for those that they share.

    Args:
        tokenizer: Fitted on one cohort; None where it has no columns.
        made: Fitted on another, and changed here.

    Returns:
        What became of each column, as `carry_over` tells it.

    Raises:
        SchemaError: If one of the same name is of another kind or of a unit that cannot be converted.
    """
    learned, now = ({} if each is None else {column.name: column for column in each.encoder_.columns_} for each in (tokenizer, made))
    rows = {name: describe("column", "new", column.kind, column.unit) for name, column in now.items()}
    if tokenizer is not None and made is not None:
        for name in (name for name in now if name in learned and _was_measured(tokenizer, name)):
            factor, offset = _check_alike(learned[name], now[name])
            added = _keep(tokenizer, made, name, factor, offset)
            units = {"learned_unit": learned[name].unit or "", "factor": factor, "offset": offset} if now[name].kind == "continuous" else {}
            rows[name] |= {"state": "shared", **units, "added": ", ".join(added), "learned_name": name}
    rows |= {name: describe("column", "left out", column.kind, learned_unit=column.unit) for name, column in learned.items() if name not in now}
    return frame(rows)


def describe(what: str, state: str, kind: str, unit: str | None = None, learned_unit: str | None = None) -> dict[str, object]:
    """A row of what became of a column or a code, of which nothing is converted."""
    units = {"unit": unit or "", "learned_unit": learned_unit or "", "factor": np.nan, "offset": np.nan}
    return {"what": what, "state": state, "kind": kind, **units, "added": "", "learned_name": ""}


def frame(rows: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """Rows by name, as `carry_over` tells them."""
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), dtype="str", name="column"), columns=list(describe("", "", "")))


def _was_measured(tokenizer: ColumnTokenizer, name: str) -> bool:
    """Whether there is anything to keep: a column without a value or without any spread is as good as new."""
    if name in tokenizer.categories:
        return len(tokenizer.categories[name]) > 0
    edges = tokenizer.edges_[tokenizer.numbers.index(name)]
    return bool(edges[-1] > edges[0])


def _check_alike(learned: Column, now: Column) -> tuple[float, float]:
    """Factor and offset from this cohort's unit to the one that was learned; a unit that is not stated is taken to be the other's."""
    if (learned.kind == "continuous") != (now.kind == "continuous"):
        raise SchemaError(
            f"Expected column {now.name!r} to be {learned.kind} as in the model, found it {now.kind}. Correct its kind, or give it another name."
        )
    if learned.unit is None or now.unit is None:
        return 1.0, 0.0
    try:
        return conversion(now.unit, learned.unit)
    except SchemaError as error:
        raise SchemaError(
            f"Expected column {now.name!r} in {learned.unit} as in the model, or in what can be converted; found {now.unit}. "
            "Convert the values, correct the unit, or give the column another name."
        ) from error


def _keep(tokenizer: ColumnTokenizer, made: ColumnTokenizer, name: str, factor: float, offset: float) -> list[str]:
    """Put what was learned of a column into the new tokenizer; the categories that are added."""
    if name in tokenizer.categories:
        before = tokenizer.categories[name]
        added = [word for word in made.categories[name] if word not in before]
        made.encoder_.categories_[name] = (*before, *added)
        return added
    old, new = tokenizer.numbers.index(name), made.numbers.index(name)
    made.encoder_.mean_[new] = (tokenizer.encoder_.mean_[old] - offset) / factor
    made.encoder_.scale_[new] = tokenizer.encoder_.scale_[old] / factor
    made.edges_[new] = tokenizer.edges_[old]
    return []
