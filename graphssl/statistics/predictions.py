"""The table of predictions, cut into test sets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.errors import DataError
from graphssl.statistics.checks import Labels, Scores, check_scores
from graphssl.statistics.metrics import Interval, Metric, check_level, named_metric, percentiles, resampled
from graphssl.statistics.resampling import draw_counts

COLUMNS = ("subject_id", "split", "seed", "method", "label_fraction", "y_true", "task", "protocol")


@dataclass(frozen=True)
class ScoredSplit:
    """Predictions of one method for one test set.

    Attributes:
        subjects: Subject ids `[n]`, sorted.
        y: Class of each subject `[n]`.
        p: Probability of class 1 by seed `[S, n]`, or of each class `[S, n, C]`.
        sites: Site of each subject `[n]`; an empty word where the table has no column `site`.
    """

    subjects: tuple[str, ...]
    y: Labels
    p: Scores
    sites: tuple[str, ...]

    def score(self, metric: str | Metric) -> float:
        """The metric, averaged over seeds; NaN where it is not defined."""
        return float(np.mean([named_metric(metric)(self.y, p) for p in self.p]))


def probability_columns(predictions: pd.DataFrame) -> list[str]:
    """The columns `p_0`, `p_1`, … in order of the class index.

    Raises:
        DataError: If a column of the table of predictions is missing.
    """
    found = sorted((name for name in map(str, predictions.columns) if re.fullmatch(r"p_\d+", name)), key=lambda name: int(name[2:]))
    absent = [name for name in COLUMNS if name not in predictions.columns]
    if absent or len(found) < 2 or found != [f"p_{k}" for k in range(len(found))]:
        raise DataError(
            f"Expected predictions with the columns {', '.join(COLUMNS)}, p_0, p_1 …; found {list(predictions.columns)}. Run the evaluation again."
        )
    return found


def scored_splits(
    predictions: pd.DataFrame,
    method: str,
    *,
    task: str | None = None,
    protocol: str | None = None,
    label_fraction: float = 1.0,
) -> dict[str, ScoredSplit]:
    """Predictions of one method by split, seeds side by side.

    Args:
        predictions: Table of predictions, one row a subject, split, seed, method and label fraction.
        method: Name of the method.
        task: Task; may be left out where there is only one.
        protocol: Protocol; may be left out where there is only one.
        label_fraction: Share of the training labels.

    Raises:
        DataError: If there are none, a subject was scored twice, or the seeds of a split scored different subjects.
    """
    columns = probability_columns(predictions)
    chosen = only(predictions, {"task": task, "protocol": protocol, "method": method, "label_fraction": label_fraction}, "predictions")
    repeated = chosen.duplicated(["split", "seed", "subject_id"])
    if repeated.any():
        raise DataError(
            f"Expected one prediction a subject, split and seed of {method!r}, found several for "
            f"{chosen.loc[repeated, 'subject_id'].unique().tolist()[:5]}. Run the evaluation again."
        )
    ordered = chosen.sort_values(["split", "seed", "subject_id"])
    names, starts = np.unique(ordered["split"].to_numpy(dtype=np.str_), return_index=True)
    rows = _Rows(
        ordered["subject_id"].to_numpy(dtype=np.str_),
        ordered["seed"].to_numpy(),
        *check_scores(ordered["y_true"].to_numpy(), ordered[columns].to_numpy(dtype=np.float64), probabilities=True),
        ordered["site"].to_numpy(dtype=np.str_) if "site" in ordered.columns else np.full(len(ordered), "", dtype=np.str_),
    )
    ends = [*starts[1:].tolist(), len(ordered)]
    return {
        str(name): _scored_split(rows, slice(start, end), f"{method!r} in split {str(name)!r}")
        for name, start, end in zip(names, starts.tolist(), ends, strict=True)
    }


def bootstrap_over_splits(
    splits: Mapping[str, ScoredSplit],
    metric: str | Metric = "auroc",
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over splits of the mean over seeds, with a percentile bootstrap over the subjects of each test set.

    A resample draws the same subjects for all seeds. Test sets in which the metric is not defined are left out.

    Args:
        splits: Predictions by test set, as `scored_splits` gives them.
        metric: Name from `METRICS`, or a function of `(y, p)`.
        n_resamples: Number of resamples.
        level: Coverage of the interval.
        seed: Seed of the draws.

    Raises:
        DataError: If the metric or the level is unknown.
    """
    check_level(level)
    generator = np.random.default_rng(seed)
    estimates, draws, n = [], [], 0
    for part in splits.values():
        value = part.score(metric)
        if np.isnan(value):
            continue
        counts = draw_counts(part.y, n_resamples, generator)
        estimates.append(value)
        draws.append(np.mean([resampled(metric, part.y, p, counts) for p in part.p], axis=0))
        n += len(part.y)
    if not estimates:
        return Interval(float("nan"), float("nan"), float("nan"), level, 0)
    return Interval(float(np.mean(estimates)), *percentiles(np.mean(draws, axis=0), level), level, n)


def only(table: pd.DataFrame, wanted: Mapping[str, str | float | None], what: str) -> pd.DataFrame:
    """The rows in which each column has the wanted value; `None` stands for the only value there is.

    Args:
        table: Table of results or predictions.
        wanted: Value by column.
        what: Name of the rows for the message.

    Raises:
        DataError: If no row is left, or a column left open has several values.
    """
    if table.empty:
        raise DataError(f"Expected {what}, found an empty table. Run the evaluation again.")
    kept = np.ones(len(table), dtype=bool)
    for column, value in wanted.items():
        values = table[column].to_numpy()
        present = pd.unique(values[kept]).tolist()
        if value is None and len(present) > 1:
            raise DataError(f"Expected {what} of one {column}, found {present}. Name the one to use: {column}=….")
        if value is not None:
            kept &= np.isclose(values.astype(float), value) if isinstance(value, (int, float)) else values == value
            if not kept.any():
                raise DataError(f"Expected {what} with {column} {value!r}, found {present}.")
    return table[kept]


class _Rows(NamedTuple):
    """Columns of the predictions, ordered by split, seed and subject."""

    subjects: npt.NDArray[np.str_]
    seeds: npt.NDArray[np.int64]
    y: Labels
    p: Scores
    sites: npt.NDArray[np.str_]


def _scored_split(rows: _Rows, part: slice, where: str) -> ScoredSplit:
    n_seeds = len(np.unique(rows.seeds[part]))
    subjects, y = rows.subjects[part], rows.y[part]
    n = len(subjects) // n_seeds
    if len(subjects) != n * n_seeds or (subjects != np.tile(subjects[:n], n_seeds)).any():
        raise DataError(
            f"Expected every seed of {where} to score the same subjects, found test sets that differ. Give such test sets split names of their own."
        )
    if (y != np.tile(y[:n], n_seeds)).any():
        raise DataError(f"Expected the same labels for every seed of {where}, found others. Run the evaluation again.")
    p = rows.p[part].reshape(n_seeds, n, *rows.p.shape[1:])
    return ScoredSplit(tuple(subjects[:n].tolist()), y[:n], p, tuple(rows.sites[part][:n].tolist()))
