"""Reading one array from one file, against what NumPy, pandas and SciPy wrote."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.io import savemat

from graphssl.datasets import read_array
from graphssl.datasets.arrays import SUFFIXES, is_whole_number, read_labelled
from graphssl.datasets.labelled import LabelledArray
from graphssl.errors import DataError

VALUES = np.random.default_rng(0).normal(size=(12, 5)).round(6)
LABELS = ("2001", "2002", "2101", "9081", "9170")


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def rows(values=VALUES, mark="\t"):
    return "".join(mark.join(str(value) for value in row) + "\n" for row in values)


# The formats of the field


def test_1d_with_label_ids_behind_hashes(tmp_path):
    path = write(tmp_path / "Olin_0050102_rois_aal.1D", "\t".join("#" + label for label in LABELS) + "\n" + rows())
    values, header = read_array(path)
    assert header == LABELS
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, VALUES, rtol=1e-6)


@pytest.mark.parametrize("first", ["# 2001 2002 2101 9081 9170", "#2001 #2002 #2101 #9081 #9170", "# 2001\t# 2002\t# 2101\t# 9081\t# 9170"])
def test_1d_header_in_its_spellings(tmp_path, first):
    _, header = read_array(write(tmp_path / "a.1D", f"# made by somebody\n{first}\n" + rows(mark="  ")))
    assert header == LABELS


def test_1d_with_a_comment_that_names_nothing(tmp_path):
    values, header = read_array(write(tmp_path / "a.1D", "# 3dROIstats -mask atlas.nii\n" + rows(mark=" ")))
    assert header is None
    assert values.shape == (12, 5)


@pytest.mark.parametrize(
    ("ending", "mark"), [(".tsv", "\t"), (".csv", ","), (".csv", ";"), (".csv", " "), (".tsv", ","), (".txt", " "), (".1D", "\t")]
)
def test_text_without_header(tmp_path, ending, mark):
    values, header = read_array(write(tmp_path / f"a{ending}", rows(mark=mark)))
    assert header is None
    np.testing.assert_allclose(values, VALUES, rtol=1e-6)


@pytest.mark.parametrize("names", [("Vis 1", "Vis, 2", "SomMot_1", "Default-1", "Cont_1"), LABELS])
@pytest.mark.parametrize("mark", ["\t", ","])
def test_text_with_header(tmp_path, names, mark):
    pd.DataFrame(VALUES, columns=list(names)).to_csv(tmp_path / "a.csv", sep=mark, index=False)
    values, header = read_array(tmp_path / "a.csv")
    assert header == names
    np.testing.assert_allclose(values, VALUES, rtol=1e-6)


def test_rising_label_ids_over_whole_numbers_are_a_header(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).integers(900, 1100, (6, 9)), columns=list(range(11, 20)))
    table.to_csv(tmp_path / "a.csv", index=False)
    values, header = read_array(tmp_path / "a.csv")
    assert header == tuple(map(str, range(11, 20)))
    np.testing.assert_array_equal(values, table)


def test_a_binary_matrix_has_no_header(tmp_path):
    matrix = np.array([[0, 1], [1, 0]])
    values, header = read_array(write(tmp_path / "a.csv", rows(matrix, ",")))
    assert header is None
    np.testing.assert_array_equal(values, matrix)
    values, header = read_array(write(tmp_path / "b.csv", "1,0,-1\n0.5,1,0\n-1,0,1\n"))
    assert header is None
    assert values.shape == (3, 3)


def test_relmat_of_xcp_d_has_a_column_of_names(tmp_path):
    names = ["LH_Vis_1", "LH_Vis_2", "RH_Vis_1"]
    matrix = pd.DataFrame(np.corrcoef(VALUES[:, :3].T), columns=names, index=pd.Index(names, name="Node"))
    matrix.loc["LH_Vis_2"] = np.nan
    matrix["LH_Vis_2"] = np.nan
    matrix.to_csv(tmp_path / "a.tsv", sep="\t", na_rep="n/a")
    found = read_labelled(tmp_path / "a.tsv")
    assert found.columns == found.rows == tuple(names)
    np.testing.assert_allclose(found.values, matrix.to_numpy(), rtol=1e-6)


@pytest.mark.parametrize("names", [["a", "b", "c", "d", "e"], list(LABELS), [0, 1, 2, 3, 4]])
def test_an_index_written_by_pandas_is_taken_off(tmp_path, names):
    pd.DataFrame(VALUES, columns=names).to_csv(tmp_path / "a.csv")
    found = read_labelled(tmp_path / "a.csv")
    assert found.columns == tuple(map(str, names))
    assert found.rows == tuple(map(str, range(12)))
    np.testing.assert_allclose(found.values, VALUES, rtol=1e-6)


def test_row_names_with_a_header_one_shorter_as_r_writes(tmp_path):
    text = '"a" "b"\n"x" 1.5 2.5\n"y" 3.5 4.5\n'
    found = read_labelled(write(tmp_path / "a.txt", text))
    assert (found.columns, found.rows) == (("a", "b"), ("x", "y"))
    np.testing.assert_array_equal(found.values, [[1.5, 2.5], [3.5, 4.5]])


def test_row_names_that_repeat_numeric_column_names(tmp_path):
    matrix = pd.DataFrame(np.eye(3) * 0.5 + 0.5, columns=["7", "3", "9"], index=pd.Index(["7", "3", "9"], name="Node"))
    matrix.to_csv(tmp_path / "a.csv")
    found = read_labelled(tmp_path / "a.csv")
    assert found.columns == found.rows == ("7", "3", "9")
    assert found.values.shape == (3, 3)


def test_row_names_without_header(tmp_path):
    found = read_labelled(write(tmp_path / "a.tsv", "x\t0.1\t0.2\ny\t0.3\t0.4\n"))
    assert found.columns is None
    assert found.rows == ("x", "y")


def test_lines_that_end_with_a_delimiter(tmp_path):
    for name, head in (("a.csv", "r1,r2,\n"), ("b.1D", "#r1,#r2\n")):
        values, header = read_array(write(tmp_path / name, head + "0.1,0.2,\n0.3,0.4,\n"))
        assert header == ("r1", "r2")
        np.testing.assert_allclose(values, [[0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_byte_order_mark_blank_lines_and_windows_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfr1,r2\r\n\r\n0.1,0.2\r\n0.3,0.4\r\n\r\n")
    values, header = read_array(path)
    assert header == ("r1", "r2")
    np.testing.assert_allclose(values, [[0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_missing_cells_are_nan(tmp_path):
    rows_with_gaps = "0.5,n/a,,NaN\n0.1,0.2,inf,0.4\n"
    for name, text in (("a.csv", "a,b,c,d\n" + rows_with_gaps), ("b.csv", rows_with_gaps)):
        values, header = read_array(write(tmp_path / name, text))
        assert header == (("a", "b", "c", "d") if name == "a.csv" else None)
        np.testing.assert_array_equal(np.isnan(values), [[False, True, True, True], [False] * 4])
        assert np.isinf(values[1, 2])


def test_one_region_and_one_row(tmp_path):
    values, header = read_array(write(tmp_path / "a.csv", "r1\n0.5\n0.25\n"))
    assert header == ("r1",)
    np.testing.assert_array_equal(values, [[0.5], [0.25]])
    assert read_array(write(tmp_path / "b.csv", "0.5,0.25\n"))[0].shape == (1, 2)


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.savez(tmp_path / "b.npz", series=VALUES)
    np.savez_compressed(tmp_path / "c.npz", series=VALUES, motion=VALUES[:, :1])
    for path, variable in (("a.npy", None), ("b.npz", None), ("c.npz", "series")):
        values, header = read_array(tmp_path / path, variable=variable)
        assert header is None
        np.testing.assert_array_equal(values, VALUES.astype(np.float32))


def test_matlab_files(tmp_path):
    savemat(tmp_path / "a.mat", {"ROISignals": VALUES, "tr": 2.0, "name": "sub-01", "onsets": np.arange(12.0)})
    savemat(tmp_path / "b.mat", {"Z": VALUES, "names": VALUES})
    savemat(tmp_path / "c.mat", {"connectivity": sparse.csr_array(VALUES)})
    for path, variable in (("a.mat", None), ("b.mat", "Z"), ("c.mat", None)):
        values, header = read_array(tmp_path / path, variable=variable)
        assert header is None
        np.testing.assert_array_equal(values, VALUES.astype(np.float32))


@settings(max_examples=20, deadline=None)
@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 6)), elements=st.floats(-1e3, 1e3, width=32)),
    mark=st.sampled_from("\t,;"),
    with_header=st.booleans(),
    with_index=st.booleans(),
)
def test_what_pandas_writes_is_read_back(tmp_path_factory, values, mark, with_header, with_index):
    table = pd.DataFrame(values, columns=[f"region {k}" for k in range(values.shape[1])], index=[f"row {k}" for k in range(len(values))])
    path = tmp_path_factory.mktemp("text") / "a.csv"
    table.to_csv(path, sep=mark, header=with_header, index=with_index, index_label="Node" if with_header else None)
    found = read_labelled(path)
    np.testing.assert_array_equal(found.values, values)
    assert found.columns == (tuple(table.columns) if with_header else None)
    assert found.rows == (tuple(table.index) if with_index else None)


def test_transposing_swaps_names():
    found = LabelledArray(np.zeros((2, 3), np.float32), ("a", "b", "c"), ("x", "y")).transposed
    assert found.values.shape == (3, 2)
    assert (found.columns, found.rows) == (("x", "y"), ("a", "b", "c"))


def test_whole_numbers_are_label_ids():
    assert [is_whole_number(text) for text in ("2001", "-3", "2.0", "r1", "")] == [True, True, False, False, False]


# What cannot be read


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"Expected a file at .*a\.tsv, found none"):
        read_array(tmp_path / "a.tsv")


@pytest.mark.parametrize("ending", SUFFIXES)
def test_empty_file(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.touch()
    with pytest.raises(DataError, match=f"Expected an array in .*a{ending}, found an empty file"):
        read_array(path)


def test_header_without_rows(tmp_path):
    with pytest.raises(DataError, match=r"Expected rows of numbers in .*a\.1D, found none"):
        read_array(write(tmp_path / "a.1D", "#1\t#2\n"))
    with pytest.raises(DataError, match=r"found the text 'r2' in line 1, column 2"):
        read_array(write(tmp_path / "a.csv", "r1,r2,r3\n"))


def test_unknown_format(tmp_path):
    with pytest.raises(DataError, match=r"Expected a file with one of the endings \.1D, .*; found .*a\.xlsx"):
        read_array(write(tmp_path / "a.xlsx", "x"))


def test_text_cell_is_named_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"Expected numbers in .*a\.tsv, found the text 'oops' in line 3, column 2"):
        read_array(write(tmp_path / "a.tsv", "r1\tr2\n0.1\t0.2\n0.3\toops\n"))


def test_a_text_cell_in_the_first_line_is_no_header(tmp_path):
    with pytest.raises(DataError, match=r"found the text 'oops' in line 1, column 3"):
        read_array(write(tmp_path / "a.tsv", "0.1\t0.2\toops\t0.4\n" + rows(VALUES[:, :4])))


def test_text_cell_beside_row_names_keeps_its_column(tmp_path):
    with pytest.raises(DataError, match=r"found the text 'x1' in line 2, column 3"):
        read_array(write(tmp_path / "a.csv", "Node,r1,r2\nr1,1.0,x1\nr2,0.5,1.0\n"))


def test_booleans_are_text(tmp_path):
    with pytest.raises(DataError, match=r"found the text 'True' in line 2"):
        read_array(write(tmp_path / "b.csv", "r1,r2\nTrue,0.5\nFalse,0.5\nTrue,0.5\n"))


def test_file_that_is_cut_off(tmp_path):
    with pytest.raises(DataError, match=r"found 5 cells in the first and 2 in row \d+ of \d+. The file is cut off"):
        read_array(write(tmp_path / "a.tsv", rows() + "0.5\t0.1"))


@pytest.mark.parametrize("mark", ["\t", " ", ",", ";"])
def test_a_row_that_is_cut_off_in_the_middle(tmp_path, mark):
    """It is no scan whose time points have to be censored."""
    cells = [["0.5", "0.1", "0.25"], ["0.5", "0.1"], ["0.3", "0.2", "0.1"]]
    with pytest.raises(DataError, match=r"found 3 cells in the first and 2 in row 2 of 3\. The file is cut off"):
        read_array(write(tmp_path / "a.csv", "\n".join(map(mark.join, cells))))


def test_rows_of_other_lengths(tmp_path):
    with pytest.raises(DataError, match="Expected rows of one length in .*, found others"):
        read_array(write(tmp_path / "a.tsv", "0.1\t0.2\n0.1\t0.2\t0.3\n0.1\t0.2\n"))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes("Zürich;1\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"Expected text in .*a\.csv, found bytes of another encoding \(.*utf-8.*Save it again as UTF-8"):
        read_array(tmp_path / "a.csv")


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"corr": VALUES}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=np.array([{"corr": VALUES}], dtype=object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match=f"Expected plain numbers in .*{name}, found pickled objects, which are never read"):
            read_array(tmp_path / name)
    pd.to_pickle(VALUES, tmp_path / "c.pkl")
    for name in ("c.npy", "c.npz"):
        (tmp_path / name).write_bytes((tmp_path / "c.pkl").read_bytes())
        with pytest.raises(DataError, match=r"Expected a file written by numpy\.save.*found another format\. Pickled objects are never read"):
            read_array(tmp_path / name)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".mat"])
def test_truncated_file(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".npy":
        np.save(path, VALUES)
    elif ending == ".npz":
        np.savez(path, x=VALUES)
    else:
        savemat(path, {"x": VALUES})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"Expected an array in .*a\{ending}, found a file that cannot be read"):
        read_array(path)


@settings(max_examples=40, deadline=None)
@given(
    ending=st.sampled_from([".npy", ".npz", ".mat", ".csv"]), places=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), keep=st.floats(0.1, 1)
)
def test_damaged_bytes_give_an_error_of_ours_or_numbers(tmp_path_factory, ending, places, keep):
    path = tmp_path_factory.mktemp("damage") / f"a{ending}"
    {
        ".npy": lambda: np.save(path, VALUES),
        ".npz": lambda: np.savez_compressed(path, x=VALUES),
        ".mat": lambda: savemat(path, {"x": VALUES}, do_compression=True),
        ".csv": lambda: np.savetxt(path, VALUES, delimiter=","),
    }[ending]()
    damaged = bytearray(path.read_bytes()[: int(keep * path.stat().st_size)])
    for place in places:
        damaged[place % len(damaged)] ^= 255
    path.write_bytes(damaged)
    try:
        values, _ = read_array(path)
    except DataError:
        return
    assert values.ndim == 2


def test_another_number_of_axes(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    np.save(tmp_path / "b.npy", np.zeros((0, 3)))
    for name, shape in (("a", r"\(2, 3, 4\)"), ("b", r"\(0, 3\)")):
        with pytest.raises(DataError, match=f"Expected a two-dimensional array in .*, found shape {shape}"):
            read_array(tmp_path / f"{name}.npy")


def test_values_that_are_not_real(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2), dtype=complex))
    with pytest.raises(DataError, match="Expected real numbers in .*, found values of type complex128"):
        read_array(tmp_path / "a.npy")


def test_several_arrays_need_a_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES, y=VALUES)
    savemat(tmp_path / "a.mat", {"x": VALUES, "y": VALUES})
    for name in ("a.npz", "a.mat"):
        with pytest.raises(DataError, match=r"Expected one two-dimensional array in .*, found x, y\. Name the one to read with variable="):
            read_array(tmp_path / name)
        with pytest.raises(DataError, match="Expected the variable 'z' in .*, found x, y"):
            read_array(tmp_path / name, variable="z")


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("named", [False, True])
def test_decimal_commas(tmp_path, mark, named):
    values = np.array([[1.0, -0.25, 3e-7], [-0.25, 1.0, 0.5], [0.125, 0.5, 1.0]])
    names = ("left, upper", "b", "c")
    rows = [mark.join(f"{value:.8e}".replace(".", ",") for value in row) for row in values]
    if named:
        rows = [mark + mark.join(names), *(name + mark + row for name, row in zip(names, rows, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    found, columns = read_array(tmp_path / "a.csv")
    np.testing.assert_allclose(found, values, rtol=1e-6)
    assert columns == (names if named else None)
