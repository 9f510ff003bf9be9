"""From patches to a volume: a patch counts if its neighbours agree, and a volume is positive if enough patches count."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from graphssl.errors import ConfigError, DataError

Grids = Sequence[npt.NDArray[np.float64]]


class CrossVoting(BaseEstimator):
    """Cross-shaped threshold voting over a grid of patches, slices by places (Chen, Wang & Ma, 2022, arXiv 2108.05081).

    A patch fires if its probability reaches a threshold. It is confirmed if it fires and so do enough of the patches before, after, left and right of
    it. A volume is positive if enough patches are confirmed. The abstract of the publication names the strategy; these rules are a reconstruction.

    `fit` chooses the three on volumes whose label is known, which should be validation volumes: those with the largest sum of sensitivity and
    specificity, among equals with the fewest neighbours, the lowest count and the lowest threshold.

    Args:
        thresholds: Thresholds to choose from; 19 evenly spaced from 0.05 to 0.95 when left out.
        neighbors: Numbers of neighbours to choose from, 0 to 4.

    Attributes:
        threshold_: The chosen threshold.
        n_neighbors_: The chosen number of neighbours.
        n_confirmed_: Confirmed patches that make a volume positive.
    """

    def __init__(self, thresholds: Sequence[float] | None = None, neighbors: Sequence[int] = (1, 2)) -> None:
        self.thresholds = thresholds
        self.neighbors = neighbors

    def fit(self, grids: Grids, labels: npt.ArrayLike) -> "CrossVoting":
        """Choose threshold, neighbours and count.

        Args:
            grids: Probability of each patch of each volume `[S, X]`, NaN where there is none; sizes may differ.
            labels: 1 of positive volumes, 0 of negative ones.

        Raises:
            ConfigError: If a number of neighbours or a threshold is out of range, or there is none.
            DataError: If there are not labels of both kinds, one a volume, or a probability is none.
        """
        truth, volumes = np.asarray(labels), _stacked(grids)
        thresholds = np.linspace(0.05, 0.95, 19) if self.thresholds is None else np.asarray(self.thresholds, dtype=float)
        if not len(self.neighbors) or not len(thresholds) or not set(self.neighbors) <= set(range(5)) or np.any((thresholds <= 0) | (thresholds > 1)):
            raise ConfigError(f"Expected neighbours from 0 to 4 and thresholds in (0, 1], found {list(self.neighbors)} and {list(thresholds)[:5]}.")
        if truth.shape != (len(volumes),) or set(truth.tolist()) != {0, 1}:
            raise DataError(f"Expected a label of 0 or 1 for each of {len(volumes)} volumes, and both of them, found {truth.tolist()[:10]}.")
        candidates = []
        for n, threshold in product(self.neighbors, thresholds.tolist()):
            counts = confirmed(volumes, threshold, n).sum(axis=(1, 2))
            for least in (np.unique(counts) + 1).tolist():
                found = _rates(counts >= least, truth)
                candidates.append((-found["sensitivity"] - found["specificity"], int(n), int(least), float(threshold)))
        _, self.n_neighbors_, self.n_confirmed_, self.threshold_ = min(candidates)
        return self

    def count(self, grids: Grids) -> npt.NDArray[np.int64]:
        """Confirmed patches of each volume."""
        check_is_fitted(self, "threshold_")
        counts: npt.NDArray[np.int64] = confirmed(_stacked(grids), self.threshold_, self.n_neighbors_).sum(axis=(1, 2))
        return counts

    def predict(self, grids: Grids) -> npt.NDArray[np.int64]:
        """1 of volumes that are positive, 0 of the others."""
        return (self.count(grids) >= self.n_confirmed_).astype(np.int64)

    def rates(self, grids: Grids, labels: npt.ArrayLike) -> Mapping[str, float]:
        """Sensitivity and specificity; NaN where there is no volume of the kind."""
        return _rates(self.predict(grids) == 1, np.asarray(labels))


def confirmed(grids: npt.NDArray[np.float64], threshold: float, n_neighbors: int) -> npt.NDArray[np.bool_]:
    """Patches that fire with enough of their four neighbours.

    Args:
        grids: Probabilities `[…, S, X]`, NaN where there is no patch.
        threshold: Probability from which a patch fires.
        n_neighbors: Neighbours that must fire too.
    """
    fires = grids >= threshold  # NaN never does
    around = np.pad(fires, [(0, 0)] * (fires.ndim - 2) + [(1, 1), (1, 1)])
    votes = around[..., :-2, 1:-1].astype(int) + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
    enough: npt.NDArray[np.bool_] = fires & (votes >= n_neighbors)
    return enough


def probability_grids(table: pd.DataFrame, *, volume: str, row: str, column: str, probability: str) -> dict[str, npt.NDArray[np.float64]]:
    """Grids of patches by volume from a table with a row a patch; NaN where a volume has no patch.

    Args:
        table: One row a patch.
        volume: Column of the volume.
        row: Column of the slice, a whole number.
        column: Column of the place along the slice, a whole number.
        probability: Column of the probability.

    Raises:
        DataError: If columns are absent, or a place has two patches.
    """
    absent = [name for name in (volume, row, column, probability) if name not in table.columns]
    if absent:
        raise DataError(f"Expected the columns {[volume, row, column, probability]}, found none called {absent}.")
    twice = table.duplicated([volume, row, column])
    if twice.any():
        first = table[twice].iloc[0]
        raise DataError(f"Expected one patch a place, found two of volume {first[volume]!r} at slice {first[row]}, place {first[column]}.")
    return {str(name): _grid(part, row, column, probability) for name, part in table.groupby(volume, sort=False)}


def _grid(part: pd.DataFrame, row: str, column: str, probability: str) -> npt.NDArray[np.float64]:
    """Places between the first and the last of a volume, with NaN where slices or places are missing."""
    rows, columns = (part[name].to_numpy(dtype=int) - int(part[name].min()) for name in (row, column))
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = part[probability].to_numpy(dtype=float)
    return grid


def _stacked(grids: Grids) -> npt.NDArray[np.float64]:
    """All grids in one array, with NaN beyond the end of the smaller ones."""
    given = [np.asarray(grid, dtype=float) for grid in grids]
    wrong = [str(grid.shape) for grid in given if grid.ndim != 2] + [str(grid[(grid < 0) | (grid > 1)][:3]) for grid in given if _beyond(grid)]
    if wrong or not given:
        raise DataError(f"Expected a grid of probabilities [S, X] in [0, 1] for each of one volume or more, found {', '.join(wrong[:3]) or 'none'}.")
    size = np.max([grid.shape for grid in given], axis=0)
    return np.stack([np.pad(grid, [(0, n - m) for n, m in zip(size, grid.shape, strict=True)], constant_values=np.nan) for grid in given])


def _beyond(grid: npt.NDArray[np.float64]) -> bool:
    return bool(((grid < 0) | (grid > 1)).any())


def _rates(positive: npt.NDArray[np.bool_], truth: npt.NDArray[Any]) -> dict[str, float]:
    def share(of: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> float:
        return float(of[among].mean()) if among.any() else float("nan")

    return {"sensitivity": share(positive, truth == 1), "specificity": share(~positive, truth == 0)}
