"""Splits of a protocol, the same for every method; who has no label trains, where that leaks nothing."""

from collections.abc import Sequence
from typing import Literal, get_args

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, k_fold, leave_one_site_out, published, stratum, time_ordered
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.task import Task

ProtocolName = Literal["leave_one_site_out", "k_fold", "published", "time_ordered"]


def make_splits(cohort: Cohort, task: Task, protocol: str, n_splits: int = 5) -> list[Split]:
    """Splits of the labelled subjects; unlabelled ones join the training side of each, unless their site or family is held out.

    Raises:
        ConfigError: If the protocol is unknown.
        DataError: If the cohort has no sites to leave out or no times to order by, or a training side holds one class only.
        LeakageError: If a family spans two sides.
    """
    labelled = cohort.select([subject for subject in cohort.ids if subject in task.labels])
    # Two labelled subjects may be linked through one without a label.
    groups, sites = cohort.groups[labelled.ids].tolist(), labelled.sites
    if protocol == "leave_one_site_out":
        if sites is None:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site', found none. Use k-fold cross-validation.")
        splits = leave_one_site_out(labelled.ids, sites.tolist(), groups=groups)
    elif protocol == "k_fold":
        strata = [str(task.labels[subject]) for subject in labelled.ids]
        both = strata if sites is None else stratum(strata, sites.tolist())
        enough = pd.Series(both).value_counts().min() >= n_splits
        splits = k_fold(labelled.ids, both if enough else strata, groups=groups, n_splits=n_splits)
    elif protocol == "published":
        names = cohort.schema.named("split")
        if not names:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'split', found none. Use k-fold cross-validation.")
        splits = [published(labelled.ids, labelled.subjects[name].tolist(), name=name, groups=groups) for name in names]
    elif protocol == "time_ordered":
        times = labelled.prediction_times
        if times is None:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'prediction_time', found none. Use k-fold cross-validation.")
        splits = time_ordered(labelled.ids, times.tolist(), groups=groups, n_splits=n_splits)
    else:
        raise ConfigError(f"Expected the protocol to be one of {', '.join(map(repr, get_args(ProtocolName)))}; found {protocol!r}.")
    if task.masks is None:
        _check_training_classes(task, splits)
    return [_with_unlabelled(cohort, task, split, protocol) for split in splits]


def _check_training_classes(task: Task, splits: Sequence[Split]) -> None:
    for split in splits:
        found = sorted({task.labels[subject] for subject in split.train})
        if len(found) < 2:
            raise DataError(
                f"Expected at least two classes among the training subjects of split {split.name!r}, found only {task.classes[found[0]]!r}: "
                f"every other class is in its test set. Use k-fold cross-validation, or leave subjects of {split.name!r} out."
            )


def _with_unlabelled(cohort: Cohort, task: Task, split: Split, protocol: str) -> Split:
    groups, sites = cohort.groups, cohort.sites
    held_groups = set(groups[list(split.test)])
    extra = [s for s in cohort.ids if s not in task.labels and groups[s] not in held_groups]
    if protocol == "leave_one_site_out" and sites is not None:
        extra = [s for s in extra if sites[s] != split.name]
    times = cohort.prediction_times
    if protocol == "time_ordered" and times is not None:
        extra = [s for s in extra if times[s] < times[list(split.test)].min()]
    return Split(split.name, (*split.train, *extra), split.test)
