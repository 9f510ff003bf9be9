"""How far two clouds of vectors are apart, as distributions."""

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError

Floats = npt.NDArray[np.float64]


def frechet_distance(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Squared Fréchet distance of the normal distributions with the means and covariances of two sets of vectors (Dowson & Landau, 1982).

    Few vectors make it too large; compare sets of one size.

    Args:
        x: Vectors `[n, D]`, two or more.
        y: Others `[m, D]`.

    Raises:
        DataError: If a set has fewer than two vectors, or the widths differ.
    """
    first, second = _checked(x, y)
    covariances = [np.atleast_2d(np.cov(part, rowvar=False)) for part in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0.0)).sum()
    gap = first.mean(axis=0) - second.mean(axis=0)
    return float(max(0.0, gap @ gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross))


def maximum_mean_discrepancy(x: npt.ArrayLike, y: npt.ArrayLike, *, length: float | None = None) -> float:
    """Squared maximum mean discrepancy of two sets of vectors with a Gaussian kernel, without bias (Gretton et al., JMLR 2012).

    Around 0, and perhaps below it, where both come from one distribution.

    Args:
        x: Vectors `[n, D]`, two or more.
        y: Others `[m, D]`.
        length: Length of the kernel; the median distance of all pairs when left out. Give one length to compare several sets with one.

    Raises:
        DataError: If a set has fewer than two vectors, or the widths differ.
    """
    first, second = _checked(x, y)
    scale = length or median_distance(first, second)
    within = [_kernel(part, part, scale) for part in (first, second)]
    means = [(kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in within]
    return float(means[0] + means[1] - 2 * _kernel(first, second, scale).mean())


def median_distance(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Median Euclidean distance of all pairs of the vectors of both sets; 1 where it is 0.

    Args:
        x: Vectors of one set `[n, d]`.
        y: Vectors of the other `[m, d]`.

    Raises:
        DataError: If a set has fewer than two vectors, or the widths differ.
    """
    both = np.concatenate(_checked(x, y))
    found = float(np.median(np.sqrt(_squared(both, both)[np.triu_indices(len(both), 1)])))
    return found or 1.0


def _checked(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or min(len(first), len(second)) < 2 or first.shape[1] != second.shape[1]:
        raise DataError(f"Expected two sets of two or more vectors of one width, found the shapes {first.shape} and {second.shape}.")
    return first, second


def _squared(x: Floats, y: Floats) -> Floats:
    return np.maximum((x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * x @ y.T, 0.0)


def _kernel(x: Floats, y: Floats, length: float) -> Floats:
    return np.asarray(np.exp(-_squared(x, y) / (2 * length**2)))
