"""A smooth field of sources over MNI space: what a simulated brain is made of before any atlas looks at it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError

# The seven networks of Yeo et al. (2011), doi:10.1152/jn.00338.2011.
NETWORKS = ("Visual", "Somatomotor", "DorsalAttention", "VentralAttention", "Limbic", "Frontoparietal", "Default")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SourceField:
    """Sources at fixed places, each in one network, with a smooth spatial basis over them.

    Attributes:
        coordinates: Places in MNI mm `[M, 3]`.
        networks: Index into `NETWORKS` of each source `[M]`.
        basis: Smooth spatial basis `[M, Q]`, the largest first; `basis @ normal` draws a smooth field of variance 1 on average.
    """

    coordinates: Floats
    networks: npt.NDArray[np.int64]
    basis: Floats

    def __len__(self) -> int:
        return len(self.networks)

    @property
    def membership(self) -> Floats:
        """One column a network, 1 where the source belongs to it `[M, 7]`."""
        return np.eye(len(NETWORKS))[self.networks]

    def weights(self, centroids: npt.NDArray[np.floating]) -> Floats:
        """How much of each source a region sees: a Gaussian of the region's size around its centroid, summing to one.

        The standard deviation is a third of the distance to the nearest other centroid, which is bounded by half and twice its median over regions,
        so that neither a twin nor a lonely region sees one source or the whole brain.

        Args:
            centroids: Centroids in MNI mm `[R, 3]`.

        Returns:
            Weights `[R, M]`.
        """
        size = _region_sizes(np.asarray(centroids, dtype=float))
        exponent = -squared_distances(np.asarray(centroids, dtype=float), self.coordinates) / (2 * size[:, None] ** 2)
        # Relative to the nearest source, so that a region outside of the brain still sees the ones beside it.
        kernel = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        kernel[kernel < _SMALLEST_WEIGHT] = 0.0
        return kernel / kernel.sum(axis=1, keepdims=True)


def draw_sources(n_sources: int, rng: np.random.Generator) -> SourceField:
    """Draw sources in an ellipsoid with the extent of the MNI brain.

    Each belongs to the network of the nearest of several seeds, which are mirrored over the midline and placed by hand near the textbook locations.

    Args:
        n_sources: Number of sources.
        rng: Generator of the draw.

    Raises:
        DataError: If there are too few sources for seven networks.
    """
    if n_sources < _FEWEST_SOURCES:
        raise DataError(f"Expected at least {_FEWEST_SOURCES} sources for a field of seven networks, found {n_sources}.")
    coordinates = _inside(n_sources, rng)
    seeds = np.array([(side * x, y, z) for points in _SEEDS.values() for x, y, z in points for side in (-1, 1)], dtype=float)
    owner = np.repeat(np.arange(len(NETWORKS)), [2 * len(points) for points in _SEEDS.values()])
    networks = owner[squared_distances(coordinates, seeds).argmin(axis=1)]
    return SourceField(coordinates, networks.astype(np.int64), _smooth_basis(coordinates))


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distance of every row of `a` `[n, 3]` to every row of `b` `[m, 3]`, as `[n, m]`."""
    distances: Floats = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return distances


_CENTRE = np.array([0.0, -17.5, 15.0])
_HALF_AXES = np.array([70.0, 87.5, 65.0])
# Fewer sources lie deep inside: grey matter is mostly a shell.
_INNER_RADIUS = 0.7
_DEEP_SHARE = 0.15
_FEWEST_SOURCES = 100
_LENGTH_SCALE = 20.0
_HOMOTOPIC = 0.5
_BASIS_SIZE = 64
_SMALLEST_WEIGHT = 1e-3

# Right half only; in the order of NETWORKS.
_SEEDS = {
    "Visual": ((8, -92, 0), (28, -84, 8), (24, -70, -12)),
    "Somatomotor": ((10, -24, 66), (40, -24, 56), (58, -8, 22)),
    "DorsalAttention": ((22, -62, 58), (26, -6, 56), (50, -60, -8)),
    "VentralAttention": ((58, -34, 30), (38, 12, 0), (6, 10, 42)),
    "Limbic": ((36, 4, -36), (14, 36, -20), (20, -16, -22)),
    "Frontoparietal": ((42, 22, 36), (46, -50, 46), (36, 54, 4)),
    "Default": ((6, 52, 14), (6, -54, 28), (48, -66, 30), (60, -20, -14), (16, 34, 48)),
}


def _inside(n_points: int, rng: np.random.Generator) -> Floats:
    direction = rng.normal(size=(n_points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    deep = rng.random(n_points) < _DEEP_SHARE
    inner = np.where(deep, 0.0, _INNER_RADIUS**3)
    outer = np.where(deep, _INNER_RADIUS**3, 1.0)
    radius = (inner + (outer - inner) * rng.random(n_points)) ** (1 / 3)
    points: Floats = _CENTRE + direction * radius[:, None] * _HALF_AXES
    return points


def _smooth_basis(coordinates: Floats) -> Floats:
    """The leading part of a Gaussian process in which near places, and less so mirrored ones, vary together `[M, Q]`."""
    mirrored = coordinates * np.array([-1.0, 1.0, 1.0])
    near = np.exp(-squared_distances(coordinates, coordinates) / (2 * _LENGTH_SCALE**2))
    across = np.exp(-squared_distances(coordinates, mirrored) / (2 * _LENGTH_SCALE**2))
    values, vectors = np.linalg.eigh((near + _HOMOTOPIC * across) / (1 + _HOMOTOPIC))
    order = np.argsort(values)[::-1][:_BASIS_SIZE]
    leading = vectors[:, order]
    # The sign of an eigenvector is arbitrary and differs between libraries: the largest entry is made positive.
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    basis: Floats = leading * np.sqrt(np.maximum(values[order], 0.0))
    return basis / np.sqrt((basis**2).sum(axis=1).mean())


def _region_sizes(centroids: Floats) -> Floats:
    if len(centroids) == 1:
        return np.array([_LENGTH_SCALE])
    squared = squared_distances(centroids, centroids)
    np.fill_diagonal(squared, np.inf)
    gap = np.sqrt(squared.min(axis=1))
    typical = max(float(np.median(gap)), 1.0)
    sizes: Floats = np.clip(gap, typical / 2, 2 * typical) / 3
    return sizes
