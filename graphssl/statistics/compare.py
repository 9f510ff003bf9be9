"""Differences between two methods, with intervals and tests; summaries of the results table.

Two questions, two kinds of test. *Would it hold at another site, with another training set?* Then splits are the sample:
`corrected_resampled_t_test`, or Wilcoxon's test over sites. *Would it hold for other subjects of these sites, with these trained
models?* Then subjects are the sample: DeLong's test. A claim worth making stands in both.
"""

import math
from typing import Literal

import numpy as np
import pandas as pd

from graphssl.errors import DataError
from graphssl.statistics.checks import Scores
from graphssl.statistics.difference import (
    NO_VARIANCE,
    Comparison,
    corrected_resampled_t_test,
    delong_covariance,
    delong_test,
    normal_comparison,
    one_score,
    wilcoxon_test,
)
from graphssl.statistics.metrics import check_level
from graphssl.statistics.predictions import ScoredSplit, only, scored_splits
from graphssl.statistics.summary import check_single, summarise

__all__ = ["Comparison", "corrected_resampled_t_test", "delong_test", "paired_comparison", "paired_delong", "summarise", "wilcoxon_test"]

SplitTest = Literal["corrected_t", "wilcoxon"]
Weights = Literal["size", "inverse_variance"]


def paired_comparison(
    results: pd.DataFrame,
    method: str,
    baseline: str,
    metric: str = "auroc",
    *,
    cohort: str | None = None,
    task: str | None = None,
    protocol: str | None = None,
    label_fraction: float = 1.0,
    test: SplitTest = "corrected_t",
    level: float = 0.95,
) -> Comparison:
    """Difference of two methods over the splits of a results table, `method` minus `baseline`.

    Seeds are averaged within each split first: they are repeated looks at one test set, not further test sets. Splits in which either
    has no value are left out. At a label fraction the correction uses the number of subjects the labels were drawn from,
    `n_train / label_fraction`, for that is what the splits share.

    Args:
        results: Table of results (`graphssl.results.read_results`).
        method: Name of the method.
        baseline: Name of the method it is compared with.
        metric: Name of the metric.
        cohort: Cohort; may be left out where there is only one.
        task: Task; may be left out where there is only one.
        protocol: Protocol; may be left out where there is only one.
        label_fraction: Share of the training labels.
        test: `"corrected_t"` (Nadeau & Bengio) or `"wilcoxon"` (signed ranks over splits).
        level: Coverage of the interval.

    Raises:
        DataError: If there are no such results, several cohorts, tasks or protocols to choose from, no split with both methods, or
            the test is unknown.
    """
    if test not in ("corrected_t", "wilcoxon"):
        raise DataError(f"Expected the test to be 'corrected_t' or 'wilcoxon', found {test!r}.")
    shared: dict[str, str | float | None] = {"cohort": cohort, "task": task, "protocol": protocol, "label_fraction": label_fraction, "metric": metric}
    chosen = results[results["method"].isin([method, baseline])]
    for name in (method, baseline):
        if not (chosen["method"] == name).any():
            raise DataError(f"Expected results of the method {name!r}, found {sorted(results['method'].unique())}.")
    chosen = only(chosen, shared, "results")
    check_single(chosen)
    means = chosen.groupby(["method", "split"])["value"].mean()
    by_split = pd.concat([means[method], means[baseline]], axis=1, keys=["ours", "theirs"], join="inner").dropna()
    if by_split.empty:
        raise DataError(
            f"Expected a split scored by both {method!r} and {baseline!r} ({metric}, label fraction {label_fraction:g}), found none. "
            "Evaluate both on the same splits."
        )
    differences = (by_split["ours"] - by_split["theirs"]).to_numpy()
    if test == "wilcoxon":
        return wilcoxon_test(differences, level=level)
    used = chosen[chosen["split"].isin(by_split.index) & (chosen["method"] == method)]
    return corrected_resampled_t_test(differences, used["n_train"] / label_fraction, used["n_test"], level=level)


def paired_delong(
    predictions: pd.DataFrame,
    method: str,
    baseline: str,
    *,
    task: str | None = None,
    protocol: str | None = None,
    label_fraction: float = 1.0,
    weights: Weights = "size",
    level: float = 0.95,
) -> Comparison:
    """AUROC difference over the subjects of all test sets, `method` minus `baseline`, by DeLong's test within each test set.

    Scores of different folds come from different models and share no scale, so subjects of different folds are never ranked against
    each other: each test set gives its own difference and variance, and these are combined. Seeds of one test set are averaged as AUROCs
    (not as scores, which would score an ensemble that nobody trained), with their full covariance.

    With `weights="size"` a test set with n₁ and n₀ subjects of the two classes weighs `n₁ n₀ / (n₁ + n₀)`: the inverse variance up to a
    constant when the spread is the same everywhere. `"inverse_variance"` uses the estimated variances; in small test sets these are
    smallest, often zero, just where both methods rank perfectly, which draws the difference towards zero (and a test set without
    variance cannot be weighed: it is left out). Test sets with fewer than two subjects of a class are left out.

    Args:
        predictions: Table of predictions of a binary task.
        method: Name of the method.
        baseline: Name of the method it is compared with.
        task: Task; may be left out where there is only one.
        protocol: Protocol; may be left out where there is only one.
        label_fraction: Share of the training labels.
        weights: How test sets are combined.
        level: Coverage of the interval.

    Raises:
        DataError: If there are no such predictions, the task is not binary, or the two scored different subjects.
    """
    if weights not in ("size", "inverse_variance"):
        raise DataError(f"Expected the weights to be 'size' or 'inverse_variance', found {weights!r}.")
    check_level(level)
    name = "DeLong test within test sets, combined"
    ours, theirs = (scored_splits(predictions, who, task=task, protocol=protocol, label_fraction=label_fraction) for who in (method, baseline))
    parts = []
    for split in sorted(ours.keys() & theirs.keys()):
        _check_same_subjects(ours[split], theirs[split], split, method, baseline)
        difference, variance, size = _split_difference(ours[split], theirs[split])
        if not math.isnan(variance) and (weights == "size" or variance > NO_VARIANCE):
            parts.append((difference, variance, size if weights == "size" else 1 / variance, len(ours[split].y)))
    if not parts:
        return Comparison(math.nan, math.nan, math.nan, math.nan, 0, name)
    differences, variances, weight, counts = (np.asarray(column) for column in zip(*parts, strict=True))
    weight = weight / weight.sum()
    return normal_comparison(float(weight @ differences), float(weight**2 @ variances), int(counts.sum()), level, name)


def _check_same_subjects(ours: ScoredSplit, theirs: ScoredSplit, split: str, method: str, baseline: str) -> None:
    if ours.subjects != theirs.subjects:
        differing = sorted(set(ours.subjects) ^ set(theirs.subjects))
        raise DataError(
            f"Expected {method!r} and {baseline!r} to score the same subjects in split {split!r}, found {len(differing)} scored by one only: "
            f"{differing[:5]}. Evaluate both on the same splits."
        )
    if not np.array_equal(ours.y, theirs.y):
        raise DataError(f"Expected the same labels for {method!r} and {baseline!r} in split {split!r}, found others. Run the evaluation again.")


def _split_difference(ours: ScoredSplit, theirs: ScoredSplit) -> tuple[float, float, float]:
    """Difference of the AUROCs averaged over seeds, its variance, and the weight n₁ n₀ / (n₁ + n₀) of the test set."""
    scores = np.concatenate([_binary_seeds(ours), _binary_seeds(theirs)])
    contrast = np.concatenate([np.full(len(ours.p), 1 / len(ours.p)), np.full(len(theirs.p), -1 / len(theirs.p))])
    areas, covariance = delong_covariance(ours.y, scores)
    n_positive, n = float((ours.y == 1).sum()), len(ours.y)
    return float(contrast @ areas), float(contrast @ covariance @ contrast), n_positive * (n - n_positive) / n


def _binary_seeds(part: ScoredSplit) -> Scores:
    return np.stack([one_score(p) for p in part.p])
