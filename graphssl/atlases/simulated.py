"""A made-up parcellation of an MNI-shaped brain, for demonstrations and tests without any file."""

import numpy as np
import numpy.typing as npt

from graphssl.data import Atlas
from graphssl.errors import AtlasError


def simulated_atlas(n_regions: int = 100, *, seed: int = 0, name: str | None = None) -> Atlas:
    """Make an atlas of well-spread regions, mirrored over the midline.

    Most regions lie in a shell under the surface of an ellipsoid with the extent of the MNI brain (x ±70, y -105 to 70, z -50 to 80 mm), about one in
    eight lies deep inside. Left regions come first, from back to front, then their mirror images; an odd number leaves one region on the midline.
    Networks are not named: a simulated cohort or a reference atlas gives them.

    Args:
        n_regions: Number of regions.
        seed: Seed of the draw; other seeds give other regions.
        name: Name of the atlas; `"simulated<n_regions>"` when left out, followed by the seed where it is not 0.

    Returns:
        An atlas with labels 1 to `n_regions` and names such as `"L-007"` and `"R-007"`.

    Raises:
        AtlasError: If the number of regions is not positive.

    Example:
        >>> simulated_atlas(80).names[6]
        'L-007'
    """
    if n_regions < 1:
        raise AtlasError(f"Expected at least one region for a simulated atlas, found {n_regions}.")
    rng = np.random.default_rng([seed, n_regions])
    n_half = n_regions // 2
    n_deep = round(_DEEP_SHARE * n_half)
    left = np.concatenate([_spread(n_half - n_deep, _SHELL, rng), _spread(n_deep, _DEEP, rng)])
    left = left[np.argsort(left[:, 1], kind="stable")]
    middle = np.array([[0.0, *_CENTRE[1:]]])[: n_regions % 2]
    centroids = np.concatenate([left, left * (-1.0, 1.0, 1.0), middle])
    names = [f"{side}-{k:03d}" for side in "LR" for k in range(1, n_half + 1)] + ["M-001"] * len(middle)
    labels = np.arange(1, n_regions + 1)
    name = name or (f"simulated{n_regions}-{seed}" if seed else f"simulated{n_regions}")
    return Atlas(name, labels, tuple(names), centroids.astype(np.float32), ("",) * n_regions)


_CENTRE = (0.0, -17.5, 15.0)
_HALF_AXES = (70.0, 87.5, 65.0)
# Inner and outer edge as a share of the ellipsoid's radius.
_SHELL = (0.75, 0.97)
_DEEP = (0.15, 0.45)
_DEEP_SHARE = 0.12
_MIDLINE_GAP = 4.0
_CANDIDATES_PER_REGION = 40
_LLOYD_STEPS = 20


def _spread(n_points: int, radii: tuple[float, float], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Points of the left half between two radii, each the centre of its share of it (k-means, started by farthest points) `[n_points, 3]`."""
    if n_points == 0:
        return np.zeros((0, 3))
    candidates = _left_half(max(200, n_points * _CANDIDATES_PER_REGION), radii, rng)
    centres = _farthest_points(candidates, n_points)
    for _ in range(_LLOYD_STEPS):
        nearest = np.argmin(((candidates[:, None] - centres[None]) ** 2).sum(axis=2), axis=1)
        members = np.bincount(nearest, minlength=n_points)[:, None]
        sums = np.stack([np.bincount(nearest, candidates[:, axis], minlength=n_points) for axis in range(3)], axis=1)
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
    return centres


def _left_half(n_points: int, radii: tuple[float, float], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Uniform points of the left half of the ellipsoid between two radii, off the midline `[n_points, 3]`."""
    direction = rng.normal(size=(n_points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inner, outer = radii
    radius = rng.uniform(inner**3, outer**3, size=(n_points, 1)) ** (1 / 3)
    points = np.asarray(_CENTRE) + direction * radius * np.asarray(_HALF_AXES)
    points[:, 0] = -np.maximum(np.abs(points[:, 0]), _MIDLINE_GAP)
    return points


def _farthest_points(candidates: npt.NDArray[np.float64], n_points: int) -> npt.NDArray[np.float64]:
    chosen = [0]
    distance = ((candidates - candidates[0]) ** 2).sum(axis=1)
    for _ in range(n_points - 1):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((candidates - candidates[chosen[-1]]) ** 2).sum(axis=1))
    return candidates[chosen].copy()
