"""Challenge scores: against the challenges' own definitions, one patient and one hour at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import DataError
from graphssl.statistics import event1, event1_best_threshold, event1_threshold, event2, sepsis_utility, utility_threshold


def drawn(n, seed, ties=False):
    rng = np.random.default_rng(seed)
    y = np.concatenate([[0, 1], rng.integers(0, 2, n - 2)])
    p = np.clip(0.3 * y + 0.7 * rng.random(n), 0, 1)
    return y, p.round(1) if ties else p


def slow_event1(y, p, threshold):
    counts = {"tp": 0, "fp": 0, "fn": 0}
    for label, score in zip(y, p, strict=True):
        if score > threshold:
            counts["tp" if label else "fp"] += 1
        elif label:
            counts["fn"] += 1
    if counts["tp"] == 0:
        return 0.0
    return min(counts["tp"] / (counts["tp"] + counts["fn"]), counts["tp"] / (counts["tp"] + counts["fp"]))


def slow_event2(y, p):
    rows = sorted(zip(p, range(len(y)), y, strict=True))
    size = len(rows) // 10
    total, risks = 0.0, []
    for decile in range(10):
        part = rows[decile * size : (decile + 1) * size]
        deaths = sum(label for _, _, label in part)
        risk = sum(score for score, _, _ in part) / size
        risks.append(risk)
        total += (deaths - size * risk) ** 2 / (size * risk * (1 - risk) + 0.001)
    return total / (risks[9] - risks[0])


def slow_utility_of_a_patient(labels, calls):
    """The published curves: for each hour of a patient, what the call or the silence is worth."""
    septic = 1 in labels
    onset = labels.index(1) + 6 if septic else None
    total = 0.0
    for hour, call in enumerate(calls):
        if not septic:
            total += -0.05 if call else 0.0
            continue
        since = hour - onset
        if since > 3:
            continue
        if call:
            rising = 1.0 * (since + 12) / 6
            falling = 1.0 * (3 - since) / 9
            total += max(rising, -0.05) if since <= -6 else falling
        else:
            total += 0.0 if since <= -6 else -2.0 * (since + 6) / 9
    return total


def slow_utility(stays, calls):
    observed = best = silent = 0.0
    for labels, called in zip(stays, calls, strict=True):
        ideal = [0] * len(labels)
        if 1 in labels:
            onset = labels.index(1) + 6
            for hour in range(max(0, onset - 12), min(onset + 3 + 1, len(labels))):
                ideal[hour] = 1
        observed += slow_utility_of_a_patient(labels, called)
        best += slow_utility_of_a_patient(labels, ideal)
        silent += slow_utility_of_a_patient(labels, [0] * len(labels))
    return (observed - silent) / (best - silent)


def stays_of(seed, n_patients=12):
    rng = np.random.default_rng(seed)
    stays = [[0] * int(rng.integers(1, 40)) for _ in range(n_patients)]
    for labels in stays[::2]:
        first = int(rng.integers(0, len(labels)))
        labels[first:] = [1] * (len(labels) - first)
    return stays


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 7, 60])
def test_event1_is_that_of_the_counts(n, ties):
    y, p = drawn(n, n, ties)
    for threshold in (-0.1, 0.0, 0.25, 0.5, 0.9, 1.0):
        assert event1(y, p, threshold) == pytest.approx(slow_event1(y, p, threshold))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_there_is(seed, ties):
    y, p = drawn(40, seed, ties)
    candidates = [-1.0, *p]
    best = max(slow_event1(y, p, threshold) for threshold in candidates)
    assert event1(y, p, event1_threshold(y, p)) == pytest.approx(best)
    assert event1_best_threshold(y, p) == pytest.approx(best)
    others_y, others_p = drawn(40, seed + 100, ties)
    assert event1(others_y, others_p, event1_threshold(y, p)) <= event1_best_threshold(others_y, others_p)


@pytest.mark.parametrize("n", [10, 40, 400])
def test_event2_is_the_published_statistic(n):
    y, p = drawn(n, n)
    assert event2(y, p) == pytest.approx(slow_event2(y.tolist(), p.tolist()))


def test_event2_where_ten_does_not_divide():
    y, p = drawn(43, 0)
    assert 0 <= event2(y, p) < math.inf, "nobody is left out"
    rare = p.copy()
    rare[np.argmax(p)] = 1.0
    assert event2(y, rare) != event2(y, p)


def test_event2_likes_true_probabilities():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.6, 4000)
    y = (rng.random(4000) < p).astype(int)
    assert event2(y, p) < 60 < event2(y, p**2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_utility_is_that_of_the_published_curves(seed):
    stays, rng = stays_of(seed), np.random.default_rng(seed)
    scores = [rng.random(len(labels)) for labels in stays]
    y, p = np.concatenate(stays), np.concatenate(scores)
    patients = np.repeat([f"p{k}" for k in range(len(stays))], [len(labels) for labels in stays])
    expected = slow_utility(stays, [(score > 0.6).astype(int).tolist() for score in scores])
    assert sepsis_utility(y, p, patients, 0.6) == pytest.approx(expected)
    order = rng.permutation(len(stays))
    turned = np.concatenate([np.flatnonzero(patients == f"p{k}") for k in order])
    assert sepsis_utility(y[turned], p[turned], patients[turned], 0.6) == pytest.approx(expected), "whoever comes first"


def test_silence_is_zero_and_the_best_calls_are_one():
    stays = [[0] * 20 + [1] * 10, [0] * 15]
    y, patients = np.concatenate(stays), ["a"] * 30 + ["b"] * 15
    assert sepsis_utility(y, np.zeros(45), patients, 0.5) == 0
    ideal = np.zeros(45)
    ideal[14:30] = 1  # from twelve hours before the onset, which is at 26, to three after
    assert sepsis_utility(y, ideal, patients, 0.5) == pytest.approx(1)
    assert sepsis_utility(y, np.ones(45) - ideal, patients, 0.5) < 0


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_of_the_utility_is_the_best_there_is(seed):
    stays, rng = stays_of(seed), np.random.default_rng(seed)
    y = np.concatenate(stays)
    p = (0.2 * y + rng.random(len(y))).round(1 + seed % 2)
    patients = np.repeat(np.arange(len(stays)), [len(labels) for labels in stays])
    best = max(sepsis_utility(y, p, patients, threshold) for threshold in [-1.0, *p])
    assert sepsis_utility(y, p, patients, utility_threshold(y, p, patients)) == pytest.approx(best)


def test_where_silence_is_best():
    y, patients = [0] * 8 + [1], ["a"] * 4 + ["b"] * 5
    p = [0.9] * 4 + [0.1] * 5
    worse = [0.9] * 300 + [0.1] * 5
    assert sepsis_utility(y, p, patients, utility_threshold(y, p, patients)) > 0
    many = ["a"] * 300 + ["b"] * 5
    labels = [0] * 304 + [1]
    assert utility_threshold(labels, worse, many) == 0.9
    assert sepsis_utility(labels, worse, many, 0.9) == 0


def test_where_there_is_nothing_to_score():
    y, p = [0] * 12, np.linspace(0, 1, 12)
    assert math.isnan(event1(y, p, 0.5))
    assert math.isnan(event1_threshold(y, p))
    assert math.isnan(event1_best_threshold(y, p))
    assert math.isnan(sepsis_utility(y, p, ["a"] * 12, 0.5))
    assert math.isnan(utility_threshold(y, p, ["a"] * 12))
    assert math.isnan(event2([0, 1], [0.2, 0.4]))
    assert math.isnan(event2([0, 1] * 10, [0.5] * 20))
    assert event1([0, 1], [0.2, 0.4], 0.9) == 0


def test_bad_input():
    with pytest.raises(DataError, match="Expected a patient for each of the 3 hours, found 2"):
        sepsis_utility([0, 1, 1], [0.1, 0.2, 0.3], ["a", "a"], 0.5)
    with pytest.raises(DataError, match="Expected a task of two classes for a score of the challenges, found 3"):
        event1([0, 1, 2], np.eye(3), 0.5)
    with pytest.raises(DataError, match="Expected probabilities within 0 to 1"):
        event2([0, 1], [0.1, 3.0])
