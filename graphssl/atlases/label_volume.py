"""A parcellation as a volume: which label each voxel has, and where the voxels are."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graphssl.atlases.volume import read_label_volume
from graphssl.data.atlas import Atlas
from graphssl.errors import AtlasError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """An atlas with its voxels.

    Args:
        atlas: The regions.
        values: Label of every voxel `[X, Y, Z]`; 0, and whatever is no label of the atlas, is background.
        affine: From voxel indices to mm `[4, 4]`.
        path: The file, for messages.

    Raises:
        AtlasError: If a region of the atlas has no voxel.
    """

    atlas: Atlas
    values: npt.NDArray[np.int64]
    affine: Floats
    path: str = ""

    def __post_init__(self) -> None:
        empty = self.atlas.labels[self.n_voxels == 0].tolist()
        if empty:
            raise AtlasError(
                f"Expected voxels of every region of {self.atlas.name!r} in {self.path or 'the volume'}, found none of the labels {empty[:5]} "
                f"({len(empty)} in all). Give the volume that the data were made with."
            )

    def __repr__(self) -> str:
        size = "×".join(f"{step:.3g}" for step in self.voxel_size)
        return f"LabelVolume({self.atlas.name!r}, {len(self.atlas)} regions, {'×'.join(map(str, self.values.shape))} voxels of {size} mm)"

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Place of each voxel's region in the atlas, -1 in the background `[X, Y, Z]`."""
        order = np.argsort(self.atlas.labels)
        ascending = self.atlas.labels[order]
        spot = np.minimum(np.searchsorted(ascending, self.values), len(order) - 1)
        return np.where(ascending[spot] == self.values, order[spot], -1)

    @cached_property
    def n_voxels(self) -> npt.NDArray[np.int64]:
        """Number of voxels of each region `[R]`."""
        inside = self.places[self.places >= 0]
        return np.bincount(inside, minlength=len(self.atlas))

    @property
    def voxel_size(self) -> Floats:
        """Edges of a voxel in mm `[3]`."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def extent(self) -> Floats:
        """Lowest and highest coordinate of labelled voxels in mm `[2, 3]`."""
        where = np.argwhere(self.places >= 0)
        corners = np.stack(np.meshgrid(*np.stack([where.min(axis=0), where.max(axis=0)], axis=1), indexing="ij"), axis=-1).reshape(-1, 3)
        places = to_mm(corners, self.affine)
        return np.stack([places.min(axis=0), places.max(axis=0)])

    def sample(self, n_per_region: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Voxels spread evenly over each region, the same every time.

        Args:
            n_per_region: Most voxels of one region.

        Returns:
            Coordinates in mm `[V, 3]` and the region each belongs to `[V]`, region by region.
        """
        where = np.argwhere(self.places >= 0)
        owner = self.places[tuple(where.T)]
        order = np.argsort(owner, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.n_voxels)])
        chosen = [
            order[start + np.unique(np.linspace(0, size - 1, min(size, n_per_region)).round().astype(np.int64))]
            for start, size in zip(starts[:-1].tolist(), self.n_voxels.tolist(), strict=True)
        ]
        rows = np.concatenate(chosen)
        return to_mm(where[rows], self.affine), owner[rows]

    def select(self, labels: Sequence[int] | npt.NDArray[np.int64]) -> "LabelVolume":
        """The volume with the given labels only; the others become background.

        Raises:
            AtlasError: If a label is not in the atlas.
        """
        return replace(self, atlas=self.atlas.select(labels))


def load_label_volume(
    path: str | os.PathLike[str], *, name: str | None = None, regions: str | os.PathLike[str] | None = None, index: int | None = None
) -> LabelVolume:
    """Read an atlas with its voxels, as [`atlas_from_volume`][graphssl.atlases.atlas_from_volume] reads one without.

    Args:
        path: The volume, `.nii` or `.nii.gz`.
        name: Name of the atlas; that of the file when left out.
        regions: Table with names and networks of the regions; one of the volume's name beside it when left out.
        index: Which volume of several in one file.

    Raises:
        AtlasError: If the file is absent or damaged, or holds no labels or other than whole positive ones.
    """
    atlas, values, affine = read_label_volume(Path(path), name=name, regions=regions, index=index)
    return LabelVolume(atlas, values, affine, str(path))


# A parcellation as it is at hand: with voxels, or as centroids only.
Parcellation = LabelVolume | Atlas


def atlas_of(parcellation: Parcellation) -> Atlas:
    """The regions of a parcellation."""
    return parcellation.atlas if isinstance(parcellation, LabelVolume) else parcellation


def to_mm(indices: npt.ArrayLike, affine: Floats) -> Floats:
    """Coordinates in mm of voxel indices `[n, 3]`."""
    return np.asarray(np.asarray(indices, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3])


def check_same_space(source: LabelVolume, target: LabelVolume) -> None:
    """Check that two volumes lie in one space, by the extent of their labels and by the sides their regions' names tell.

    Orientation of the axes does not matter: coordinates in mm are compared.

    Raises:
        AtlasError: If one volume has no coordinates (an affine without origin), the labelled parts hardly meet, or left and right are exchanged.
    """
    for volume in (source, target):
        if (volume.extent[0] >= 0).all():
            raise AtlasError(
                f"Expected {volume.path or volume.atlas.name!r} in MNI space, whose origin lies within the brain; found labels from "
                f"{_shown(volume.extent[0])} to {_shown(volume.extent[1])} mm. Its affine has no origin: give the image its true affine."
            )
    low, high = np.maximum(source.extent[0], target.extent[0]), np.minimum(source.extent[1], target.extent[1])
    shared = float(np.prod(np.maximum(high - low, 0.0)))
    smaller = min(float(np.prod(np.ptp(volume.extent, axis=0) + 1e-9)) for volume in (source, target))
    if shared < _LEAST_SHARED * smaller:
        raise AtlasError(
            f"Expected {source.atlas.name!r} and {target.atlas.name!r} in one space, found labels from {_shown(source.extent[0])} to "
            f"{_shown(source.extent[1])} mm in one and from {_shown(target.extent[0])} to {_shown(target.extent[1])} mm in the other. "
            "Bring both volumes into the same space (nearest neighbours keep labels whole)."
        )
    _check_sides(source.atlas)
    _check_sides(target.atlas)


_LEAST_SHARED = 0.5
_OFF_MIDLINE_MM = 10.0
_LEFT, _RIGHT = ("left", "l", "lh"), ("right", "r", "rh")


def _check_sides(atlas: Atlas) -> None:
    """Names that say left belong to regions with a negative x."""
    told = [_side(name) for name in atlas.names]
    agree = [side * x > 0 for side, x in zip(told, atlas.centroids[:, 0].tolist(), strict=True) if side and abs(x) > _OFF_MIDLINE_MM]
    if len(agree) >= 4 and np.mean(agree) < 0.25:
        raise AtlasError(
            f"Expected regions of {atlas.name!r} named left at negative x, found {len(agree) - sum(agree)} of {len(agree)} on the other side. "
            "The volume is mirrored, or its affine is: give it in neurological coordinates (RAS+ mm)."
        )


def _side(name: str) -> int:
    """-1 for a name that says left, 1 for right, 0 for neither or both."""
    words = set("".join(letter if letter.isalnum() else " " for letter in name).lower().split())
    left, right = bool(words & set(_LEFT)), bool(words & set(_RIGHT))
    return 0 if left == right else (-1 if left else 1)


def _shown(point: Floats) -> str:
    return "(" + ", ".join(f"{value:.0f}" for value in point) + ")"
