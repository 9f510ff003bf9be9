"""Columns of one cohort found again in another: what was learned of them is kept, what does not fit is refused."""

from collections.abc import Sequence

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
        The tokenizer, and a row a column of either cohort, by name: `state` (`"shared"`, `"new"` or `"left out"`), `kind`, `unit` here and
        `learned_unit`, `factor` and `offset` from the one to the other, and the `added` categories.

    Raises:
        SchemaError: If no column is shared, or one of the same name is of another kind or of a unit that cannot be converted.
    """
    made = ColumnTokenizer(columns, roles=tokenizer.roles, n_pieces=tokenizer.n_pieces).fit(cohort)
    learned, now = ({column.name: column for column in each.encoder_.columns_} for each in (tokenizer, made))
    known = [name for name in now if name in learned and _was_measured(tokenizer, name)]
    if not known:
        raise SchemaError(
            f"Expected at least one column of the model ({', '.join(learned)}) in {cohort.name!r}, found {', '.join(now)}. "
            "Rename columns that mean the same, or train on this cohort alone."
        )
    rows = {name: _describe(column, "new") for name, column in now.items()}
    for name in known:
        factor, offset = _check_alike(learned[name], now[name])
        added = _keep(tokenizer, made, name, factor, offset)
        units = {"learned_unit": learned[name].unit or "", "factor": factor, "offset": offset}
        rows[name] |= {"state": "shared", **(units if now[name].kind == "continuous" else {}), "added": ", ".join(added)}
    gone = {name: column for name, column in learned.items() if name not in now}
    rows |= {name: {**_describe(column, "left out"), "learned_unit": column.unit or "", "unit": ""} for name, column in gone.items()}
    return made, pd.DataFrame.from_dict(rows, orient="index").rename_axis("column")


def _describe(column: Column, state: str) -> dict[str, object]:
    return {"state": state, "kind": column.kind, "unit": column.unit or "", "learned_unit": "", "factor": np.nan, "offset": np.nan, "added": ""}


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
