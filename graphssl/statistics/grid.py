"""What the table of a study says: paired differences along an axis, power laws, and how fast trainings converge."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from graphssl.errors import DataError
from graphssl.statistics.checks import Scores
from graphssl.statistics.convergence import late_spread, mean_height, time_to
from graphssl.statistics.difference import corrected_resampled_t_test
from graphssl.statistics.metrics import kept_within, mean_interval, percentiles
from graphssl.statistics.power_law import fit_power_law

# The columns of a study's table from here on are no axes.
FIRST_MEASURED = "split"
_SCORE = "validation_score"
_LEVEL = 0.95


def axes_of(table: pd.DataFrame) -> list[str]:
    """Names of a study's axes: the columns before `split`."""
    return [str(name) for name in table.columns[: table.columns.get_loc(FIRST_MEASURED)]]


def with_resamples(table: pd.DataFrame, resampled: pd.DataFrame) -> pd.DataFrame:
    """The table of a study of one split with its metrics on resamples of the test subjects, from which intervals then come.

    Args:
        table: Table of a study.
        resampled: `Study.resampled`.
    """
    keys = [*axes_of(table), "split", "seed", "metric"]
    return table.merge(resampled[[*keys, "tested", "resampled"]], on=keys, how="left") if len(resampled) else table


def cell_means(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean of a metric in each cell with Student's t interval over splits, or over the test subjects of the only one; seeds averaged within each.

    Args:
        table: Table of a study.
        metric: Name of the metric.

    Returns:
        The axes, `mean`, `low`, `high`, `n_splits`, `n_seeds`, and means of the counts of subjects.

    Raises:
        DataError: If there is no such metric.
    """
    axes = axes_of(table)
    counts = [name for name in ("n_labelled", "n_rarest", "n_pretrained", "n_test") if name in table]
    rows = []
    for levels, part in _cells(_of_metric(table, metric), axes):
        found = mean_interval(part.groupby("split")["value"].mean().to_numpy())
        if (draws := _mean_draws(part.set_index("split"), "resampled")) is not None:
            low, high = percentiles(draws, _LEVEL)
            found = replace(found, low=low, high=high)
        about = {name: float(part[name].mean()) for name in counts}
        found = kept_within(found, 0.0, _most(part, metric))
        interval = {"mean": found.estimate, "low": found.low, "high": found.high, "n_splits": found.n}
        rows.append({**levels, **interval, "n_seeds": part["seed"].nunique(), **about})
    return pd.DataFrame(rows)


def paired_differences(table: pd.DataFrame, axis: str, against: str, metric: str) -> pd.DataFrame:
    """Differences of every level of an axis from one of them, all else alike, paired by split and seed.

    Seeds are averaged within each split; splits share training subjects, which the corrected resampled t test allows for (Nadeau & Bengio 2003).
    Where there is one split, and the table has its resamples (`with_resamples`), the interval is the percentile bootstrap over its test subjects.
    p values are not corrected for the number of comparisons.

    Args:
        table: Table of a study.
        axis: The axis.
        against: The level that the others are compared with.
        metric: Name of the metric.

    Returns:
        A row a level and combination of the other axes: these, `mean`, `mean_against`, `difference`, `low`, `high`, `p_value`, `n_splits`.

    Raises:
        DataError: If there is no such metric, axis or level.
    """
    rows = []
    for pair in _pairs(table, axis, against, metric):
        means = {"mean": pair.by_split["value"].mean(), "mean_against": pair.by_split["value against"].mean()}
        rows.append({**pair.others, axis: pair.level, **means, **_tested(pair)})
    names = [*[name for name in axes_of(table) if name != axis], axis, "mean", "mean_against", *_TESTED]
    return pd.DataFrame(rows, columns=names)


def mean_differences(table: pd.DataFrame, axis: str, against: str, metric: str) -> pd.DataFrame:
    """Differences of every level of an axis from one of them, averaged over the cells of the other axes, paired by split.

    Cells that lack a split which others have are counted and not averaged, so that every split has the mean of the same cells.

    Args:
        table: Table of a study.
        axis: The axis.
        against: The level that the others are compared with.
        metric: Name of the metric.

    Returns:
        A row a level: the axis, `difference`, `low`, `high`, `p_value` and `n_splits` of the mean; `n_averaged`, the cells in it, of `n_cells` that
        have the pair; `n_above` and `n_below`, cells whose own interval lies above and below zero; `n_seeds`. Of no cell with every split the
        difference is NaN.

    Raises:
        DataError: If there is no such metric, axis or level.
    """
    by_level: dict[str, list[_Pair]] = {}
    for pair in _pairs(table, axis, against, metric):
        by_level.setdefault(pair.level, []).append(pair)
    rows = []
    for level, cells in by_level.items():
        splits = set().union(*(cell.by_split.index for cell in cells))
        whole = [cell for cell in cells if len(cell.by_split) == len(splits)]
        each = [_tested(cell) for cell in cells]
        counts = {"n_averaged": len(whole), "n_cells": len(cells), "n_seeds": int(max(cell.by_split["n_seeds"].max() for cell in cells))}
        sides = {"n_above": sum(found["low"] > 0 for found in each), "n_below": sum(found["high"] < 0 for found in each)}
        of_mean = _tested(_averaged(whole)) if whole else {**dict.fromkeys(_TESTED, math.nan), "n_splits": len(splits)}
        rows.append({axis: level, **of_mean, **counts, **sides})
    return pd.DataFrame(rows, columns=[axis, *_TESTED, "n_averaged", "n_cells", "n_seeds", "n_above", "n_below"])


def power_laws(table: pd.DataFrame, along: str, metric: str, size: str, *, n_resamples: int = 500) -> pd.DataFrame:
    """Power laws of the error, one minus the metric, by size, for each combination of the other axes.

    Args:
        table: Table of a study.
        along: The axis along which the size grows.
        metric: Name of a metric that is at most one, the higher the better.
        size: Column of the size: `n_labelled` or `n_pretrained`.
        n_resamples: Bootstrap resamples.

    Returns:
        The other axes, `a`, `b` and `c` of `error = a * size^-b + c`, each with the ends of its interval (`b_low`, `b_high`), `n_sizes` and
        `n_values`; combinations with fewer than three sizes are left out.

    Raises:
        DataError: If there is no such metric.
    """
    axes, chosen = [name for name in axes_of(table) if name != along], _of_metric(table, metric).dropna(subset=["value"])
    rows = []
    for others, part in _cells(chosen, axes):
        sizes = part.groupby(along)[size].transform("mean").to_numpy()  # folds differ by a subject or two
        part, sizes = part[sizes > 0], sizes[sizes > 0]
        if len(np.unique(sizes)) < 3:
            continue
        found = fit_power_law(sizes.tolist(), (1 - part["value"]).tolist(), n_resamples=n_resamples)
        numbers = {name: getattr(found, name) for name in ("a", "b", "c")}
        ends = {f"{name}_{end}": getattr(value, end) for name, value in numbers.items() for end in ("low", "high")}
        estimates = {name: value.estimate for name, value in numbers.items()}
        rows.append({**others, **estimates, **ends, "n_sizes": found.n_sizes, "n_values": found.n_values})
    return pd.DataFrame(rows)


def convergence(curves: pd.DataFrame, axis: str, against: str, *, share: float = 0.95) -> pd.DataFrame:
    """How fast trainings get where one of them goes: steps to a share of the best score that the level `against` has, all else alike.

    Args:
        curves: Curves of a study.
        axis: The axis, such as where encoders start from.
        against: The level whose best score is the reference.
        share: Share of it.

    Returns:
        A row a cell, means over splits and seeds: the axes, `steps_to` (over the trainings that get there), `reached` (their share), `speed` (steps
        of the reference for one of its own, where both get there), `curve_area`, `late_spread`, `best`, `n` trainings.

    Raises:
        DataError: If there is no such axis or level.
    """
    axes = axes_of(curves) if FIRST_MEASURED in curves else []
    if axis not in axes or against not in set(curves[axis]):
        raise DataError(f"Expected an axis among {', '.join(axes) or '(none)'} and one of its levels, found {axis!r} and {against!r}.")
    rows = []
    for others, part in _cells(curves, [name for name in (*axes, "split", "seed") if name != axis]):
        reference = part[part[axis] == against]
        if reference.empty:
            continue
        level = share * reference[_SCORE].max()
        theirs = time_to(reference["step"], reference[_SCORE], level)
        for name, curve in part.groupby(axis, sort=False):
            steps = time_to(curve["step"], curve[_SCORE], level)
            shape = {"curve_area": mean_height(curve["step"], curve[_SCORE]), "late_spread": late_spread(curve[_SCORE]), "best": curve[_SCORE].max()}
            rows.append({**others, axis: name, "steps_to": steps, "reached": not math.isnan(steps), "speed": theirs / steps, **shape})
    found = pd.DataFrame(rows).groupby(axes, sort=False, dropna=False)
    means = found[["steps_to", "reached", "speed", "curve_area", "late_spread", "best"]].mean()
    return means.assign(n=found.size()).reset_index()


def _of_metric(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    chosen = table[table["metric"] == metric]
    if chosen.empty:
        raise DataError(f"Expected a metric among {', '.join(map(str, table['metric'].unique()))}; found {metric!r}.")
    return chosen


class _Pair(NamedTuple):
    """Levels of the other axes, a level of the axis, and by split its value beside that of the level it is compared with, seeds averaged.

    Of the only split also their difference on resamples of its test subjects, and which subjects these are; of all, by how much two values
    can differ at most.
    """

    others: dict[str, Any]
    level: str
    by_split: pd.DataFrame
    draws: Scores | None
    tested: str | None
    most: float


def _pairs(table: pd.DataFrame, axis: str, against: str, metric: str) -> Iterator[_Pair]:
    axes, chosen = axes_of(table), _of_metric(table, metric)
    if axis not in axes or against not in set(chosen[axis]):
        raise DataError(f"Expected an axis among {', '.join(axes)} and one of its levels, found {axis!r} and {against!r}.")
    most = _most(chosen, metric)
    for others, part in _cells(chosen, [name for name in axes if name != axis]):
        keyed = part.set_index([axis, "split", "seed"])
        for level in (level for level in part[axis].unique() if level != against and against in set(part[axis])):
            theirs = keyed.loc[[against]].droplevel(axis).add_suffix(" against")
            pair = pd.concat([keyed.loc[[level]].droplevel(axis), theirs], axis=1, join="inner").dropna(subset=["value", "value against"])
            by_split = pair.groupby("split", sort=False)
            if len(by_split):
                means = by_split[["value", "value against", "n_train", "n_test"]].mean().assign(n_seeds=by_split.size())
                ours, other = _mean_draws(pair, "resampled"), _mean_draws(pair, "resampled against")
                draws = None if ours is None or other is None or (pair["tested"] != pair["tested against"]).any() else ours - other
                yield _Pair(others, level, means, draws, None if draws is None else pair["tested"].iloc[0], most)


def _mean_draws(rows: pd.DataFrame, name: str) -> Scores | None:
    """Mean over seeds on each resample, where there is one split, whose subjects all rows were scored on."""
    if name not in rows or len(set(rows.index.get_level_values("split"))) != 1:
        return None
    return np.mean(np.asarray(rows[name].to_list(), dtype=np.float64), axis=0) if rows[name].notna().all() else None


def _averaged(pairs: Sequence[_Pair]) -> _Pair:
    """The first of the pairs with means over all, by split and on each resample."""
    means = pd.concat([pair.by_split for pair in pairs]).groupby(level="split", sort=False).mean()
    draws = [pair.draws for pair in pairs if pair.draws is not None]
    same = len(draws) == len(pairs) and len({pair.tested for pair in pairs}) == 1
    return pairs[0]._replace(by_split=means, draws=np.mean(np.stack(draws), axis=0) if same else None)


_TESTED = ("difference", "low", "high", "p_value", "n_splits")


def _most(rows: pd.DataFrame, metric: str) -> float:
    """What no value of the metric can be above, and no two of them can differ by more than."""
    return 1.0 if rows["value"].dropna().between(0, 1).all() and not metric.startswith("separation") else math.inf


def _tested(pair: _Pair) -> dict[str, float]:
    by_split = pair.by_split
    # Splits share the subjects whom labels are drawn from, however few are drawn.
    counts = by_split["n_train"].to_numpy(), by_split["n_test"].to_numpy()
    found = corrected_resampled_t_test((by_split["value"] - by_split["value against"]).to_numpy(), *counts)
    if pair.draws is not None:
        low, high = percentiles(pair.draws, _LEVEL)
        found = replace(found, low=low, high=high, p_value=_two_sided(pair.draws))
    found = kept_within(found, -pair.most, pair.most)
    return dict(zip(_TESTED, (found.difference, found.low, found.high, found.p_value, found.n), strict=True))


def _two_sided(draws: Scores) -> float:
    """Twice the share of resamples on the side of zero with the fewer, as if one more lay there; NaN where there are none."""
    present = draws[~np.isnan(draws)]
    fewer = min((present <= 0).sum(), (present >= 0).sum())
    return min(1.0, 2 * float(fewer + 1) / (len(present) + 1)) if len(present) else math.nan


def _cells(table: pd.DataFrame, axes: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Rows of each combination of levels, in the order in which they come."""
    if not axes:
        yield {}, table
        return
    for levels, part in table.groupby(list(axes), sort=False, dropna=False):
        yield dict(zip(axes, levels if isinstance(levels, tuple) else (levels,), strict=True)), part
