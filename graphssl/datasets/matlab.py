"""Arrays of MATLAB files, with the names of their regions where a toolbox writes them beside the numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.datasets.labelled import LabelledArray, Names
from graphssl.datasets.matlab_hdf5 import hdf5_shapes, is_hdf5, read_hdf5
from graphssl.errors import DataError

REAL_KINDS = "biuf"


def read_matlab(path: Path, variable: str | None = None) -> LabelledArray:
    """Read the one two-dimensional array of a `.mat` file of any version.

    Regions are named where the file says so: QSIRecon writes `<atlas>_region_ids` beside `<atlas>_<weight>_connectivity`, and CONN writes the names
    of its sources into `names` beside `Z`. CONN's `Z` has further columns for targets that are no sources; they are cut off.

    Args:
        path: The file.
        variable: Name of the array; may be left out where there is one only.

    Raises:
        DataError: If the file holds no single array of real numbers.
    """
    stored = _stored(path)
    arrays = {name: _dense(value) for name, value in stored.items() if variable in (None, name)}
    if variable is None:
        # In MATLAB a scalar is a 1 × 1 array and a vector has two axes as well.
        arrays = {name: array for name, array in arrays.items() if array.dtype.kind in REAL_KINDS and array.ndim == 2 and min(array.shape) > 1}
    return _labelled(the_only(arrays, list(stored), variable, path), _region_names(stored, variable), path)


def read_matlab_pages(path: Path, variable: str | None = None) -> list[LabelledArray]:
    """The matrices that lie one behind the other in an array `[rows, columns, pages]`, as CONN writes those of all subjects into one `Z`.

    Args:
        path: The file.
        variable: Name of the array; may be left out where there is one of three axes only.

    Raises:
        DataError: If there is no such array of two or three axes.
    """
    stored = _stored(path)
    arrays = {name: _dense(value) for name, value in stored.items() if variable in (None, name)}
    if variable is None:
        arrays = {name: array for name, array in arrays.items() if array.dtype.kind in REAL_KINDS and array.ndim == 3}
    array = the_only(arrays, list(stored), variable, path)
    if array.ndim not in (2, 3):
        raise DataError(f"Expected matrices one behind the other in {path}, found shape {array.shape}. Save them as [regions, regions, subjects].")
    regions = _region_names(stored, variable)
    # MATLAB drops a last axis of length one.
    return [_labelled(page, regions, path) for page in np.moveaxis(np.atleast_3d(array), 2, 0)]


def matlab_variables(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape by name of what a `.mat` file holds, without reading the values.

    Raises:
        DataError: If the file cannot be read.
    """
    from scipy.io import whosmat

    try:
        return hdf5_shapes(path) if is_hdf5(path) else {name: tuple(shape) for name, shape, _ in whosmat(path)}
    except Exception as error:  # damaged bytes make the readers fail in any way
        raise DataError(f"Expected an array in {path}, found a file that cannot be read ({error}). Copy or make it again.") from error


def the_only(arrays: Mapping[str, npt.NDArray[Any]], names: list[str], variable: str | None, path: Path) -> npt.NDArray[Any]:
    """The one array that is meant.

    Raises:
        DataError: If there is none or several; lists the names.
    """
    if len(arrays) != 1:
        wanted = "one two-dimensional array" if variable is None else f"the variable {variable!r}"
        raise DataError(f"Expected {wanted} in {path}, found {', '.join(names) or 'nothing'}. Name the one to read with variable=…")
    return next(iter(arrays.values()))


def real_numbers(array: npt.NDArray[Any], path: Path) -> npt.NDArray[np.float32]:
    """The array in single precision.

    Raises:
        DataError: If it holds something else than real numbers.
    """
    if array.dtype.kind not in REAL_KINDS:
        raise DataError(f"Expected real numbers in {path}, found values of type {array.dtype}. Save the numbers alone.")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as such
        return array.astype(np.float32)


def _stored(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        found = read_hdf5(path) if is_hdf5(path) else loadmat(path)
    except Exception as error:  # damaged bytes make the readers fail in any way
        raise DataError(f"Expected an array in {path}, found a file that cannot be read ({error}). Copy or make it again.") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _labelled(array: npt.NDArray[Any], regions: Names | None, path: Path) -> LabelledArray:
    if regions is not None and array.ndim == 2 and len(regions) == len(array) <= array.shape[1]:
        return LabelledArray(real_numbers(array[:, : len(array)], path), regions, regions)
    return LabelledArray(real_numbers(array, path))


def _dense(value: Any) -> npt.NDArray[Any]:
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)


def _region_names(stored: Mapping[str, Any], variable: str | None) -> Names | None:
    if variable == "Z" and "names" in stored:
        return tuple(str(np.asarray(name).ravel()[0]).strip() for name in np.asarray(stored["names"]).ravel())
    prefix = next((key.removesuffix(IDS) for key in stored if key.endswith(IDS) and str(variable).startswith(key.removesuffix(IDS) + "_")), None)
    return None if prefix is None else tuple(str(int(label)) for label in np.asarray(stored[prefix + IDS]).ravel())


IDS = "_region_ids"
