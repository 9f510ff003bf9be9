"""Cohorts joined whose labels differ: what one of them does not know is missing for its subjects."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column, Schema
from graphssl.errors import SchemaError


def union_of_labels(cohorts: Sequence[Cohort], *, shared: Sequence[str] = (), images: str = "image") -> Cohort:
    """Several cohorts as one, to pre-train on the labels of all (see [`LabelUnion`][graphssl.objectives.LabelUnion]).

    Columns that are no targets are left out. A target is called `cohort: target`, and is missing for the subjects of the others, unless it is said to
    mean the same in all. Ids begin with the name of their cohort, and the one kind of images that a cohort has is given one name.

    Args:
        cohorts: The cohorts, of different names.
        shared: Targets that mean the same wherever they are.
        images: Name of the images.

    Raises:
        SchemaError: If there is no cohort, or two have one name.
    """
    names = [cohort.name for cohort in cohorts]
    if not names or len(set(names)) < len(names):
        raise SchemaError(f"Expected cohorts of different names to join, found {names}. Give each a name of its own.")
    if len(cohorts) == 1:
        return cohorts[0]
    told = [_labels(cohort, shared) for cohort in cohorts]
    columns = list({column.name: column for part in told for column, _ in part}.values())
    prepared = [
        _with_labels(cohort, columns, {column.name: values for column, values in part}, images) for cohort, part in zip(cohorts, told, strict=True)
    ]
    whole = prepared[0]
    for other in prepared[1:]:
        whole = whole | other
    return whole


def _labels(cohort: Cohort, shared: Sequence[str]) -> list[tuple[Column, pd.Series]]:
    """The targets of a cohort under their new names."""
    found = []
    for name in cohort.schema.named("target"):
        column = cohort.schema[name]
        found.append((column if name in shared else replace(column, name=f"{cohort.name}: {name}"), cohort.subjects[name]))
    return found


def _with_labels(cohort: Cohort, columns: Sequence[Column], known: dict[str, pd.Series], images: str) -> Cohort:
    """A cohort with a column for each label of the union, under ids of its own."""
    table = pd.DataFrame({column.name: known.get(column.name, pd.Series(np.nan, index=cohort.subjects.index)) for column in columns})
    if cohort.regions or cohort.events is not None:
        return replace(cohort, subjects=table, schema=Schema(list(columns)))  # ids of scans and records stay: they are no numbers of a file
    table.index = pd.Index([f"{cohort.name}/{subject}" for subject in table.index], dtype="str")
    pictures = {
        images if len(cohort.images) == 1 else name: replace(data, table=data.table.assign(subject_id=cohort.name + "/" + data.table["subject_id"]))
        for name, data in cohort.images.items()
    }
    return replace(cohort, subjects=table, schema=Schema(list(columns)), images=pictures)
