"""Parcellated CIFTI files of the Human Connectome Project's tools and of XCP-D: parcels are named in the file.

Source: the CIFTI-2 format (https://www.nitrc.org/projects/cifti/). Read with nibabel alone; no Workbench is needed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from graphssl.datasets.labelled import LabelledArray, Names
from graphssl.errors import DataError


def read_cifti(path: Path) -> LabelledArray:
    """Read a `.ptseries.nii` (time points as rows) or a `.pconn.nii`, with the names of the parcels.

    Args:
        path: The file.

    Raises:
        DataError: If it is no CIFTI file, or its columns are no parcels (dense files must be parcellated first).
    """
    import nibabel as nib

    image = nib.load(path)
    if not isinstance(image, nib.Cifti2Image):
        raise DataError(f"Expected a CIFTI file at {path}, found {type(image).__name__}. Give .ptseries.nii or .pconn.nii files.")
    rows, columns = (image.header.get_axis(axis) for axis in (0, 1))
    names = _parcels(columns)
    if names is None:
        raise DataError(f"Expected parcels as columns of {path}, found {type(columns).__name__}. Parcellate it first (wb_command -cifti-parcellate).")
    return LabelledArray(np.asarray(image.dataobj, dtype=np.float32), names, _parcels(rows))


def _parcels(axis: Any) -> Names | None:
    from nibabel.cifti2.cifti2_axes import ParcelsAxis

    return tuple(str(name) for name in axis.name) if isinstance(axis, ParcelsAxis) else None
