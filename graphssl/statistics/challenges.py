"""The official scores of two challenges on patients in intensive care: PhysioNet 2012 (death in hospital) and PhysioNet 2019 (sepsis, hour by hour).

Two of the scores look at calls and not at probabilities, so that a threshold has to be chosen. It is chosen on patients other than those who are
scored: `event1_threshold` and `utility_threshold` choose, `event1` and `sepsis_utility` are given what was chosen.

Sources: Silva et al., *Computing in Cardiology* 2012, and the scoring of https://physionet.org/content/challenge-2012/1.0.0/; Reyna et al., *Critical
Care Medicine* 2020, doi:10.1097/CCM.0000000000004145.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError
from graphssl.statistics.checks import Labels, Scores, check_scores, one_class


def event1(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> float:
    """Score of event 1 of PhysioNet 2012: the smaller of sensitivity and positive predictivity.

    Args:
        y: 1 for patients who died `[n]`.
        p: Score of death `[n]`.
        threshold: Death is called where the score lies above it; chosen on other patients.

    Returns:
        A value in [0, 1], 0 where nobody is called; NaN if `y` holds one class only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    labels, scores = _binary(y, p)
    if one_class(labels):
        return math.nan
    called = scores > threshold
    hits = float((labels * called).sum())
    return min(hits / labels.sum(), hits / max(1, called.sum()))


def event1_threshold(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """The threshold at which these patients have the highest `event1`, half way between two scores.

    Args:
        y: 1 for patients who died `[n]`.
        p: Score of death `[n]`.

    Returns:
        The threshold; NaN if `y` holds one class only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    labels, scores = _binary(y, p)
    if one_class(labels):
        return math.nan
    n_called, hits, thresholds = _calls(scores, labels.astype(np.float64))
    return float(thresholds[np.argmax(np.minimum(hits / labels.sum(), hits / n_called))])


def event1_best_threshold(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """The highest `event1` that any threshold gives on these very patients: an upper bound, since the threshold has seen their outcomes.

    Args:
        y: 1 for patients who died `[n]`.
        p: Score of death `[n]`.

    Returns:
        A value in [0, 1]; NaN if `y` holds one class only.

    Raises:
        DataError: If labels and scores do not fit.
    """
    return event1(y, p, event1_threshold(y, p))


def event2(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Score of event 2 of PhysioNet 2012, lower is better: the Hosmer–Lemeshow H statistic over the range of the deciles' risks.

    Patients are sorted by risk into ten bins. Over the bins (observed − expected deaths)² / (n π (1 − π) + 0.001) is summed, π being the mean risk of
    a bin, and divided by the difference of π between the last bin and the first. Where ten does not divide the number of patients, bins differ by one
    (the challenge, with 4000, does not say).

    Args:
        y: 1 for patients who died `[n]`.
        p: Probability of death `[n]`.

    Returns:
        A value of 0 or more; NaN if there are fewer than ten patients, or the first and the last bin have one risk.

    Raises:
        DataError: If labels and probabilities do not fit.
    """
    labels, risks = _binary(y, p, probabilities=True)
    if len(labels) < _N_BINS:
        return math.nan
    order = np.argsort(risks, kind="stable")
    bins = [(len(part), labels[part].sum(), risks[part].mean()) for part in np.array_split(order, _N_BINS)]
    size, observed, risk = np.asarray(bins, dtype=np.float64).T
    spread = risk[-1] - risk[0]
    if spread <= 0:
        return math.nan
    return float(((observed - size * risk) ** 2 / (size * risk * (1 - risk) + 0.001)).sum() / spread)


def sepsis_utility(y: npt.ArrayLike, p: npt.ArrayLike, patients: Sequence[Any] | npt.NDArray[Any], threshold: float) -> float:
    """Normalised utility of PhysioNet 2019: 1 for the best possible calls, 0 for none at all, below 0 for worse than none.

    Labels turn 1 six hours before the onset of sepsis. A call in a patient who becomes septic is worth most (1) six hours before the onset; its worth
    rises from 0 at twelve hours before and falls to 0 at three hours after, when silence costs 2. Earlier calls, and every call in other patients,
    cost 0.05. Later than three hours after the onset nothing counts.

    Args:
        y: Label of each hour `[n]`; the hours of a patient are in order, one row an hour.
        p: Score of each hour `[n]`.
        patients: Patient of each row `[n]`.
        threshold: Sepsis is called where the score lies above it; chosen on other patients.

    Returns:
        A value up to 1; NaN where nobody becomes septic.

    Raises:
        DataError: If labels, scores and patients do not fit.
    """
    labels, scores = _binary(y, p)
    gains = _gains(labels, patients)
    return _normalised(float(gains[scores > threshold].sum()), gains)


def utility_threshold(y: npt.ArrayLike, p: npt.ArrayLike, patients: Sequence[Any] | npt.NDArray[Any]) -> float:
    """The threshold at which these patients have the highest `sepsis_utility`, half way between two scores; the highest score where silence is best.

    Args:
        y: Label of each hour `[n]`; the hours of a patient are in order, one row an hour.
        p: Score of each hour `[n]`.
        patients: Patient of each row `[n]`.

    Returns:
        The threshold; NaN where nobody becomes septic.

    Raises:
        DataError: If labels, scores and patients do not fit.
    """
    labels, scores = _binary(y, p)
    if one_class(labels):
        return math.nan
    _, gained, thresholds = _calls(scores, _gains(labels, patients))
    best = int(np.argmax(gained))
    return float(thresholds[best] if gained[best] > 0 else scores.max())


def _binary(y: npt.ArrayLike, p: npt.ArrayLike, *, probabilities: bool = False) -> tuple[Labels, Scores]:
    labels, scores = check_scores(y, p, probabilities=probabilities)
    if scores.ndim > 1:
        raise DataError(f"Expected a task of two classes for a score of the challenges, found {scores.shape[1]}. Score two of them.")
    return labels, scores


def _calls(scores: Scores, worth: Scores) -> tuple[Scores, Scores, Scores]:
    """For every threshold that changes the calls: how many are called, the sum of their worth, and the threshold, from the highest on."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.flatnonzero(np.append(np.diff(falling) < 0, True))  # of equal scores all are called or none
    below = np.append(falling[last[:-1] + 1], np.nextafter(falling[-1], -np.inf))
    middle = (falling[last] + below) / 2
    return (last + 1).astype(np.float64), np.cumsum(worth[order])[last], np.where(middle < falling[last], middle, below)


def _gains(labels: Labels, patients: Sequence[Any] | npt.NDArray[Any]) -> Scores:
    """What calling sepsis is worth beyond silence, at each hour `[n]`."""
    names = np.asarray([str(patient) for patient in patients])
    if len(names) != len(labels):
        raise DataError(f"Expected a patient for each of the {len(labels)} hours, found {len(names)}.")
    patient = np.unique(names, return_inverse=True)[1]
    order = np.argsort(patient, kind="stable")
    starts = np.flatnonzero(np.diff(patient[order], prepend=-1))
    hour = np.empty(len(labels))
    hour[order] = np.arange(len(labels)) - np.repeat(starts, np.diff(np.append(starts, len(labels))))
    first = np.full(len(starts), np.inf)
    np.minimum.at(first, patient[labels == 1], hour[labels == 1])
    septic = np.isfinite(first[patient])
    since = np.where(septic, hour - first[patient] - _AHEAD, 0.0)  # hours since the onset
    early, late = since <= _OPTIMAL, since > _LATE
    call = np.where(early, np.maximum((since - _EARLY) / (_OPTIMAL - _EARLY), _FALSE_CALL), (_LATE - since) / (_LATE - _OPTIMAL))
    silence = np.where(early, 0.0, _MISSED * (since - _OPTIMAL) / (_LATE - _OPTIMAL))
    return np.where(septic, np.where(late, 0.0, call - silence), _FALSE_CALL)


def _normalised(gained: float, gains: Scores) -> float:
    best = float(gains.clip(min=0.0).sum())
    return gained / best if best > 0 else math.nan


_N_BINS = 10
_AHEAD = 6  # hours by which the label runs ahead of the onset
_EARLY, _OPTIMAL, _LATE = -12.0, -6.0, 3.0  # hours since the onset
_FALSE_CALL, _MISSED = -0.05, -2.0
