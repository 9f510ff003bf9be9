"""Files of one atlas into region data: labels are checked, and all bad files are named at once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import Atlas, Provenance
from graphssl.datasets.regions import FileFormat, check_observed, read_regions, without_signal
from graphssl.errors import AtlasError, ConfigError, DataError

LABELS = (2001, 2002, 2101, 9081, 9170)
NAMES = ("Precentral_L", "Precentral_R", "Frontal_L", "Cerebellum", "Vermis")
ATLAS = Atlas("aal5", np.array(LABELS), NAMES, np.arange(15.0).reshape(5, 3), ("",) * 5)
SERIES = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
MATRIX = np.corrcoef(SERIES.T).astype(np.float32)
TIMESERIES = FileFormat(ATLAS, Provenance("timeseries"))
CORRELATION = FileFormat(ATLAS, Provenance("correlation"))


def save(path, values, columns=None, index=None):
    pd.DataFrame(values, columns=columns, index=index).to_csv(path, header=columns is not None, index=index is not None)
    return path


@pytest.mark.parametrize("columns", [LABELS, NAMES, range(5), None])
def test_columns_in_the_order_of_the_atlas(tmp_path, columns):
    path = save(tmp_path / "a.csv", SERIES, columns)
    np.testing.assert_allclose(TIMESERIES.read(path), SERIES, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)), by=st.sampled_from([LABELS, NAMES]))
def test_any_order_of_columns_becomes_that_of_the_atlas(tmp_path_factory, order, by):
    folder = tmp_path_factory.mktemp("order")
    columns = [by[k] for k in order]
    np.testing.assert_allclose(TIMESERIES.read(save(folder / "a.csv", SERIES[:, order], columns)), SERIES, rtol=1e-6)
    matrix = save(folder / "b.csv", MATRIX[np.ix_(order, order)], columns, index=columns)
    np.testing.assert_allclose(CORRELATION.read(matrix), MATRIX, rtol=1e-6)


def test_a_region_without_a_name_is_called_by_its_label(tmp_path):
    atlas = Atlas("cc3", np.array([1, 5, 9]), ("", "", ""), np.zeros((3, 3)), ("",) * 3)
    path = save(tmp_path / "a.csv", SERIES[:, :3], ["cc3-9", "cc3-1", "cc3-5"])
    np.testing.assert_allclose(FileFormat(atlas, Provenance("timeseries")).read(path), SERIES[:, [1, 2, 0]], rtol=1e-6)


def test_header_may_be_ignored(tmp_path):
    path = save(tmp_path / "a.csv", SERIES, ["other", "names", "for", "these", "regions"])
    np.testing.assert_allclose(FileFormat(ATLAS, Provenance("timeseries"), header="ignore").read(path), SERIES, rtol=1e-6)


def test_regions_as_rows(tmp_path):
    order = [4, 0, 2, 1, 3]
    path = save(tmp_path / "a.csv", SERIES.T[order], [f"t{k}" for k in range(20)], index=[NAMES[k] for k in order])
    layout = FileFormat(ATLAS, Provenance("timeseries"), transpose=True)
    np.testing.assert_allclose(layout.read(path), SERIES, rtol=1e-6)
    with pytest.raises(DataError, match=r"found shape \(20, 5\)|found shape \(5, 20\)\. Pass transpose=False"):
        layout.read(save(tmp_path / "b.csv", SERIES))


def test_regions_as_rows_are_noticed(tmp_path):
    with pytest.raises(
        DataError, match=r"Expected time points as rows and the 5 regions of atlas 'aal5' as columns, found shape \(5, 20\)\. Pass transpose=True"
    ):
        TIMESERIES.read(save(tmp_path / "a.csv", SERIES.T))


def test_labels_of_another_atlas(tmp_path):
    path = save(tmp_path / "a.csv", SERIES, (2001, 2002, 2101, 2102, 2111))
    with pytest.raises(
        AtlasError,
        match=r"Expected columns with the 5 labels of atlas 'aal5', found 5 columns; only in the file: 2102, 2111; only in the atlas: 9081, 9170\. "
        "Give the atlas the data were made with",
    ):
        TIMESERIES.read(path)


def test_a_file_with_some_regions_only(tmp_path):
    path = save(tmp_path / "a.csv", SERIES[:, :3], LABELS[:3])
    with pytest.raises(AtlasError, match=r"file: none; only in the atlas: 9081, 9170\. If the data have these regions only, pass atlas\.select"):
        TIMESERIES.read(path)
    chosen = FileFormat(ATLAS.select(LABELS[:3]), Provenance("timeseries"))
    np.testing.assert_allclose(chosen.read(path), SERIES[:, :3], rtol=1e-6)


def test_other_or_repeated_names(tmp_path):
    with pytest.raises(
        AtlasError, match=r"5 region names of atlas 'aal5'.*only in the file: x; only in the atlas: Vermis\. .*pass header=\"ignore\""
    ):
        TIMESERIES.read(save(tmp_path / "a.csv", SERIES, [*NAMES[:4], "x"]))
    with pytest.raises(AtlasError, match=r"only in the atlas: 9170; repeated: 2001\. If the data"):
        TIMESERIES.read(save(tmp_path / "b.csv", SERIES, [*LABELS[:4], 2001]))
    both = Atlas("ho4", np.arange(1, 5), ("Pole", "Insula", "Pole", "Insula"), np.zeros((4, 3)), ("",) * 4)
    layout = FileFormat(both, Provenance("timeseries"))
    assert layout.read(save(tmp_path / "c.csv", SERIES[:, :4], both.names)).shape == (20, 4)
    with pytest.raises(AtlasError, match=r"only in the file: none; only in the atlas: none; repeated: Insula, Pole"):
        layout.read(save(tmp_path / "d.csv", SERIES[:, :4], ("Insula", "Pole", "Insula", "Pole")))


def test_rows_of_a_matrix_named_otherwise(tmp_path):
    path = save(tmp_path / "a.csv", MATRIX, NAMES, index=NAMES[::-1])
    with pytest.raises(DataError, match="Expected the rows of the matrix in the order of its columns, found other names or another order"):
        CORRELATION.read(path)


def test_several_files(tmp_path):
    files = {f"s{k}": save(tmp_path / f"{k}.csv", SERIES + k, LABELS) for k in range(3)}
    data = read_regions(files, TIMESERIES)
    assert list(data.values) == ["s0", "s1", "s2"]
    np.testing.assert_allclose(data.values["s2"], SERIES + 2, rtol=1e-5)
    assert all(seen.all() for seen in data.observed.values())
    assert len(read_regions({}, TIMESERIES)) == 0


def test_all_bad_files_are_counted_and_the_first_named(tmp_path):
    files = {f"s{k}": save(tmp_path / f"{k}.csv", SERIES) for k in range(6)}
    (tmp_path / "1.csv").write_text("")
    (tmp_path / "2.csv").write_text("0.1,0.2,oops,0.4,0.5\n" * 12)
    save(tmp_path / "3.csv", SERIES[:, :4])
    save(tmp_path / "4.csv", SERIES[:5])
    with pytest.raises(
        DataError,
        match=r"Expected the 6 files in .* to fit, found 4 that do not\. 1\.csv: .*empty file.* \| 2\.csv: .*'oops' in line 1.* \| "
        r"3\.csv: Expected 5 regions of atlas 'aal5', found 4.* \| and 1 more$",
    ):
        read_regions(files, TIMESERIES)


def test_no_file_fits_the_atlas(tmp_path):
    files = {f"s{k}": save(tmp_path / f"{k}.csv", SERIES[:, :4]) for k in range(2)}
    with pytest.raises(AtlasError, match=r"Expected the 2 files in .* to fit, found 2 that do not\. 0\.csv, 1\.csv: Expected 5 regions"):
        read_regions(files, TIMESERIES)


def test_regions_without_signal(tmp_path):
    flat, absent = SERIES.copy(), SERIES.copy()
    flat[:, 1] = 3.5
    absent[:, 2:4] = np.nan
    arrays = {"whole": SERIES, "flat": flat, "absent": absent, "dead": np.zeros_like(SERIES)}
    files = {name: save(tmp_path / f"{name}.csv", values, LABELS) for name, values in arrays.items()}
    with pytest.raises(
        DataError,
        match=r"Expected a signal in every region of aal5, found constant or NaN regions in 3 of 4 subjects: 'flat' in labels 2002; "
        r"'absent' in labels 2101, 9081; .*"
        r'Pass missing_regions="mask"',
    ):
        read_regions(files, TIMESERIES)
    data = read_regions(files, TIMESERIES, "mask")
    assert {name: (~seen).nonzero()[0].tolist() for name, seen in data.observed.items()} == {"whole": [], "flat": [1], "absent": [2, 3]}
    assert without_signal(data, list(files)) == [("subject", "dead", "no region of aal5 has a signal")]


def test_scattered_nan_is_an_error_even_if_masking(tmp_path):
    holes = SERIES.copy()
    holes[3, 2] = np.nan
    with pytest.raises(DataError, match=r"a\.csv: Expected finite time series, found NaN .* in region labels \[2101\]"):
        read_regions({"s": save(tmp_path / "a.csv", holes)}, TIMESERIES, "mask")


def test_many_subjects_and_labels_without_signal_are_cut_short():
    atlas = Atlas("big", np.arange(1, 21), ("",) * 20, np.zeros((20, 3)), ("",) * 20)
    observed = {f"s{k}": np.zeros(20, dtype=bool) for k in range(5)}
    with pytest.raises(DataError, match=r"in 5 of 5 subjects: 's0' in labels 1, 2, 3, 4, 5, 6, 7, 8 and 12 more; .*; and 2 more\. Pass"):
        check_observed(observed, atlas)
    check_observed({"s": np.ones(20, dtype=bool)}, atlas)


# What files of one folder may differ in


def test_regions_that_a_file_lacks_are_not_observed(tmp_path):
    atlas = Atlas("twenty", np.arange(1, 21), tuple(f"r{k}" for k in range(1, 21)), np.zeros((20, 3)), ("",) * 20)
    series = np.random.default_rng(1).normal(size=(15, 20))
    kept = [k for k in range(20) if k not in (4, 11)]
    files = {"a": save(tmp_path / "a.csv", series, atlas.names), "b": save(tmp_path / "b.csv", series[:, kept], [atlas.names[k] for k in kept])}
    layout = FileFormat(atlas, Provenance("timeseries"))
    data = read_regions(files, layout, "mask")
    assert data.observed["a"].all()
    assert np.flatnonzero(~data.observed["b"]).tolist() == [4, 11]
    np.testing.assert_allclose(data.values["b"][:, kept], series[:, kept], rtol=1e-5)
    with pytest.raises(DataError, match="only in the atlas: r5, r12"):
        read_regions(files, layout)
    matrix = np.corrcoef(series.T)[np.ix_(kept, kept)]
    [observed] = read_regions(
        {"b": save(tmp_path / "c.csv", matrix, [kept_label + 1 for kept_label in kept])}, FileFormat(atlas, Provenance("correlation")), "mask"
    ).observed.values()
    assert np.flatnonzero(~observed).tolist() == [4, 11]
    few = save(tmp_path / "d.csv", series[:, :17], atlas.names[:17])
    with pytest.raises(AtlasError, match="only in the atlas: r18, r19, r20"):
        read_regions({"d": few}, layout, "mask")


@pytest.mark.parametrize("spelling", ["LH_Vis_{}", "LH-Vis-{}", "lh vis {}", "17Networks_LH_Vis_{}"])
def test_names_in_another_spelling(tmp_path, spelling):
    atlas = Atlas("schaefer", np.arange(1, 6), tuple(f"7Networks_LH_Vis_{k}" for k in range(5)), np.zeros((5, 3)), ("",) * 5)
    order = [2, 0, 1, 4, 3]
    path = save(tmp_path / "a.csv", SERIES[:, order], [spelling.format(k) for k in order])
    np.testing.assert_allclose(FileFormat(atlas, Provenance("timeseries")).read(path), SERIES, rtol=1e-6)


def test_one_triangle_of_counts_is_mirrored_and_other_kinds_are_not(tmp_path):
    counts = np.random.default_rng(0).poisson(9, (5, 5)).astype(float)
    full = np.triu(counts) + np.triu(counts, 1).T
    for name, half in (("upper", np.triu(counts)), ("lower", np.triu(counts).T), ("full", full)):
        layout = FileFormat(ATLAS, Provenance("streamline count"))
        np.testing.assert_array_equal(layout.read(save(tmp_path / f"{name}.csv", half)), full)
    path = save(tmp_path / "r.csv", np.triu(MATRIX))
    np.testing.assert_allclose(CORRELATION.read(path), np.triu(MATRIX), rtol=1e-6)
    with pytest.raises(DataError, match="Expected a symmetric matrix"):
        read_regions({"a": path}, CORRELATION)


def test_a_logarithm_is_taken_of_counts_only(tmp_path):
    counts = np.rint(np.abs(MATRIX) * 30)
    layout = FileFormat(ATLAS, Provenance("streamline count"), log1p=True)
    data = read_regions({"a": save(tmp_path / "a.csv", counts)}, layout)
    np.testing.assert_allclose(data.values["a"], np.log1p(counts), rtol=1e-6)
    assert data.provenance.kind == "log streamline count"
    with pytest.raises(ConfigError, match=r"Expected counts of streamlines to take log\(1 \+ count\) of, found the kind 'correlation'"):
        FileFormat(ATLAS, Provenance("correlation"), log1p=True)


@pytest.mark.parametrize(("value", "word"), [(1.0, "one"), (0.0, "zero"), (np.inf, "infinite"), (np.nan, "nan"), (0.5, "values")])
def test_the_provenance_tells_the_diagonal(tmp_path, value, word):
    matrix = MATRIX.copy()
    np.fill_diagonal(matrix, value)
    assert read_regions({"a": save(tmp_path / "a.csv", matrix)}, CORRELATION).provenance.diagonal == word


def test_the_provenance_tells_the_length(tmp_path):
    files = {"a": save(tmp_path / "a.csv", SERIES), "b": save(tmp_path / "b.csv", SERIES[:12])}
    assert read_regions(files, TIMESERIES).provenance.n_timepoints == (12, 20)


def test_r_and_z_in_one_folder(tmp_path):
    z = np.arctanh(MATRIX * (1 - np.eye(5, dtype=np.float32)))
    np.fill_diagonal(z, np.inf)
    files = {"a": save(tmp_path / "a.csv", MATRIX), "b": save(tmp_path / "b.csv", z)}
    cut = {"a": files["a"], "c": save(tmp_path / "c.csv", np.arctanh(MATRIX * 0.9999))}
    with pytest.raises(DataError, match=r"ones on the diagonal of a\.csv \(correlations\) and more on that of c\.csv \(Fisher z\)"):
        read_regions(cut, CORRELATION)
    with pytest.raises(DataError, match=r"ones on the diagonal of a\.csv \(correlations\) and infinity on that of b\.csv \(Fisher z\)"):
        read_regions(files, FileFormat(ATLAS, Provenance("correlation", fisher_z=True)))


def test_orders_of_labels_in_one_folder(tmp_path):
    order = [4, 2, 0, 1, 3]
    files = {"a": save(tmp_path / "a.csv", SERIES, NAMES), "b": save(tmp_path / "b.csv", SERIES[:, order], [LABELS[k] for k in order])}
    data = read_regions(files, TIMESERIES)
    np.testing.assert_allclose(data.values["b"], data.values["a"], rtol=1e-6)
    files["c"] = save(tmp_path / "c.csv", SERIES[:, order])
    with pytest.raises(DataError, match=r"named in every file or in none, found names in a\.csv and none in c\.csv: their order may differ"):
        read_regions(files, TIMESERIES)
