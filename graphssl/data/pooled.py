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
    return reduce(or_, alike([without_masks(_from(name, cohort)) for name, cohort in named]))


def together(first: Cohort, second: Cohort) -> Cohort:
    """Two cohorts as one without labels: what both have alike, and the families of each in the column `family`. Masks are those of the second.

    Args:
        first: Subjects, such as those chosen of a pool.
        second: Others, such as the training subjects of a target.

    Raises:
        SchemaError: If a subject is in both.
    """
    return reduce(or_, shared(first, second))


def shared(first: Cohort, second: Cohort) -> list[Cohort]:
    """Both without labels, with what both have alike and their families; the first, which is to be pre-trained on for the second, without masks."""
    return alike([without_masks(_with_families(first), like=second), _with_families(second)])


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
            images={name: _with_groups(cohort.images[name], groups[name]) for name in images},
        )
        for cohort in cohorts
    ]


def without_masks(cohort: Cohort, like: Cohort | None = None) -> Cohort:
    """A cohort whose images have no masks, of which a pool may have others than a target.

    Args:
        cohort: The cohort.
        like: A cohort whose classes the images are said to know, so that what is fitted on them reads that one too.
    """
    of_others: Mapping[str, ImageData] = {} if like is None else like.images
    images = {}
    for name, data in cohort.images.items():
        classes, values = (of_others[name].classes, of_others[name].mask_values) if name in of_others else ((), ())
        images[name] = replace(data, table=data.table.assign(mask_path="", mask_part="", mask_hash=""), classes=classes, mask_values=values)
    return replace(cohort, images=images)


def _has(cohort: Cohort, column: Column) -> bool:
    if column.name not in cohort.schema:
        return False
    known = cohort.schema[column.name]
    return (known.kind, known.role, known.unit) == (column.kind, column.role, column.unit)


def _with_groups(data: ImageData, groups: list[str]) -> ImageData:
    return replace(data, table=data.table[[*REFERENCE_COLUMNS, *groups]])


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
    return renamed.with_column(Column(SOURCE, "categorical", "identifier"), pd.Series(name, index=subjects.index, dtype="str"))


def _renamed_regions(data: RegionData, new: Mapping[str, str]) -> RegionData:
    values, observed = {new[s]: array for s, array in data.values.items()}, {new[s]: seen for s, seen in data.observed.items()}
    return replace(data, values=values, observed=observed)


def _renamed_events(events: Events, new: Mapping[str, str]) -> Events:
    return replace(events, table=events.table.assign(subject_id=events.table["subject_id"].cat.rename_categories(dict(new))))


def _renamed_images(data: ImageData, new: Mapping[str, str], name: str) -> ImageData:
    groups = {group: [f"{name}/{value}" if value else "" for value in data.table[group]] for group in data.groups}
    return replace(data, table=data.table.assign(subject_id=data.table["subject_id"].map(new), **groups))
