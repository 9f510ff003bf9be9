"""Cohorts put together to be pre-trained on: several into a pool, or a pool's subjects with those of a target."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.events import Events
from graphssl.data.images import REFERENCE_COLUMNS, ImageData
from graphssl.data.regions import RegionData
from graphssl.data.schema import Column, Schema
from graphssl.errors import DataError

SOURCE, FAMILY = "source", "family"


def pooled(cohorts: Mapping[str, Cohort] | Sequence[Cohort]) -> Cohort:
    """Several cohorts as one pool: ids and groups begin with the name of their cohort, which the column `source` holds too.

    Columns, atlases and images that not all of them have alike are left out.

    Args:
        cohorts: The cohorts, by name; by their own where they are a list.

    Raises:
        DataError: If there is none, or two have one name.
    """
    named = list(cohorts.items()) if isinstance(cohorts, Mapping) else [(cohort.name, cohort) for cohort in cohorts]
    names = [name for name, _ in named]
    if not names or len(set(names)) < len(names):
        raise DataError(f"Expected one or more cohorts for a pool, each with a name of its own, found {names}.")
    return reduce(or_, alike([_from(name, cohort) for name, cohort in named]))


def together(first: Cohort, second: Cohort) -> Cohort:
    """Two cohorts as one without labels: what both have alike, and the families of each in the column `family`.

    Args:
        first: Subjects, such as those chosen of a pool.
        second: Others, such as the training subjects of a target.

    Raises:
        SchemaError: If a subject is in both.
    """
    return reduce(or_, alike([_with_families(cohort) for cohort in (first, second)]))


def alike(cohorts: Sequence[Cohort]) -> list[Cohort]:
    """The cohorts with the columns, atlases and images that all have; a column counts where kind, role and unit agree."""
    columns = [column for column in cohorts[0].schema if all(_has(cohort, column) for cohort in cohorts[1:])]
    names = [column.name for column in columns]
    atlases = [name for name in cohorts[0].regions if all(name in cohort.regions for cohort in cohorts)]
    images = [name for name in cohorts[0].images if all(name in cohort.images for cohort in cohorts)]
    groups = {name: [group for group in cohorts[0].images[name].groups if all(group in c.images[name].groups for c in cohorts)] for name in images}
    return [
        Cohort(
            cohort.name,
            cohort.subjects[names],
            Schema([cohort.schema[name] for name in names]),
            {name: cohort.regions[name] for name in atlases},
            events=cohort.events,
            images={name: _without_masks(cohort.images[name], groups[name]) for name in images},
        )
        for cohort in cohorts
    ]


def _has(cohort: Cohort, column: Column) -> bool:
    if column.name not in cohort.schema:
        return False
    known = cohort.schema[column.name]
    return (known.kind, known.role, known.unit) == (column.kind, column.role, column.unit)


def _without_masks(data: ImageData, groups: list[str]) -> ImageData:
    """References to the images alone: classes of masks differ from cohort to cohort."""
    table = data.table[[*REFERENCE_COLUMNS, *groups]].assign(mask_path="", mask_part="", mask_hash="")
    return replace(data, table=table, classes=(), mask_values=())


def _with_families(cohort: Cohort) -> Cohort:
    """A cohort without its labels, whose families are a column."""
    columns = [column.name for column in cohort.schema if column.role not in ("target", "split")]
    subjects, schema = cohort.subjects[columns], Schema([cohort.schema[name] for name in columns])
    return replace(cohort, subjects=subjects, schema=schema).with_column(Column(FAMILY, "categorical", "group"), cohort.groups)


def _from(name: str, cohort: Cohort) -> Cohort:
    """A cohort under new ids, which begin with a name, as do those of its sites and groups."""
    new = {subject: f"{name}/{subject}" for subject in cohort.ids}
    named = [*cohort.schema.named("group"), *cohort.schema.named("site")]
    values = {column: f"{name}/" + cohort.subjects[column].astype("str").where(cohort.subjects[column].notna()) for column in named}
    subjects = cohort.subjects.assign(**values).set_axis(pd.Index([*new.values()], dtype="str"))
    schema = Schema([replace(column, categories=None) if column.name in named else column for column in cohort.schema])
    renamed = Cohort(
        name,
        subjects,
        schema,
        {atlas: _renamed_regions(data, new) for atlas, data in cohort.regions.items()},
        events=None if cohort.events is None else _renamed_events(cohort.events, new),
        images={image: _renamed_images(data, new, name) for image, data in cohort.images.items()},
    )
    return renamed.with_column(Column(SOURCE, "categorical", "covariate"), pd.Series(name, index=subjects.index, dtype="str"))


def _renamed_regions(data: RegionData, new: Mapping[str, str]) -> RegionData:
    values, observed = {new[s]: array for s, array in data.values.items()}, {new[s]: seen for s, seen in data.observed.items()}
    return replace(data, values=values, observed=observed)


def _renamed_events(events: Events, new: Mapping[str, str]) -> Events:
    return replace(events, table=events.table.assign(subject_id=events.table["subject_id"].cat.rename_categories(dict(new))))


def _renamed_images(data: ImageData, new: Mapping[str, str], name: str) -> ImageData:
    groups = {group: [f"{name}/{value}" if value else "" for value in data.table[group]] for group in data.groups}
    return replace(data, table=data.table.assign(subject_id=data.table["subject_id"].map(new), **groups))
