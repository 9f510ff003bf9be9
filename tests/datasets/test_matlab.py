"""MATLAB files: names of regions that toolboxes write beside the numbers. Further cases are in test_arrays.py."""

import numpy as np
import pytest
from scipy.io import savemat

from graphssl.datasets.matlab import matlab_variables, read_matlab, read_matlab_pages
from graphssl.errors import DataError

MATRIX = np.arange(9.0).reshape(3, 3)


def test_the_sources_of_conn_name_rows_and_columns(tmp_path):
    wide = np.hstack([MATRIX, np.ones((3, 2))])
    savemat(tmp_path / "a.mat", {"Z": wide, "names": np.array(["atlas.A ", "B", "C"], dtype=object), "names2": np.array(list("ABCDE"), dtype=object)})
    found = read_matlab(tmp_path / "a.mat", "Z")
    np.testing.assert_array_equal(found.values, MATRIX)
    assert found.columns == found.rows == ("atlas.A", "B", "C")


def test_the_ids_of_qsirecon_belong_to_their_own_atlas(tmp_path):
    content = {"aal_region_ids": [1, 5, 9], "aal_count_connectivity": MATRIX, "aal2_region_ids": [[2, 4]], "aal2_count_connectivity": MATRIX[:2, :2]}
    savemat(tmp_path / "a.mat", content)
    assert read_matlab(tmp_path / "a.mat", "aal_count_connectivity").columns == ("1", "5", "9")
    assert read_matlab(tmp_path / "a.mat", "aal2_count_connectivity").columns == ("2", "4")
    assert matlab_variables(tmp_path / "a.mat")["aal2_count_connectivity"] == (2, 2)


def test_names_that_do_not_fit_the_array_are_no_names(tmp_path):
    savemat(tmp_path / "a.mat", {"Z": MATRIX, "names": np.array(["A", "B"], dtype=object)})
    assert read_matlab(tmp_path / "a.mat", "Z").columns is None


def test_a_damaged_file_and_an_absent_variable(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 and then nothing")
    with pytest.raises(DataError, match=r"Expected an array in .*a\.mat, found a file that cannot be read .*Copy or make it again"):
        matlab_variables(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", {"one": MATRIX, "two": MATRIX})
    with pytest.raises(DataError, match=r"Expected the variable 'three' in .*b\.mat, found one, two\. Name the one to read with variable="):
        read_matlab(tmp_path / "b.mat", "three")


@pytest.mark.parametrize("n_pages", [1, 3])
def test_matrices_one_behind_the_other(tmp_path, n_pages):
    stack = np.stack([np.hstack([MATRIX + page, np.ones((3, 2))]) for page in range(n_pages)], axis=2)
    savemat(tmp_path / "a.mat", {"Z": stack, "names": np.array(list("ABC"), dtype=object)})
    pages = read_matlab_pages(tmp_path / "a.mat", "Z")
    assert len(pages) == n_pages
    for number, page in enumerate(pages):
        np.testing.assert_array_equal(page.values, MATRIX + number)
        assert page.columns == page.rows == ("A", "B", "C")


def test_one_array_of_pages_needs_no_name(tmp_path):
    savemat(tmp_path / "a.mat", {"r": np.zeros((2, 2, 5)), "SE": np.ones((5, 2))})
    assert len(read_matlab_pages(tmp_path / "a.mat")) == 5
    with pytest.raises(DataError, match=r"Expected the variable 'Z' in .*a\.mat, found r, SE"):
        read_matlab_pages(tmp_path / "a.mat", "Z")
    savemat(tmp_path / "b.mat", {"Z": np.zeros((2, 2, 2, 2))})
    with pytest.raises(DataError, match=r"one behind the other in .*b\.mat, found shape \(2, 2, 2, 2\). Save them as \[regions, regions, subjects\]"):
        read_matlab_pages(tmp_path / "b.mat", "Z")
