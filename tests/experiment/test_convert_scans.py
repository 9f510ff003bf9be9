import numpy as np
import pytest

from graphssl.atlases import simulated_atlas
from graphssl.data import Provenance, RegionData
from graphssl.datasets import load_matrices, read_array
from graphssl.errors import ConfigError, DataError
from graphssl.experiment.convert_scans import is_saved_cohort, open_scans, write_scan
from graphssl.experiment.sources import Source

ATLAS = simulated_atlas(8)


@pytest.fixture
def series():
    return np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)


def test_one_file_is_one_subject_called_by_its_name(tmp_path, series):
    np.save(tmp_path / "sub-01_bold.npy", series)
    cohort = open_scans(Source(str(tmp_path / "sub-01_bold.npy")), ATLAS)
    assert cohort.ids == ["sub-01_bold"]
    np.testing.assert_array_equal(cohort.regions["simulated8"].values["sub-01_bold"], series)
    assert not is_saved_cohort(tmp_path)
    cohort.save(tmp_path / "saved")
    assert is_saved_cohort(tmp_path / "saved")
    assert open_scans(Source(str(tmp_path / "saved")), ATLAS).hash == cohort.hash


def test_one_file_of_abide_needs_no_table(tmp_path, series):
    header = "\t".join(f"#{label}" for label in ATLAS.labels)[1:]
    np.savetxt(tmp_path / "NYU_0051036_rois_cc200.1D", series, delimiter="\t", header=header, comments="#")
    cohort = open_scans(Source(str(tmp_path / "NYU_0051036_rois_cc200.1D")), ATLAS)
    assert cohort.regions["simulated8"].provenance.kind == "timeseries"


def test_the_numbers_of_a_matrix_tell_its_kind_unless_it_is_said(tmp_path, series):
    matrix = np.corrcoef(series.T)
    np.save(tmp_path / "r.npy", matrix)
    path = str(tmp_path / "r.npy")
    assert open_scans(Source(path), ATLAS).regions["simulated8"].provenance.kind == "correlation"
    assert open_scans(Source(path, kind="covariance"), ATLAS).regions["simulated8"].provenance.kind == "covariance"
    np.fill_diagonal(matrix, np.inf)
    np.save(tmp_path / "z.npy", matrix)
    assert open_scans(Source(str(tmp_path / "z.npy")), ATLAS).regions["simulated8"].provenance.fisher_z


def test_regions_without_signal_are_masked_unless_that_is_refused(tmp_path, series):
    series[:, 3] = 1.0
    (tmp_path / "scans").mkdir()
    for path in (tmp_path / "a.npy", tmp_path / "scans" / "a.npy"):
        np.save(path, series)
    for path in (str(tmp_path / "a.npy"), str(tmp_path / "scans")):
        assert open_scans(Source(path), ATLAS).regions["simulated8"].observed["a"].sum() == 7
        with pytest.raises(DataError, match="Expected a signal in every region"):
            open_scans(Source(path, missing_regions="error"), ATLAS)


def test_what_cannot_be_opened_is_said(tmp_path, series):
    np.save(tmp_path / "a.npy", series)
    with pytest.raises(ConfigError, match=r"options that apply to one file, found participants, site"):
        open_scans(Source(str(tmp_path / "a.npy"), participants="p.tsv", site="site"), ATLAS)
    np.save(tmp_path / "flat.npy", np.ones_like(series))
    with pytest.raises(DataError, match=r"Expected a signal in some region of simulated8 in .*flat\.npy, found none"):
        open_scans(Source(str(tmp_path / "flat.npy")), ATLAS)


def test_fisher_z_is_written_so_that_it_is_known(tmp_path, series):
    z = np.arctanh(np.where(np.eye(8), 0.999999, np.corrcoef(series.T)))
    z[2], z[:, 2] = np.nan, np.nan
    data = RegionData(ATLAS, {"a": z}, Provenance("correlation", fisher_z=True))
    path = write_scan(tmp_path / "a.tsv", data)
    found = read_array(path)[0]
    assert np.isinf(found.diagonal()).tolist() == [True, True, False, *[True] * 5]
    assert np.isfinite(data.values["a"].diagonal()).sum() == 7, "what was given is left as it was"
    again = load_matrices(path, atlas=ATLAS, fisher_z=True, missing_regions="mask").regions["simulated8"]
    assert again.observed["a"].tolist() == [True, True, False, *[True] * 5]
