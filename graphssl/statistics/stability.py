"""How far maps of importance agree that should be the same, such as those of models fitted again on other folds and seeds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from graphssl.errors import DataError


@dataclass(frozen=True, eq=False)
class Stability:
    """Agreement of several maps over the same entries.

    Attributes:
        rank_correlation: Mean Spearman correlation over pairs of maps: 1 if all rank alike, 0 if they have nothing in common.
        top_overlap: Mean overlap of the largest entries over pairs of maps, corrected for chance (Kuncheva 2007): 1 if the same are largest in all,
            0 if they coincide as often as by chance.
        frequency: Share of the maps in which an entry is among the largest `[E]` (Meinshausen & Bühlmann 2010).
        n_top: Number of largest entries of each map.
        n_maps: Number of maps.
    """

    rank_correlation: float
    top_overlap: float
    frequency: npt.NDArray[np.float64]
    n_top: int
    n_maps: int


def stability(maps: npt.ArrayLike, top: float = 0.1) -> Stability:
    """Agreement of the sizes of several maps.

    Args:
        maps: Maps `[M, E]`; their absolute values are compared.
        top: Share of the entries that counts as largest.

    Raises:
        DataError: If there are fewer than two maps or two entries, a value is not finite, or the share is out of range.
    """
    sizes = np.abs(np.asarray(maps, dtype=np.float64))
    if sizes.ndim != 2 or len(sizes) < 2 or sizes.shape[1] < 2 or not np.isfinite(sizes).all():
        raise DataError(f"Expected at least two maps [M, E] of finite values over two entries or more, found shape {sizes.shape}.")
    if not 0 < top < 1:
        raise DataError(f"Expected the share of the largest entries between 0 and 1, found {top}.")
    n_maps, n_entries = sizes.shape
    n_top = min(n_entries - 1, max(1, round(top * n_entries)))
    member = np.zeros(sizes.shape)
    np.put_along_axis(member, np.argsort(-sizes, axis=1, kind="stable")[:, :n_top], 1.0, axis=1)
    by_chance = n_top**2 / n_entries
    shared = _mean_over_pairs(member @ member.T)
    return Stability(
        rank_correlation=_mean_over_pairs(rank_correlations(sizes)),
        top_overlap=(shared - by_chance) / (n_top - by_chance),
        frequency=member.mean(axis=0),
        n_top=n_top,
        n_maps=n_maps,
    )


def rank_correlations(maps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spearman correlation of each pair of maps `[M, M]`; that of a map in which all are equal is 0."""
    ranks = stats.rankdata(maps, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    unit = centred / np.where(length > 0, length, 1.0)[:, None]
    return np.asarray(np.clip(unit @ unit.T, -1.0, 1.0))


def _mean_over_pairs(values: npt.NDArray[np.float64]) -> float:
    return float(values[np.triu_indices(len(values), 1)].mean())
