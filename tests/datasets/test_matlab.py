"""MATLAB files: names of regions that toolboxes write beside the numbers. Further cases are in test_arrays.py."""

import numpy as np
import pytest
from scipy.io import savemat

from graphssl.datasets.matlab import matlab_variables, read_matlab
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
    with pytest.raises(DataError, match="Expected a MATLAB file up to version 7.2 at .*, found one that cannot be read"):
        matlab_variables(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", {"one": MATRIX, "two": MATRIX})
    with pytest.raises(DataError, match=r"Expected the variable 'three' in .*b\.mat, found one, two\. Name the one to read with variable="):
        read_matlab(tmp_path / "b.mat", "three")
