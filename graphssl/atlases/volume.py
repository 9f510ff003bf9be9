"""Atlases from label volumes: one whole number a voxel, zero outside of the regions."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.atlases.table import check_centroids, check_labels, read_region_table
from graphssl.data import Atlas
from graphssl.errors import AtlasError

VOLUME_SUFFIXES = (".nii", ".nii.gz")


def atlas_from_volume(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    regions: str | os.PathLike[str] | None = None,
    index: int | None = None,
) -> Atlas:
    """Read an atlas from a label volume; a centroid is the mean place of the voxels of a label, in mm by the affine of the image.

    Args:
        path: A `.nii` or `.nii.gz` file.
        name: Name of the atlas; that of the file when left out.
        regions: Names (and networks) of the labels: a table with a label column, or a JSON file `{"rois": {"1": {"label": ...}}}` or `{"1": "name"}`.
            When left out, a file of the volume's name and the ending `.json`, `.csv` or `.tsv` beside it is read; a JSON file without labels is not.
        index: Which parcellation of a four-dimensional file, from zero.

    Raises:
        AtlasError: If the file is absent, empty or no image, has more than one parcellation and no index is given, or holds no labels or other than
            whole positive ones.
    """
    return read_label_volume(Path(path), name=name, regions=regions, index=index)[0]


def read_label_volume(
    path: Path, *, name: str | None = None, regions: str | os.PathLike[str] | None = None, index: int | None = None
) -> tuple[Atlas, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The atlas of a label volume, the label of every voxel `[X, Y, Z]` and the affine `[4, 4]`; raises what `atlas_from_volume` does."""
    values, affine = _read_volume(path, index)
    whole = _whole_labels(values, path)
    labels, centroids = label_centroids(whole, affine, path)
    named = _region_names(path, None if regions is None else Path(regions))
    names = tuple(named.get(label, ("", ""))[0] for label in labels.tolist())
    networks = tuple(named.get(label, ("", ""))[1] for label in labels.tolist())
    return Atlas(name or volume_stem(path), labels, names, centroids.astype(np.float32), networks), whole, affine


def label_centroids(values: npt.NDArray[Any], affine: npt.NDArray[np.float64], path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Label ids of a volume and the centre of mass of each.

    Args:
        values: Label of every voxel `[X, Y, Z]`.
        affine: From voxel indices to mm `[4, 4]`.
        path: The file, for messages.

    Returns:
        Labels `[R]`, ascending, and centroids in mm `[R, 3]`.

    Raises:
        AtlasError: If there is no label, or a label is not a whole positive number.
    """
    whole = _whole_labels(values, path)
    places = np.argwhere(whole != 0)
    if not len(places):
        raise AtlasError(f"Expected labelled voxels in {path}, found only background.")
    labels, owner, n_voxels = np.unique(whole[tuple(places.T)], return_inverse=True, return_counts=True)
    check_labels(labels, path)
    sums = np.stack([np.bincount(owner, places[:, axis], minlength=len(labels)) for axis in range(3)], axis=1)
    centroids = sums / n_voxels[:, None] @ affine[:3, :3].T + affine[:3, 3]
    check_centroids(centroids, labels, path)
    return labels, centroids


def volume_stem(path: Path) -> str:
    """Name of the file without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


_WHOLE_TOLERANCE = 1e-3
# With a larger step two labels could fall on one stored value.
_LARGEST_STEP = 0.5
_SIDECARS = (".json", ".csv", ".tsv")
_NO_NAME = ("", "null", "none", "empty")


def _read_volume(path: Path, index: int | None) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    import nibabel as nib

    if not path.is_file():
        raise AtlasError(f"Expected an atlas volume at {path}, found none.")
    try:
        image = nib.load(path)
        values = _snapped(np.asarray(image.dataobj), getattr(image.dataobj, "slope", 1.0))  # type: ignore[attr-defined]
        affine = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except Exception as error:  # damaged bytes make the reader fail in any way
        raise AtlasError(f"Expected a NIfTI label volume at {path}, found an empty or damaged file ({error}).") from error
    return _one_parcellation(values, index, path), affine


def _snapped(values: npt.NDArray[Any], step: float) -> npt.NDArray[Any]:
    """Labels saved with a scale factor (floats put into a file of a narrow type) are off by up to half a step: undo it where that is safe."""
    if step == 1.0 or not 0 < step <= _LARGEST_STEP:
        return values
    whole = np.round(values)
    return np.where(np.abs(values - whole) <= 0.51 * step, whole, values)


def _one_parcellation(values: npt.NDArray[Any], index: int | None, path: Path) -> npt.NDArray[Any]:
    if values.ndim == 3 and index in (None, 0):
        return values
    stacked = values.reshape(*values.shape[:3], -1) if values.ndim >= 3 else values
    if values.ndim < 3 or (index is None and stacked.shape[3] > 1) or not 0 <= (index or 0) < stacked.shape[-1]:
        raise AtlasError(
            f"Expected one label volume in {path}, found shape {values.shape} and index {index}. Give the index of one parcellation of a 4D file."
        )
    return stacked[..., index or 0]


def _whole_labels(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int64]:
    """Labels as 64-bit integers: whatever type the file has, none wraps."""
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    if not np.issubdtype(values.dtype, np.floating):
        raise AtlasError(f"Expected whole numbers as labels in {path}, found voxels of type {values.dtype}.")
    filled = np.nan_to_num(values.astype(np.float64), nan=0.0)
    whole = np.round(filled)
    odd = np.abs(filled - whole) > _WHOLE_TOLERANCE
    if odd.any() or np.abs(whole).max(initial=0) > 2**31:
        found = filled[odd][0] if odd.any() else np.abs(whole).max()
        raise AtlasError(
            f"Expected whole numbers as labels in {path}, found {found:g} ({int(odd.sum())} voxels are not whole). "
            "A probabilistic map is no parcellation, and labels must be resampled with nearest neighbours."
        )
    return whole.astype(np.int64)


def _region_names(volume: Path, given: Path | None) -> dict[int, tuple[str, str]]:
    """Name and network by label."""
    if given is not None:
        named = _read_names(given)
        if not named:
            raise AtlasError(f'Expected {{"rois": {{"1": {{"label": "name"}}}}}} or {{"1": "name"}} in {given}, found no labels.')
        return named
    beside = (volume.with_name(volume_stem(volume) + suffix) for suffix in _SIDECARS)
    return next((named for path in beside if path.is_file() and (named := _read_names(path))), {})


def _read_names(path: Path) -> dict[int, tuple[str, str]]:
    if path.suffix.lower() == ".json":
        return _names_from_json(path)
    table = read_region_table(path)
    return dict(zip(table["label"].tolist(), zip(table["name"], table["network"], strict=True), strict=True))


def _names_from_json(path: Path) -> dict[int, tuple[str, str]]:
    """Either `{"1": "name"}`, or the layout of neuroparc (github.com/neurodata/neuroparc), `{"rois": {"1": {"label": "name"}}}`.

    Entries that are no labels are passed over: a JSON file beside a volume may describe its acquisition as well.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AtlasError(f"Expected a JSON file with the names of labels at {path}, found none or a damaged one ({error}).") from error
    entries = record.get("rois", record) if isinstance(record, dict) else {}
    texts = {int(key): entry.get("label") if isinstance(entry, dict) else entry for key, entry in entries.items() if key.isdecimal()}
    return {label: ("" if str(text or "").lower() in _NO_NAME else str(text), "") for label, text in texts.items()}
