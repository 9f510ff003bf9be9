"""Summaries of the results table: the mean over splits, its spread and its interval."""

import math
from collections.abc import Sequence

import pandas as pd

from graphssl.errors import DataError
from graphssl.statistics.metrics import check_level, mean_interval

SUMMARY_KEYS = ("cohort", "task", "protocol", "method", "label_fraction", "metric")
SUMMARY_COLUMNS = (
    *SUMMARY_KEYS, "mean", "sd", "low", "high", "min", "min_split", "max", "max_split", "n_splits", "n_undefined", "n_seeds", "n_test",
)  # fmt: skip


def summarise(results: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row a cohort, task, protocol, method, label fraction and metric.

    Seeds are averaged within each split, then splits are averaged with equal weight (macro: each site counts the same).

    Args:
        results: Table of results (`graphssl.results.read_results`).
        level: Coverage of the interval.

    Returns:
        A table with the columns `SUMMARY_COLUMNS`: `mean`, `sd` over splits, Student's t interval of the mean over splits
        (`low`, `high`; NaN for one split), the lowest and the highest split with their names, `n_splits` with a value, `n_undefined`
        splits without one, `n_seeds`, and `n_test`, the subjects scored in all splits together. Rows keep the order of first appearance.

    Raises:
        DataError: If one number was recorded twice.
    """
    check_level(level)
    check_single(results)
    rows = [_summary(key, part, level) for key, part in results.groupby(list(SUMMARY_KEYS), sort=False)]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def check_single(results: pd.DataFrame) -> None:
    """Check that each number of a results table is there once.

    Raises:
        DataError: If one was recorded twice.
    """
    keys = [*SUMMARY_KEYS, "split", "seed"]
    repeated = results[results.duplicated(keys)]
    if len(repeated):
        first = repeated.iloc[0]
        raise DataError(
            f"Expected each number once, found {len(repeated)} recorded again, such as {first['metric']} of {first['method']!r} in split "
            f"{first['split']!r} with seed {first['seed']}. Two runs were written into one file: run the evaluation again in a new folder."
        )


def _summary(key: Sequence[object], part: pd.DataFrame, level: float) -> tuple[object, ...]:
    by_split = part.groupby("split", sort=False)
    values = by_split["value"].mean()
    present = values.dropna()
    interval = mean_interval(values.to_numpy(), level)
    sd = float(present.std(ddof=1)) if len(present) > 1 else math.nan
    ends: tuple[object, ...] = (math.nan, "", math.nan, "")
    if len(present):
        ends = (float(present.min()), str(present.idxmin()), float(present.max()), str(present.idxmax()))
    n_seeds, n_test = int(part["seed"].nunique()), round(float(by_split["n_test"].mean().sum()))
    return (*key, interval.estimate, sd, interval.low, interval.high, *ends, len(present), len(values) - len(present), n_seeds, n_test)
