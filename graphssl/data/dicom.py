"""DICOM: the series of a folder, and the slices of one of them put in order."""

from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.errors import DataError
from graphssl.extras import require

# A gap between slices may differ from the others by this share of it, or this many mm.
_GAP_TOLERANCE = 0.05
_PLACE_TOLERANCE = 0.01


def find_series(folder: Path) -> dict[str, list[Path]]:
    """Files of a folder (not of those below) by the id of their series, SeriesInstanceUID; files without pixels, and others, are not in it."""
    return {uid: list(files) for uid, files in _series(str(folder), folder.stat().st_mtime_ns).items()}


def series_files(folder: Path, series: str) -> list[Path]:
    """Files of a series; of the only one of a folder where none is named.

    Raises:
        DataError: If the folder has no such series, or several and none is named.
    """
    found = find_series(folder)
    if not series and len(found) == 1:
        return next(iter(found.values()))
    if series not in found:
        raise DataError(f"Expected the DICOM series {series or '(unnamed)'} in {folder}, found {sorted(found)[:5] or 'none'}. Name one of them.")
    return found[series]


def read_dicom(place: Path, series: str = "") -> tuple[npt.NDArray[Any], npt.NDArray[np.float64] | None, tuple[float, ...]]:
    """Values of a series or a file, rescaled to what they measure (HU in CT).

    Args:
        place: Folder of a series, or one file.
        series: Id of the series, where a folder holds several.

    Returns:
        Of a series of slices: values `[X, Y, Z]`, and the affine from voxels to mm in RAS. Of one file: values `[C, H, W]`, or `[C, T, H, W]` of
        several frames, and None. Then the spacing of the latter, in mm and, of frames, seconds; empty where unknown.

    Raises:
        DataError: If slices differ in size or direction, or one is missing or given twice.
    """
    pydicom = require("pydicom", extra="imaging", purpose="read DICOM images")
    files = series_files(place, series) if place.is_dir() else [place]
    slices = [pydicom.dcmread(file) for file in files]
    if len(slices) == 1:
        return _single(slices[0])
    return (*_stacked(slices, place), ())


def read_header(file: Path) -> Any:
    """The entries of a file without its pixels.

    Raises:
        DataError: If it is damaged, or no DICOM file.
    """
    pydicom = require("pydicom", extra="imaging", purpose="read DICOM images")
    try:
        return pydicom.dcmread(file, stop_before_pixels=True)
    except Exception as error:  # damaged bytes make the reader fail in any way
        raise DataError(f"Expected a whole DICOM file at {file}, found a damaged one ({error}). Copy it again, or leave it out.") from error


def _single(image: Any) -> tuple[npt.NDArray[Any], None, tuple[float, ...]]:
    values = _values(image)
    in_colour = int(image.get("SamplesPerPixel", 1)) > 1
    values = np.moveaxis(values, -1, 0) if in_colour else values[None]
    spacing = tuple(float(mm) for mm in image.get("PixelSpacing") or image.get("ImagerPixelSpacing") or ())
    if values.ndim == 4 and spacing:
        spacing = (float(image.get("FrameTime", 1000.0)) / 1000.0, *spacing)
    return values, None, spacing


def _stacked(slices: list[Any], place: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    lacking = [entry for entry in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if any(entry not in s for s in slices)]
    if lacking:
        raise DataError(f"Expected {lacking[0]} in every slice of {place}, found none in some: nothing tells in what order they lie.")
    for entry in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        different = {tuple(np.round(np.atleast_1d(np.asarray(s[entry].value, dtype=float)), 3)) for s in slices}
        if len(different) > 1:
            raise DataError(f"Expected one {entry} in the slices of {place}, found {sorted(different)[:3]}. Give each part a folder of its own.")
    along_row, along_column = np.reshape(np.asarray(slices[0].ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(along_row, along_column)
    heights = np.array([float(np.dot(normal, np.asarray(s.ImagePositionPatient, dtype=float))) for s in slices])
    order = np.argsort(heights)
    gap = _even_gap(heights[order], place)
    first = np.asarray(slices[order[0]].ImagePositionPatient, dtype=float)
    per_row, per_column = (float(mm) for mm in slices[0].PixelSpacing)  # distance of rows, then of columns
    affine = np.eye(4)
    affine[:3] = np.stack([along_row * per_column, along_column * per_row, normal * gap, first], axis=1)
    affine[:2] *= -1.0  # DICOM counts to the left and the back, RAS to the right and the front
    return np.stack([_values(slices[k]).T for k in order], axis=2), affine


def _even_gap(heights: npt.NDArray[np.float64], place: Path) -> float:
    """Distance of neighbouring slices."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    odd = np.abs(gaps - usual) > max(_GAP_TOLERANCE * usual, _PLACE_TOLERANCE)
    if usual < _PLACE_TOLERANCE or odd.any():
        where = ", ".join(f"{heights[k]:g} and {heights[k + 1]:g} mm" for k in np.flatnonzero(odd)[:3])
        raise DataError(
            f"Expected slices at even distances in {place}, about {usual:g} mm; found others between {where or 'all of them'}. "
            "A slice is missing or there twice; mend the series, or leave it out."
        )
    return usual


def _values(image: Any) -> npt.NDArray[Any]:
    pixels = require("pydicom.pixels", extra="imaging", purpose="read DICOM images")
    try:
        values = image.pixel_array
    except Exception as error:  # damaged bytes, or a compression that nothing here reads
        raise DataError(f"Expected pixels that can be decoded in {image.filename}, found none: a damaged or truncated file ({error}).") from error
    if image.get("PhotometricInterpretation") == "MONOCHROME1":  # high values are dark
        bits = int(image.BitsStored)
        values = (2**bits - 1 if int(image.get("PixelRepresentation", 0)) == 0 else -1) - values.astype(np.int64)
    rescaled = np.asarray(pixels.apply_rescale(values, image))
    return rescaled.astype(np.float32) if rescaled.dtype.kind == "f" or rescaled.dtype.itemsize > 4 else rescaled


@lru_cache(maxsize=256)
def _series(folder: str, modified: int) -> dict[str, tuple[Path, ...]]:
    pydicom = require("pydicom", extra="imaging", purpose="read DICOM images")
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and not path.name.startswith("."):
            try:
                header = read_header(path)
            except DataError as error:
                if isinstance(error.__cause__, pydicom.errors.InvalidDicomError):
                    continue  # a file of another kind
                raise
            if "Rows" in header:
                found[str(header.get("SeriesInstanceUID", ""))].append(path)
    return {uid: tuple(files) for uid, files in found.items()}
