"""What is predicted of whom: a column of subjects, or the masks of images; with its labels, without them, or with shuffled ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from graphssl.data.classes import classes_of
from graphssl.data.cohort import Cohort, check_before_outcome
from graphssl.errors import DataError
from graphssl.training.segment import subjects_with_masks


@dataclass(frozen=True)
class Task:
    """What to predict, and under which names it is written down.

    Attributes:
        cohort: Name of the cohort.
        target: Name of the task in the results.
        protocol: Name of the protocol in the results.
        labels: Class index by subject id.
        classes: Names of the classes, in order of their index.
        masks: Name of the images whose masks are predicted, voxel by voxel; labels are then 0 for all who have some. None for classes of subjects.
    """

    cohort: str
    target: str
    protocol: str
    labels: Mapping[str, int]
    classes: tuple[str, ...]
    masks: str | None = None


def make_task(cohort: Cohort, target: str | None, classes: Sequence[str] | None, protocol: str) -> Task:
    """The task of predicting a column.

    Raises:
        DataError: If a label is not among the classes, or there is one class.
        LeakageError: If the cohort has events with a time, and no prediction times that keep them from the outcome.
    """
    check_before_outcome(cohort)
    names, numbers = classes_of(cohort, target, classes)
    return Task(cohort.name, str(cohort.target(target).name), protocol, numbers, names)


def make_mask_task(cohort: Cohort, protocol: str, images: str | None = None) -> Task:
    """The task of predicting the masks of images.

    Args:
        cohort: The cohort.
        protocol: Name of the protocol.
        images: Name of the images; the only ones with masks when left out.

    Raises:
        DataError: If there are no images with masks, or several kinds and none is named.
    """
    known = {name: data for name, data in cohort.images.items() if data.has_masks and images in (None, name)}
    if len(known) != 1:
        raise DataError(f"Expected one kind of images with segmentation masks in {cohort.name!r}, found {list(known) or 'none'}.")
    ((name, data),) = known.items()
    return Task(cohort.name, f"masks of {name}", protocol, dict.fromkeys(subjects_with_masks(cohort, name), 0), data.classes[1:], name)


def without_labels(cohort: Cohort, task: Task) -> Cohort:
    """The cohort with its target column emptied: a method gets labels as `y`, or not at all."""
    if task.target not in cohort.schema:
        return cohort
    return cohort.with_column(cohort.schema[task.target], pd.Series(np.nan, index=cohort.subjects.index))


def shuffle_labels(cohort: Cohort, task: Task, seed: int) -> Task:
    """The task with labels shuffled within each site, so that nothing but their meaning is lost."""
    ids = pd.Series(list(task.labels), dtype="str")
    sites = cohort.sites
    members_of = pd.Series("all", index=ids.index) if sites is None else pd.Series([sites[i] for i in ids])
    generator = np.random.default_rng(seed)
    shuffled: dict[str, int] = {}
    for _, members in ids.groupby(members_of.to_numpy()):
        values = generator.permutation([task.labels[subject] for subject in members])
        shuffled.update(zip(members, values.tolist(), strict=True))
    return replace(task, labels=shuffled)
