"""MATLAB 7.3 files, which are HDF5: the variables as `scipy.io.loadmat` would give them.

Source: the layout that MATLAB writes, as `h5dump` shows it. Axes are stored in reverse; cells hold references; text is stored as numbers;
`MATLAB_class` says what a variable is, `MATLAB_empty` marks a stored shape, and a sparse matrix is a group of `data`, `ir` and `jc`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def is_hdf5(path: Path) -> bool:
    """Whether a `.mat` file is of version 7.3: HDF5, behind the 512 bytes in which MATLAB says so, or without them."""
    with path.open("rb") as file:
        head = file.read(len(_MATLAB))
    return head.startswith((_SIGNATURE, _MATLAB))


def read_hdf5(path: Path) -> dict[str, Any]:
    """Variables by name: numeric arrays, sparse matrices, text, and cells as arrays of objects; None stands for anything else."""
    import h5py

    with h5py.File(path, "r") as file:
        return {name: _value(file[name], file) for name in _variables(file)}


def hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape by name of the variables of a file, without reading the values; structures have none."""
    import h5py

    with h5py.File(path, "r") as file:
        return {name: tuple(getattr(file[name], "shape", ()))[::-1] for name in _variables(file)}


def _variables(file: Any) -> list[str]:
    return [name for name in file if not name.startswith("#")]  # what cells refer to lies in #refs#


def _value(node: Any, file: Any) -> Any:
    kind = node.attrs.get("MATLAB_class", b"").decode()
    if hasattr(node, "keys"):
        return _sparse(node) if "MATLAB_sparse" in node.attrs else None
    if node.attrs.get("MATLAB_empty", 0):
        return np.zeros(tuple(int(size) for size in node[()]))
    stored: npt.NDArray[Any] = np.asarray(node[()]).T
    if kind == "char":
        return "".join(map(chr, stored.ravel(order="C")))
    if kind == "cell":
        cells = np.empty(stored.shape, dtype=object)
        cells.flat[:] = [_value(file[reference], file) for reference in stored.flat]
        return cells
    return stored


def _sparse(group: Any) -> Any:
    from scipy.sparse import csc_matrix

    ends = group["jc"][()]
    # A matrix without any entry has neither values nor rows.
    values, rows = (group[key][()] if key in group else np.zeros(0) for key in ("data", "ir"))
    return csc_matrix((values, rows.astype(np.int64), ends.astype(np.int64)), shape=(int(group.attrs["MATLAB_sparse"]), len(ends) - 1))


_SIGNATURE, _MATLAB = b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-file"
