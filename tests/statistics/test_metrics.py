import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score

from graphssl.errors import DataError
from graphssl.statistics.difference import Comparison
from graphssl.statistics.metrics import (
    METRICS,
    Interval,
    auprc,
    auroc,
    balanced_accuracy,
    bootstrap_interval,
    brier,
    expected_calibration_error,
    kept_within,
    mean_interval,
    recall_by_class,
    score_all,
)


def drawn(n: int, seed: int = 0, n_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with some signal, rounded so that ties occur."""
    generator = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    logits = generator.normal(size=(n, n_classes)) + 0.8 * np.eye(n_classes)[y]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return (y, np.round(p[:, 1], 2)) if n_classes == 2 else (y, p)


def auroc_by_pairs(y: np.ndarray, score: np.ndarray) -> float:
    wins = [(a > b) + 0.5 * (a == b) for a in score[y == 1] for b in score[y == 0]]
    return float(np.mean(wins))


def test_auroc_counts_the_pairs_in_right_order() -> None:
    y, p = drawn(41)
    assert auroc(y, p) == pytest.approx(auroc_by_pairs(y, p))
    assert auroc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 1.0
    assert auroc([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1]) == 0.0
    assert auroc([0, 1, 1, 0], [0.3] * 4) == 0.5


def test_many_classes_are_averaged_one_against_the_rest() -> None:
    y, p = drawn(60, n_classes=3)
    assert auroc(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert auroc(y, p) == pytest.approx(np.mean([auroc_by_pairs((y == c).astype(int), p[:, c]) for c in range(3)]))
    assert auprc(y, p) == pytest.approx(np.mean([average_precision_score(y == c, p[:, c]) for c in range(3)]))
    assert balanced_accuracy(y, p) == pytest.approx(balanced_accuracy_score(y, p.argmax(axis=1)))
    assert brier(y, p) == pytest.approx(brier_score_loss(y, p, labels=[0, 1, 2], scale_by_half=False))


def test_a_class_absent_from_the_fold_is_left_out_of_the_macro_mean() -> None:
    y, p = drawn(40, n_classes=3)
    keep = y < 2
    assert auroc(y[keep], p[keep]) == pytest.approx(np.mean([auroc_by_pairs((y[keep] == c).astype(int), p[keep][:, c]) for c in range(2)]))
    assert balanced_accuracy(y[keep], p[keep]) == pytest.approx(np.mean([(p[keep].argmax(1)[y[keep] == c] == c).mean() for c in range(2)]))


def test_two_columns_are_a_binary_task() -> None:
    y, p = drawn(40)
    both = np.stack([1 - p, p], axis=1)
    assert score_all(y, both) == score_all(y, p)


def test_binary_scores_by_hand() -> None:
    y, p = [0, 0, 1, 1, 1], [0.2, 0.6, 0.4, 0.7, 0.9]
    assert balanced_accuracy(y, p) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert balanced_accuracy(y, p, threshold=0.3) == pytest.approx((1 / 2 + 1) / 2)
    assert brier(y, p) == pytest.approx((0.04 + 0.36 + 0.36 + 0.09 + 0.01) / 5)
    # Bins of width 0.5: {0.2, 0.4} claims 0.3 and holds 1/2; {0.6, 0.7, 0.9} claims 2.2/3 and holds 2/3.
    assert expected_calibration_error(y, p, n_bins=2) == pytest.approx(2 / 5 * 0.2 + 3 / 5 * abs(2.2 / 3 - 2 / 3))


def test_calibration_of_many_classes_is_that_of_the_largest_probability() -> None:
    p = np.asarray([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    assert expected_calibration_error([0, 1, 2, 1], p) == pytest.approx(0.8 - 3 / 4)


def test_perfect_probabilities_have_no_calibration_error_and_no_brier_loss() -> None:
    assert expected_calibration_error([0, 1, 1], [0.0, 1.0, 1.0]) == 0.0
    assert brier([0, 1, 1], [0.0, 1.0, 1.0]) == 0.0


@pytest.mark.parametrize("name", ["auroc", "auprc", "balanced_accuracy"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_nothing_to_rank(name: str, label: int) -> None:
    assert math.isnan(METRICS[name]([label] * 5, [0.1, 0.4, 0.5, 0.6, 0.9]))


def test_one_subject_has_a_brier_score_and_no_rank() -> None:
    scores = score_all([1], [0.75])
    assert scores["brier"] == pytest.approx(0.0625)
    assert scores["expected_calibration_error"] == pytest.approx(0.25)
    assert math.isnan(scores["auroc"])


@settings(max_examples=40)
@given(st.integers(2, 60), st.integers(0, 1000))
def test_auroc_sees_ranks_only_and_mirrors_with_the_labels(n: int, seed: int) -> None:
    y, p = drawn(n, seed)
    assert auroc(y, np.exp(3 * p)) == pytest.approx(auroc(y, p))
    assert auroc(1 - y, 1 - p) == pytest.approx(auroc(y, p))
    assert auroc(y, 1 - p) == pytest.approx(1 - auroc(y, p))


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(0, 1000), st.integers(2, 4))
def test_probabilities_keep_scores_in_range(n: int, seed: int, n_classes: int) -> None:
    scores = score_all(*drawn(max(n, n_classes), seed, n_classes))
    assert set(scores) == set(METRICS)
    assert all(0 <= value <= (2 if name == "brier" else 1) for name, value in scores.items())


@pytest.mark.parametrize("name", list(METRICS))
@pytest.mark.parametrize("n_classes", [2, 3])
def test_bootstrap_by_name_equals_the_metric_called_on_each_resample(name: str, n_classes: int) -> None:
    y, p = drawn(50, 3, n_classes)
    at_once = bootstrap_interval(y, p, name, n_resamples=60, seed=5)
    one_at_a_time = bootstrap_interval(y, p, METRICS[name], n_resamples=60, seed=5)
    assert at_once.estimate == pytest.approx(METRICS[name](y, p))
    assert (at_once.low, at_once.high) == pytest.approx((one_at_a_time.low, one_at_a_time.high))


def test_bootstrap_repeats_from_its_seed() -> None:
    y, p = drawn(50)
    assert bootstrap_interval(y, p, seed=1, n_resamples=100) == bootstrap_interval(y, p, seed=1, n_resamples=100)
    assert bootstrap_interval(y, p, seed=1, n_resamples=100) != bootstrap_interval(y, p, seed=2, n_resamples=100)


def test_bootstrap_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p = drawn(50)
    whole = bootstrap_interval(y, p, n_resamples=2000)
    monkeypatch.setattr("graphssl.statistics.metrics._BLOCK", 50 * 300)
    blocks = bootstrap_interval(y, p, n_resamples=2000)
    assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high), abs=0.02)


def test_bootstrap_is_fast_enough() -> None:
    y, p = drawn(800)
    start = time.process_time()
    interval = bootstrap_interval(y, p, n_resamples=2000)
    assert time.process_time() - start < 2
    assert interval.low < interval.estimate < interval.high


def test_bootstrap_covers_the_truth() -> None:
    """The AUROC of two unit normals one apart is Φ(1/√2) = 0.7602; 95 % intervals should hold it about 95 times in 100."""
    generator = np.random.default_rng(0)
    y = np.arange(120) % 2
    held = []
    for seed in range(150):
        interval = bootstrap_interval(y, generator.normal(size=120) + y, n_resamples=300, seed=seed)
        held.append(interval.low <= 0.7602 <= interval.high)
    assert 0.89 <= np.mean(held) <= 0.99


def test_groups_are_drawn_whole() -> None:
    """Ten copies of each subject are no new information: the interval stays as wide as that of the subjects."""
    y, p = drawn(40)
    plain = bootstrap_interval(y, p, n_resamples=3000)
    copies = bootstrap_interval(np.tile(y, 10), np.tile(p, 10), n_resamples=3000, groups=list(range(40)) * 10)
    naive = bootstrap_interval(np.tile(y, 10), np.tile(p, 10), n_resamples=3000)
    assert copies.high - copies.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (plain.high - plain.low)


def test_groups_may_hold_both_classes() -> None:
    y, p = drawn(40)
    interval = bootstrap_interval(y, p, groups=[f"family-{k // 3}" for k in range(40)], n_resamples=200)
    assert interval.low < interval.estimate < interval.high


def test_bootstrap_of_one_class_is_nan() -> None:
    interval = bootstrap_interval([1, 1, 1], [0.2, 0.3, 0.4], n_resamples=10)
    assert all(math.isnan(value) for value in (interval.estimate, interval.low, interval.high))
    assert interval.n == 3


def test_bootstrap_where_no_resample_has_a_value() -> None:
    interval = bootstrap_interval([0, 1], [0.2, 0.8], lambda y, p: 1.0 if len(set(p)) == 2 and y[0] == 0 else math.nan, n_resamples=5)
    assert interval.estimate == 1.0
    nowhere = iter([1.0, *[math.nan] * 5])
    assert math.isnan(bootstrap_interval([0, 1], [0.2, 0.8], lambda y, p: next(nowhere), n_resamples=5).low)


def test_mean_interval_is_students() -> None:
    # t(0.975, 3) = 3.182446; sd of 1 2 3 4 is sqrt(5/3).
    interval = mean_interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * math.sqrt(5 / 3) / 2
    assert (interval.estimate, interval.low, interval.high, interval.n) == pytest.approx((2.5, 2.5 - half, 2.5 + half, 4), rel=1e-6)


def test_mean_interval_leaves_out_nan_and_needs_two_values() -> None:
    assert mean_interval([1.0, math.nan, 3.0]) == mean_interval([1.0, 3.0])
    one = mean_interval([0.7])
    assert one.estimate == 0.7
    assert math.isnan(one.low)
    assert one.n == 1
    assert math.isnan(mean_interval([]).estimate)
    assert mean_interval([0.6, 0.6, 0.6]).low == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1], [0.1, math.nan], "found NaN or infinite ones for 1 of 2 subjects"),
        ([0, 1], [[0.1, math.nan], [0.5, math.inf]], "found NaN or infinite ones for 2 of 2"),
        ([0, 1, 1], [0.1, 0.2], r"found shapes \(3,\) and \(2,\)"),
        ([0, 1], [[0.1], [0.2]], r"found shapes \(2,\) and \(2, 1\)"),
        ([0, 2], [0.1, 0.2], r"class indices 0 to 1 as labels, found \['2'\]"),
        ([-1, 1], [0.1, 0.2], "leave subjects without a label"),
        (["a", "b"], [0.1, 0.2], r"found \['a', 'b'\]"),
        ([0.5, 1], [0.1, 0.2], r"found \['0.5'\]"),
        ([0, 1], ["low", "high"], r"scores as numbers, found \['low', 'high'\]"),
        ([], [], "at least one subject to score, found none"),
    ],
)
def test_labels_and_scores_that_do_not_fit(y: list, p: list, message: str) -> None:
    for call in (auroc, auprc, balanced_accuracy, brier, expected_calibration_error, score_all, bootstrap_interval):
        with pytest.raises(DataError, match=message):
            call(y, p)


def test_labels_may_be_booleans_or_whole_floats() -> None:
    assert auroc([False, True], [0.1, 0.2]) == auroc([0.0, 1.0], [0.1, 0.2]) == 1.0


def test_scores_that_are_no_probabilities() -> None:
    assert auroc([0, 1], [-3.0, 5.0]) == 1.0
    for call in (brier, expected_calibration_error, score_all):
        with pytest.raises(DataError, match="within 0 to 1, found -3 to 5"):
            call([0, 1], [-3.0, 5.0])
    with pytest.raises(DataError, match=r"sum to 1 over the classes, found sums from 0\.3 to 1"):
        brier([0, 1], [[0.1, 0.2], [0.5, 0.5]])


def test_arguments_out_of_range() -> None:
    with pytest.raises(DataError, match=r"level of an interval between 0 and 1, such as 0\.95; found 95"):
        mean_interval([1, 2], level=95)
    with pytest.raises(DataError, match="one of the metrics auroc, auprc"):
        bootstrap_interval([0, 1], [0.1, 0.9], "accuracy")
    with pytest.raises(DataError, match="at least one resample, found n_resamples=0"):
        bootstrap_interval([0, 1], [0.1, 0.9], n_resamples=0)
    with pytest.raises(DataError, match="a group for each of the 2 subjects, found 1"):
        bootstrap_interval([0, 1], [0.1, 0.9], groups=["a"])
    with pytest.raises(DataError, match="at least one bin, found n_bins=0"):
        expected_calibration_error([0, 1], [0.1, 0.9], n_bins=0)
    with pytest.raises(DataError, match="with 1 infinite"):
        mean_interval([1.0, math.inf])


def test_recall_by_class_says_what_a_mean_hides() -> None:
    y = [0] * 8 + [1] * 2
    assert recall_by_class(y, [0.1] * 9 + [0.9]) == [1.0, 0.5]
    one_hot = [[0.8, 0.1, 0.1]] * 3
    assert recall_by_class([0, 1, 1], one_hot)[:2] == [1.0, 0.0]
    assert math.isnan(recall_by_class([0, 1, 1], one_hot)[2])


def test_ends_of_an_interval_are_kept_where_values_can_lie() -> None:
    found = kept_within(Interval(0.9, 0.7, 1.1, 0.95, 3), 0.0, 1.0)
    assert found == Interval(0.9, 0.7, 1.0, 0.95, 3)
    unknown = kept_within(Comparison(0.1, math.nan, math.nan, math.nan, 1, "one split"), -1.0, 1.0)
    assert math.isnan(unknown.low)
    assert math.isnan(unknown.high)
