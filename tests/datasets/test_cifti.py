"""Parcellated CIFTI files, written with nibabel."""

import nibabel as nib
import numpy as np
import pytest

from graphssl.datasets.arrays import read_labelled
from graphssl.datasets.cifti import read_cifti
from graphssl.errors import DataError

NAMES = ("L_V1_ROI", "L_MST_ROI", "R_V1_ROI")


def parcels():
    return nib.cifti2.ParcelsAxis(list(NAMES), [np.array([[k, 0, 0]]) for k in range(3)], [{}] * 3, np.eye(4), (3, 1, 1), {})


def save(path, values, rows, columns):
    nib.Cifti2Image(values.astype(np.float32), (rows, columns)).to_filename(path)
    return path


def test_time_points_are_rows_and_parcels_are_named(tmp_path):
    values = np.random.default_rng(0).normal(size=(12, 3))
    found = read_cifti(save(tmp_path / "a.ptseries.nii", values, nib.cifti2.SeriesAxis(0, 0.72, 12), parcels()))
    np.testing.assert_allclose(found.values, values, rtol=1e-6)
    assert (found.columns, found.rows) == (NAMES, None)


def test_rows_and_columns_of_a_matrix_are_named(tmp_path):
    found = read_labelled(save(tmp_path / "a.pconn.nii", np.eye(3), parcels(), parcels()))
    assert found.columns == found.rows == NAMES
    np.testing.assert_array_equal(found.values, np.eye(3))


def test_dense_files_and_other_images_are_refused(tmp_path):
    dense = nib.cifti2.BrainModelAxis.from_mask(np.ones((3, 1, 1)), affine=np.eye(4), name="other")
    path = save(tmp_path / "a.ptseries.nii", np.ones((4, 3)), nib.cifti2.SeriesAxis(0, 1, 4), dense)
    with pytest.raises(DataError, match="Expected parcels as columns of .*, found BrainModelAxis. Parcellate it first"):
        read_cifti(path)
    nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_filename(tmp_path / "b.pconn.nii")
    with pytest.raises(DataError, match="Expected a CIFTI file at .*, found Nifti1Image"):
        read_cifti(tmp_path / "b.pconn.nii")
