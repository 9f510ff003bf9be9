"""Classes: their names, and their numbers by subject."""

from collections.abc import Mapping, Sequence

from graphssl.data.cohort import Cohort
from graphssl.errors import DataError


def class_numbers(labels: Mapping[str, str], purpose: str, advice: str) -> dict[str, int]:
    """The number of the class of each subject, classes in the order of their words.

    Args:
        labels: Label by subject id.
        purpose: What labels are for, for the error.
        advice: What to do where they will not serve, for the error.

    Raises:
        DataError: If there are fewer than two classes.
    """
    classes = sorted(set(labels.values()))
    if len(classes) < 2:
        raise DataError(f"Expected labels of two classes or more {purpose}, found {classes}. {advice}")
    return {subject: classes.index(label) for subject, label in labels.items()}


def classes_of(cohort: Cohort, target: str | None = None, classes: Sequence[str] | None = None) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of the classes of a target, and the number of the class of each subject that has a label.

    Args:
        cohort: The subjects.
        target: Column to predict; the one with that role when left out.
        classes: Names of the classes in order; those found, sorted, when left out.

    Raises:
        SchemaError: If the column is not in the table, or no name is given and there is not exactly one target.
        DataError: If fewer than two classes are present, or a label is none of the classes that are named.
    """
    labels = cohort.labels(target)
    found = sorted(set(labels.values()))
    names = tuple(found if classes is None else classes)
    strange = [label for label in found if label not in names]
    if strange:
        column = cohort.target(target).name
        raise DataError(
            f"Expected {column!r} of {cohort.name!r} to hold the classes {list(names)}, found {strange[:3]} too. "
            "Name every class, or leave those subjects out."
        )
    return names, {subject: names.index(label) for subject, label in labels.items()}
