"""Scores of challenges beside the metrics of an evaluation, with thresholds chosen on training subjects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, hold_out
from graphssl.errors import ConfigError, DataError
from graphssl.estimators import WITHHELD
from graphssl.statistics.challenges import event1, event1_best_threshold, event1_threshold, event2, sepsis_utility, utility_threshold

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
Choice = Callable[[Labels, Probabilities, Cohort], float]

_HELD_OUT = 0.2


@dataclass(frozen=True)
class ChallengeScore:
    """One score.

    Args:
        value: The score of labels, probabilities, their cohort and a threshold.
        threshold: What chooses the threshold from the first three, on training subjects; None where there is none to choose.
        is_hourly: Whether the cohort has to have one row an hour.
    """

    value: Callable[[Labels, Probabilities, Cohort, float], float]
    threshold: Choice | None = None
    is_hourly: bool = False


def challenge_scores(
    names: Sequence[str], method: Any, train: Cohort, y_train: Labels, test: Cohort, y: Labels, p: Probabilities, *, seed: int
) -> dict[str, float]:
    """The scores of a fitted method on its test subjects.

    A threshold is chosen on a fifth of the labelled training subjects, whole families, that a copy of the method was not fitted on: one more fit.

    Args:
        names: Names of `CHALLENGE_SCORES`.
        method: The method.
        train: Its training subjects.
        y_train: Their classes `[n]`, `-1` where withheld.
        test: The test subjects.
        y: Their classes `[m]`.
        p: Probability of class 1 of each `[m]`.
        seed: Seed of the draw of the fifth.

    Returns:
        Value by name; NaN where the labels are too few to choose a threshold, or the score is not defined.
    """
    chosen = [CHALLENGE_SCORES[name] for name in names]
    fold = _fold(train, y_train, seed) if any(score.threshold is not None for score in chosen) else None
    aside = None if fold is None else _predicted_aside(method, train, y_train, fold)
    values = {}
    for name, score in zip(names, chosen, strict=True):
        threshold = np.nan if aside is None or score.threshold is None else score.threshold(*aside)
        undecided = score.threshold is not None and np.isnan(threshold)
        values[name] = float("nan") if undecided else score.value(y, p, test, threshold)
    return values


def check_scores_fit(names: Sequence[str], cohort: Cohort, n_classes: int) -> None:
    """Check that the scores exist and can be worked out for a cohort.

    Raises:
        ConfigError: If a name is unknown, or the task has other than two classes.
        DataError: If a score wants one row an hour and the cohort has no prediction times, or a patient two rows of one time.
    """
    unknown = sorted(set(names) - set(CHALLENGE_SCORES))
    if unknown:
        raise ConfigError(f"Expected scores among {', '.join(CHALLENGE_SCORES)}; found {unknown[0]!r}.")
    if names and n_classes != 2:
        raise ConfigError(f"Expected a task of two classes for {names[0]}, found {n_classes}. Leave the score out.")
    if not any(CHALLENGE_SCORES[name].is_hourly for name in names):
        return
    times = cohort.prediction_times
    if times is None or not cohort.schema.named("group"):
        raise DataError(f"Expected {cohort.name!r} to have a row an hour, with prediction times and groups, for the utility; found none.")
    by_patient = times.groupby(cohort.groups.to_numpy())
    hours = (by_patient.max() - by_patient.min()).dt.total_seconds() / 3600 + 1
    if not (by_patient.nunique() == by_patient.size()).all() or not (hours == by_patient.size()).all():
        raise DataError(f"Expected a row of {cohort.name!r} for every hour of a patient from the first to the last, found hours twice or left out.")


def _fold(train: Cohort, y: Labels, seed: int) -> Split | None:
    """Who of the labelled subjects is set aside; None where the labels are too few."""
    labelled = [subject for subject, label in zip(train.ids, y, strict=True) if label != WITHHELD]
    classes = [str(label) for label in y if label != WITHHELD]
    try:
        return hold_out(labelled, classes, groups=train.groups[labelled].tolist(), test_fraction=_HELD_OUT, seed=seed)
    except DataError:
        return None


def _predicted_aside(method: Any, train: Cohort, y: Labels, fold: Split) -> tuple[Labels, Probabilities, Cohort] | None:
    """Labels, probabilities and cohort of those set aside, from a copy that was fitted on the others."""
    families = train.groups
    held = set(families[list(fold.test)])
    kept = np.asarray([family not in held for family in families])
    label_of = dict(zip(train.ids, y.tolist(), strict=True))
    if len({label for label, keep in zip(y, kept, strict=True) if keep and label != WITHHELD}) < 2:
        return None
    others, aside = train.select(kept), train.select(fold.test)
    try:
        copy = clone(method).fit(others, y[kept], others.groups.to_numpy())
    except DataError:  # enough subjects for the method, but not without a fifth of them
        return None
    return np.asarray([label_of[subject] for subject in aside.ids]), np.asarray(copy.predict_proba(aside))[:, 1], aside


def _in_order(y: Labels, p: Probabilities, cohort: Cohort) -> tuple[Labels, Probabilities, npt.NDArray[Any]]:
    """Rows in order of time, with the patient of each."""
    times = cohort.prediction_times
    assert times is not None
    order = np.argsort(times.to_numpy(), kind="stable")
    return y[order], p[order], cohort.groups.to_numpy()[order]


def _utility(y: Labels, p: Probabilities, cohort: Cohort, threshold: float) -> float:
    return sepsis_utility(*_in_order(y, p, cohort), threshold)


CHALLENGE_SCORES: dict[str, ChallengeScore] = {
    "physionet2012_event1": ChallengeScore(lambda y, p, _, threshold: event1(y, p, threshold), lambda y, p, _: event1_threshold(y, p)),
    "physionet2012_event1_best_threshold": ChallengeScore(lambda y, p, *_: event1_best_threshold(y, p)),
    "physionet2012_event2": ChallengeScore(lambda y, p, *_: event2(y, p)),
    "physionet2019_utility": ChallengeScore(_utility, lambda *rows: utility_threshold(*_in_order(*rows)), is_hourly=True),
}
