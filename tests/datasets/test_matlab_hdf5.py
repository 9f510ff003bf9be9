"""MATLAB 7.3 files in the layout that MATLAB writes: variables are what SciPy gives for older versions."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import random_array

from graphssl.datasets import read_array
from graphssl.datasets.matlab import matlab_variables, read_matlab
from graphssl.datasets.matlab_hdf5 import hdf5_shapes, is_hdf5, read_hdf5
from graphssl.errors import DataError

MATRIX = np.arange(12.0).reshape(3, 4)


def add(file, name, stored, kind, **attributes):
    node = file.create_dataset(name, data=stored)
    node.attrs["MATLAB_class"] = np.bytes_(kind)
    for key, value in attributes.items():
        node.attrs[key] = value
    return node


@pytest.fixture
def path(tmp_path):
    """A variable of each kind, behind the 512 bytes in which MATLAB names itself."""
    place = tmp_path / "a.mat"
    sparse = random_array((5, 4), density=0.3, rng=0, format="csc")
    with h5py.File(place, "w", userblock_size=512) as file:
        add(file, "matrix", MATRIX.T, "double")
        add(file, "stack", np.arange(24).reshape(2, 3, 4).T, "int32")
        add(file, "yes", np.array([[1], [0]], np.uint8), "logical", MATLAB_int_decode=1)
        add(file, "word", np.array([[104], [228]], np.uint16), "char", MATLAB_int_decode=2)
        add(file, "nothing", np.array([0, 7], np.uint64), "double", MATLAB_empty=1)
        words = [add(file, f"#refs#/{k}", np.array([[ord(letter)] for letter in word], np.uint16), "char").ref for k, word in enumerate(("V1", "M1"))]
        add(file, "cells", np.array(words, h5py.ref_dtype).reshape(2, 1), "cell")
        group = file.create_group("sparse")
        group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(5)
        group["data"], group["ir"], group["jc"] = sparse.data, sparse.indices.astype(np.uint64), sparse.indptr.astype(np.uint64)
        file.create_group("structure").attrs["MATLAB_class"] = np.bytes_("struct")
        empty = file.create_group("blank")
        empty.attrs["MATLAB_class"], empty.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(2)
        empty["jc"] = np.zeros(4, np.uint64)
    with place.open("r+b") as stored:
        stored.write(b"MATLAB 7.3 MAT-file")
    return place


def test_variables_are_what_was_saved(path):
    found = read_hdf5(path)
    np.testing.assert_array_equal(found["matrix"], MATRIX)
    np.testing.assert_array_equal(found["stack"], np.arange(24).reshape(2, 3, 4))
    np.testing.assert_array_equal(found["yes"], [[1, 0]])
    assert found["word"] == "hä"
    assert found["nothing"].shape == (0, 7)
    assert found["cells"].ravel().tolist() == ["V1", "M1"]
    np.testing.assert_array_equal(found["sparse"].toarray(), random_array((5, 4), density=0.3, rng=0).toarray())
    assert found["blank"].shape == (2, 3)
    assert found["structure"] is None
    assert "#refs#" not in found


def test_shapes_are_known_without_the_values(path):
    assert hdf5_shapes(path) == matlab_variables(path)
    assert hdf5_shapes(path)["matrix"] == (3, 4)
    assert hdf5_shapes(path)["structure"] == ()


def test_files_of_both_versions_are_read_alike(path, tmp_path):
    savemat(tmp_path / "old.mat", {"matrix": MATRIX})
    assert is_hdf5(path)
    assert not is_hdf5(tmp_path / "old.mat")
    for name in ("a.mat", "old.mat"):
        values, columns = read_array(tmp_path / name, variable="matrix")
        np.testing.assert_array_equal(values, MATRIX)
        assert columns is None
    np.testing.assert_array_equal(read_matlab(path, "sparse").values, read_hdf5(path)["sparse"].toarray().astype(np.float32))


def test_one_array_among_other_things_needs_no_name(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:  # as other writers leave it, without the header
        add(file, "r", MATRIX.T, "double")
        add(file, "n", np.array([[3.0]]), "double")
        file.create_group("info").attrs["MATLAB_class"] = np.bytes_("struct")
    np.testing.assert_array_equal(read_matlab(tmp_path / "a.mat").values, MATRIX)


def test_what_is_no_array_of_numbers(path):
    with pytest.raises(DataError, match=r"Expected real numbers in .*a\.mat, found values of type object"):
        read_matlab(path, "structure")
    with pytest.raises(DataError, match=r"Expected the variable 'Z' in .*a\.mat, found .*matrix, .*word, yes. Name the one to read"):
        read_matlab(path, "Z")


@pytest.mark.parametrize("kept", [25, 200, 600, 3000])
def test_cut_off_files(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"Expected an array in .*a\.mat, found a file that cannot be read .*Copy or make it again"):
        read_array(path, variable="matrix")
    with pytest.raises(DataError, match="Expected an array in"):
        matlab_variables(path)
