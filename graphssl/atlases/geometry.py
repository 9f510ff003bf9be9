"""Maps from geometry: how regions' signals belong together by their distances, and what one parcellation tells of another (kriging)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from graphssl.atlases.label_volume import LabelVolume, Parcellation, atlas_of
from graphssl.atlases.map import AtlasMap, identity_map
from graphssl.atlases.overlap import EFFECTIVE_TIMEPOINTS, coverage, model_edge_error, overlap_volumes, resampling, same_parcellation
from graphssl.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpatialModel:
    """Covariance of the signals of two places in the brain, as a function of where they are.

    A sum of exponentials of their distance (fields of 4 to 64 mm), of exponentials of the distance of one to the mirror image of the other (homotopic
    connectivity), and of noise of single voxels. The signal of a region is the mean over its voxels. With `centred`, the mean over the brain is taken
    out, as regression of the global signal does.

    Args:
        weights: Weight of each of the eight parts `[8]`.
        centred: Whether the global signal was regressed out.
    """

    weights: tuple[float, ...]
    centred: bool = True


# What fits the mean correlation of 689 people in CC200 (band-pass, global signal regressed).
TYPICAL = SpatialModel((0.52, 0.11, 0.0, 0.06, 0.0, 0.15, 0.04, 0.12))


def geometry_map(
    source: Parcellation,
    target: Parcellation,
    mean_correlation: npt.ArrayLike | None = None,
    *,
    noise: float = 0.02,
    effective_timepoints: float = EFFECTIVE_TIMEPOINTS,
) -> AtlasMap:
    """Each target region as what its sources let expect, no subject with both atlases needed.

    Signals of voxels are a Gaussian random field; given the source regions' means, the target regions' expectation is a weighted sum of them
    (kriging: Matheron, Economic Geology 1963, doi:10.2113/gsecongeo.58.8.1246). Beside plain averaging over shared volume, neighbours and mirror
    regions count, and what the sources do not tell is known: it is added when correlations are converted. The field's parameters are those that
    reproduce the mean correlation of the source regions.

    Args:
        source: Parcellation of the data; without voxels (an `Atlas`), each region is a ball around its centroid.
        target: Parcellation of the result, likewise.
        mean_correlation: Mean correlation of subjects in the source atlas `[R_s, R_s]`, from training subjects; typical parameters when left out.
        noise: Share of a source region's variance that is its own, and tells nothing.
        effective_timepoints: Independent time points of a scan, for the expected error.

    Raises:
        AtlasError: If two volumes do not lie in one space.
        DataError: If the mean correlation does not fit the source atlas.
    """
    if same_parcellation(source, target):
        return identity_map(atlas_of(source))
    model = TYPICAL if mean_correlation is None else fit_spatial_model(source, mean_correlation)
    return field_map(source, target, model, joint_correlation(source, target, model), noise=noise, effective_timepoints=effective_timepoints)


def field_map(
    source: Parcellation,
    target: Parcellation,
    model: SpatialModel,
    joint: Floats,
    *,
    noise: float,
    effective_timepoints: float = EFFECTIVE_TIMEPOINTS,
) -> AtlasMap:
    """The map of `geometry_map` for a spatial model that is at hand.

    Args:
        source: Parcellation of the data.
        target: Parcellation of the result.
        model: The spatial model.
        joint: What `joint_correlation` gives for the three.
        noise: As for `geometry_map`.
        effective_timepoints: As for `geometry_map`.
    """
    n = len(atlas_of(source))
    share, grid = np.full(len(atlas_of(target)), np.nan), "balls around centroids"
    if isinstance(source, LabelVolume) and isinstance(target, LabelVolume):
        grid = resampling(source, target)
        share = coverage(source, target)
    weights, unexplained = conditional(joint, n, noise)
    told = 1.0 - np.diag(unexplained)
    served = (told >= _LEAST_TOLD) & ~(share == 0)
    return AtlasMap(
        atlas_of(source),
        atlas_of(target),
        weights * served[:, None],
        "geometry",
        share,
        unexplained=unexplained,
        source_covariance=joint[:n, :n],
        standardized=True,
        edge_error=model_edge_error(told, effective_timepoints),
        record={
            "field": {"weights": [round(weight, 4) for weight in model.weights], "centred": model.centred},
            "grid": grid,
            "error": "from the spatial model",
        },
    )


def fit_spatial_model(parcellation: Parcellation, mean_correlation: npt.ArrayLike) -> SpatialModel:
    """The field whose regions correlate most nearly as those of a cohort do on average (least squares over pairs of regions).

    Args:
        parcellation: Parcellation of the data.
        mean_correlation: Mean correlation of training subjects `[R, R]`; NaN for regions nobody has.

    Raises:
        DataError: If the matrix does not fit the parcellation.
    """
    wanted = np.asarray(mean_correlation, dtype=np.float64)
    n = len(atlas_of(parcellation))
    if wanted.shape != (n, n):
        raise DataError(f"Expected a mean correlation [{n}, {n}] for atlas {atlas_of(parcellation).name!r}, found {list(wanted.shape)}.")
    pairs = np.isfinite(wanted) & ~np.eye(n, dtype=bool)
    points = _Points.of(parcellation)
    parts = _parts(points, points)
    share = points.share

    def distance(logarithms: Floats, centred: bool) -> float:
        found = _as_correlation(_global_signal_out(np.tensordot(np.exp(logarithms), parts, 1), share, centred))
        return float(((found - wanted)[pairs] ** 2).mean()) * 100

    start = np.log(np.maximum(TYPICAL.weights, 0.02))
    bounds = [(-7.0, 3.0)] * len(start)
    fits = {centred: minimize(distance, start, args=(centred,), method="L-BFGS-B", bounds=bounds) for centred in (True, False)}
    centred = bool(fits[True].fun <= fits[False].fun)
    found = np.exp(fits[centred].x)
    return SpatialModel(tuple((found / found.sum()).tolist()), centred)


def joint_correlation(source: Parcellation, target: Parcellation, model: SpatialModel) -> Floats:
    """Correlation of all regions of both parcellations in a spatial model `[R_s + R_t, R_s + R_t]`; source regions first."""
    first, second = _Points.of(source), _Points.of(target)
    shared = np.zeros((len(first.size_mm3), len(second.size_mm3)))
    if isinstance(source, LabelVolume) and isinstance(target, LabelVolume):
        shared = overlap_volumes(source, target).T
    within, across, beyond = (
        np.tensordot(model.weights, parts, 1) for parts in (_parts(first, first), _parts(first, second, shared), _parts(second, second))
    )
    # The brain is what the source regions cover.
    share = np.concatenate([first.share, np.zeros(len(second.size_mm3))])
    return _as_correlation(_global_signal_out(np.block([[within, across], [across.T, beyond]]), share, model.centred))


def conditional(joint: Floats, n_source: int, noise: float) -> tuple[Floats, Floats]:
    """Weights of the source regions for the expectation of the target regions, and the covariance of what these leave.

    Args:
        joint: Correlation of all regions, source regions first `[R_s + R_t, R_s + R_t]`.
        n_source: Number of source regions.
        noise: What is added to the variance of each source region.

    Returns:
        Weights `[R_t, R_s]` and covariance `[R_t, R_t]`, which is positive semi-definite where `joint` is.
    """
    within, across, target = joint[:n_source, :n_source], joint[:n_source, n_source:], joint[n_source:, n_source:]
    weights = np.linalg.solve(within + noise * np.eye(n_source), across).T
    told = weights @ across
    return np.asarray(weights), np.asarray(target - told - told.T + weights @ within @ weights.T)


_LENGTHS_MM = (4.0, 8.0, 16.0, 32.0, 64.0)
_MIRRORED_MM = (8.0, 24.0)
_LEAST_TOLD = 0.05
_MOST_POINTS, _MOST_A_REGION, _FEWEST_A_REGION = 4800, 24, 6
_BRAIN_MM3 = 1.3e6
# Noise of single voxels is that of voxels of 3 mm.
_NOISE_MM3 = 27.0


@dataclass(frozen=True)
class _Points:
    """Places in each region, region by region."""

    places: npt.NDArray[np.float32]
    owner: npt.NDArray[np.int64]
    size_mm3: Floats

    @classmethod
    def of(cls, parcellation: Parcellation) -> "_Points":
        n_regions = len(atlas_of(parcellation))
        n_each = int(np.clip(_MOST_POINTS // n_regions, _FEWEST_A_REGION, _MOST_A_REGION))
        if isinstance(parcellation, LabelVolume):
            places, owner = parcellation.sample(n_each)
            return cls(places.astype(np.float32), owner, np.asarray(parcellation.n_voxels * parcellation.voxel_mm3))
        # Regions share the brain evenly, each a ball; a golden spiral spreads points over it.
        size = _BRAIN_MM3 / n_regions
        steps = np.arange(n_each) + 0.5
        radius = (0.75 * size / np.pi) ** (1 / 3) * (steps / n_each) ** (1 / 3)
        height, turn = 1 - 2 * ((steps * 0.618034) % 1.0), np.pi * (1 + 5**0.5) * steps
        flat = np.sqrt(1 - height**2)
        ball = radius[:, None] * np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
        places = (parcellation.centroids[:, None, :] + ball).reshape(-1, 3)
        return cls(places.astype(np.float32), np.repeat(np.arange(n_regions), n_each), np.full(n_regions, size))

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.diff(self.owner, prepend=-1))

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.owner)

    @property
    def share(self) -> Floats:
        return np.asarray(self.size_mm3 / self.size_mm3.sum())


def _parts(first: _Points, second: _Points, shared_mm3: Floats | None = None) -> Floats:
    """Covariance of region means in each part of the model `[8, R_1, R_2]`."""
    apart = _distance(first.places, second.places)
    mirrored = _distance(first.places * np.array([-1, 1, 1], dtype=np.float32), second.places)
    fields = [_region_means(np.exp(apart / np.float32(-length)), first, second) for length in _LENGTHS_MM]
    fields += [_region_means(np.exp(mirrored / np.float32(-length)), first, second) for length in _MIRRORED_MM]
    shared = np.diag(first.size_mm3) if shared_mm3 is None else shared_mm3
    return np.stack([*fields, _NOISE_MM3 * shared / np.outer(first.size_mm3, second.size_mm3)])


def _distance(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)


def _region_means(values: npt.NDArray[np.float32], first: _Points, second: _Points) -> Floats:
    sums = np.add.reduceat(np.add.reduceat(values, second.starts, axis=1), first.starts, axis=0)
    return np.asarray(sums / np.outer(first.counts, second.counts), dtype=np.float64)


def _global_signal_out(covariance: Floats, share: Floats, centred: bool) -> Floats:
    """Covariance after the mean over the brain was taken out of every region, where it is; `share` of the brain by region `[R]`."""
    if not centred:
        return covariance
    common = covariance @ share
    return covariance - common[:, None] - common[None, :] + float(share @ common)


def _as_correlation(covariance: Floats) -> Floats:
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-9))
    return np.asarray(covariance / np.outer(scale, scale))
