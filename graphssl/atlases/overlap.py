"""Maps from the volumes that regions of two parcellations share."""

import numpy as np
import numpy.typing as npt

from graphssl.atlases.label_volume import LabelVolume, Parcellation, atlas_of, check_same_space, to_mm
from graphssl.atlases.map import AtlasMap, identity_map
from graphssl.data.atlas import check_atlas

Floats = npt.NDArray[np.float64]

# Correlations of band-passed scans of 150 to 250 volumes scatter as those of this many independent time points would: the variance of what a map
# does not tell, over its square, was 1/28 to 1/40 for six pairs of atlases of 809 people (docs/methods/atlas-conversion.md).
EFFECTIVE_TIMEPOINTS = 33.0
# Mean square of a correlation that a plain mean of sources takes to be stronger than it is.
_MEAN_SQUARE = 0.05


def overlap_volumes(source: LabelVolume, target: LabelVolume) -> Floats:
    """Volume in mm³ that each target region shares with each source region `[R_t, R_s]`.

    The volume with the smaller voxels is the grid; the other one's label is looked up at each of its voxels (nearest neighbour).

    Args:
        source: Parcellation of the data.
        target: Parcellation of the result.

    Raises:
        AtlasError: If the two do not lie in one space.
    """
    check_same_space(source, target)
    finer, coarser = (source, target) if source.voxel_mm3 < target.voxel_mm3 else (target, source)
    where = np.argwhere(finer.places >= 0)
    mine = finer.places[tuple(where.T)]
    theirs = _looked_up(coarser, to_mm(where, finer.affine))
    both = theirs >= 0
    counts = np.bincount(mine[both] * len(coarser.atlas) + theirs[both], minlength=len(finer.atlas) * len(coarser.atlas))
    volumes = counts.reshape(len(finer.atlas), len(coarser.atlas)) * finer.voxel_mm3
    return np.asarray(volumes if finer is target else volumes.T)


def coverage(source: LabelVolume, target: LabelVolume, volumes: Floats | None = None) -> Floats:
    """Share of each target region's volume that source regions cover `[R_t]`.

    Args:
        source: Parcellation of the data.
        target: Parcellation of the result.
        volumes: What `overlap_volumes` gives for the two, where it is at hand.

    Raises:
        AtlasError: If the two do not lie in one space.
    """
    shared = overlap_volumes(source, target) if volumes is None else volumes
    return np.asarray(np.minimum(shared.sum(axis=1) / (target.n_voxels * target.voxel_mm3), 1.0))


def overlap_map(source: LabelVolume, target: LabelVolume, *, effective_timepoints: float = EFFECTIVE_TIMEPOINTS) -> AtlasMap:
    """Each target region as the mean of the source regions it shares volume with, weighted by mm³.

    A target region's weights sum to one over what is covered; `coverage` says how much that is, and a region without any source voxel is not served.
    The expected error follows from the share of a target region's signal that its sources can be expected to tell: its coverage times how much of
    those source regions lies within it. What they do not tell is missing twice, as noise, and because a mean of sources correlates as if it were
    the region itself.

    Args:
        source: Parcellation of the data.
        target: Parcellation of the result.
        effective_timepoints: Independent time points of a scan, for the expected error.

    Raises:
        AtlasError: If the two do not lie in one space.
    """
    if same_parcellation(source, target):
        return identity_map(source.atlas)
    volumes = overlap_volumes(source, target)
    covered = volumes.sum(axis=1)
    weights = np.divide(volumes, covered[:, None], out=np.zeros_like(volumes), where=covered[:, None] > 0)
    shares = volumes / (source.n_voxels * source.voxel_mm3)
    share = coverage(source, target, volumes)
    told = share * np.minimum((weights * shares).sum(axis=1), 1.0)
    return AtlasMap(
        source.atlas,
        target.atlas,
        weights,
        "overlap",
        share,
        shares=shares,
        edge_error=np.sqrt(model_edge_error(told, effective_timepoints) ** 2 + _MEAN_SQUARE * _inflation(told) ** 2),
        record={"grid": resampling(source, target), "error": "from coverage"},
    )


def same_parcellation(source: Parcellation, target: Parcellation) -> bool:
    """Whether both are the same regions at the same places."""
    first, second = atlas_of(source), atlas_of(target)
    if first.hash != second.hash:
        return False
    check_atlas(first, second)
    return True


def model_edge_error(told: Floats, effective_timepoints: float = EFFECTIVE_TIMEPOINTS) -> Floats:
    """Expected root mean square error of correlations between regions of which a share of the variance is told `[R, R]`.

    What is not told meets what is told and what is not told of the other region as independent signals do: their sample covariance over T independent
    time points has the variance of the one times that of the other over T.

    Args:
        told: Share of each region's variance that the map tells `[R]`, 0 to 1.
        effective_timepoints: Independent time points `T` of a scan.
    """
    known, lost = np.clip(told, 0.0, 1.0), 1.0 - np.clip(told, 0.0, 1.0)
    error = np.sqrt((np.outer(known, lost) + np.outer(lost, known) + np.outer(lost, lost)) / effective_timepoints)
    np.fill_diagonal(error, 0.0)
    return error


def resampling(source: LabelVolume, target: LabelVolume) -> str:
    """What was done to bring two volumes onto one grid, in words."""
    if source.values.shape == target.values.shape and np.allclose(source.affine, target.affine):
        return "one grid"
    finer, coarser = (source, target) if source.voxel_mm3 < target.voxel_mm3 else (target, source)
    sizes = ["×".join(f"{step:.3g}" for step in volume.voxel_size) for volume in (coarser, finer)]
    return f"{coarser.atlas.name} ({sizes[0]} mm) looked up at the voxels of {finer.atlas.name} ({sizes[1]} mm), nearest neighbour"


def _inflation(told: Floats) -> Floats:
    """By what share of itself a correlation of means is too strong where only a share of each region's variance is told `[R, R]`."""
    root = np.sqrt(np.clip(told, 0.0, 1.0))
    excess = 1.0 - np.outer(root, root)
    np.fill_diagonal(excess, 0.0)
    return np.asarray(excess)


def _looked_up(volume: LabelVolume, points: Floats) -> npt.NDArray[np.int64]:
    """Place of the region at each point in mm `[n]`, -1 outside."""
    inverse: Floats = np.asarray(np.linalg.inv(volume.affine))
    # Half a voxel is a tie: the smallest shift lets it fall to one side everywhere, whatever the rounding of the affine.
    indices = np.rint(to_mm(points, inverse) - _TIE).astype(np.int64)
    inside = ((indices >= 0) & (indices < volume.values.shape)).all(axis=1)
    found = np.full(len(points), -1)
    found[inside] = volume.places[tuple(indices[inside].T)]
    return found


_TIE = 1e-6
