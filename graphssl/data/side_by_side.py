"""Sources of the same subjects as one cohort: a folder of images here, a table there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column, Schema
from graphssl.errors import DataError, SchemaError


def side_by_side(first: Cohort, second: Cohort) -> Cohort:
    """What two sources know of the same subjects, found by their ids; who is in one alone lacks what only the other has.

    Where cohorts are of different subjects, join them by `|`.

    Args:
        first: A cohort.
        second: Another, with other kinds of data: other columns, atlases or images, or the events.

    Raises:
        DataError: If no subject is in both, both have the same kind of data by one name, or a column says two things of a subject.
        SchemaError: If a column of both is of another kind, role or unit.
    """
    known = set(first.ids)
    if not known & set(second.ids):
        raise DataError(
            f"Expected the same subjects in {first.name!r} and {second.name!r}, found none in both: {first.ids[:3]} and {second.ids[:3]}. "
            "Give one subject the same id in every source."
        )
    regions = _both("atlas", first.regions, second.regions, first, second)
    images = _both("images", first.images, second.images, first, second)
    if first.events is not None and second.events is not None:
        raise DataError(f"Expected events in {first.name!r} or {second.name!r}, found some in both. Join them before.")
    ids = pd.Index([*first.ids, *(subject for subject in second.ids if subject not in known)], dtype="str")
    subjects = first.subjects.reindex(ids)
    columns = {column.name: column for column in first.schema}
    for column in second.schema:
        values = second.subjects[column.name].reindex(ids)
        if column.name in columns:
            column, values = _agreed(columns[column.name], column, subjects[column.name], values)
        columns[column.name] = column
        subjects[column.name] = values
    excluded = pd.concat([first.excluded, second.excluded], ignore_index=True)
    events = first.events if second.events is None else second.events
    return Cohort(f"{first.name}+{second.name}", subjects, Schema(list(columns.values())), regions, excluded, events, images)


def _both(what: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], first: Cohort, second: Cohort) -> dict[str, Any]:
    shared = sorted(set(mine) & set(theirs))
    if shared:
        raise DataError(f"Expected {what} {shared[0]!r} in {first.name!r} or {second.name!r}, found it in both. Give one of them another name.")
    return {**mine, **theirs}


def _agreed(mine: Column, theirs: Column, here: "pd.Series[Any]", there: "pd.Series[Any]") -> tuple[Column, "pd.Series[Any]"]:
    """A column of both, and what either says of each subject."""
    for what in ("kind", "role", "unit"):
        if getattr(mine, what) != getattr(theirs, what):
            raise SchemaError(
                f"Expected the same {what} of column {mine.name!r} in both sources, found {getattr(mine, what)!r} and {getattr(theirs, what)!r}."
            )
    differ = here.notna() & there.notna() & (here.astype("object") != there.astype("object"))
    if differ.any():
        odd = here.index[differ].tolist()
        raise DataError(
            f"Expected {mine.name!r} to be the same in both sources, found other values of {len(odd)} subjects: {odd[:5]}. "
            "Mend it, or drop the column from one."
        )
    categories = None if mine.categories is None else tuple(dict.fromkeys((*mine.categories, *(theirs.categories or ()))))
    return replace(mine, categories=categories), here.where(here.notna(), there)
