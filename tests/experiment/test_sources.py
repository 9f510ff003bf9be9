"""Sources: each layout is recognised by what it holds, and opened or looked at."""

import numpy as np
import pytest

from graphssl.datasets import recognise
from graphssl.errors import AtlasError, ConfigError, DataError, SchemaError
from graphssl.experiment.sources import Source, look, open_source, told_as_options


def kind_of(path):
    return recognise(path).name


# Recognising: all layouts are in tests/datasets/test_layouts.py


def test_a_saved_cohort(tmp_path, cohort):
    assert kind_of(cohort.save(tmp_path / "saved")) == "cohort"
    assert open_source(Source(str(tmp_path / "saved"))).hash == cohort.hash


def test_folders_of_series_and_of_matrices(tmp_path, cohort, write_folder):
    assert kind_of(write_folder(tmp_path / "scans", cohort)) == "timeseries"
    assert kind_of(str(write_folder(tmp_path / "matrices", cohort, matrices=True))) == "matrices"


def test_packed_arrays(tmp_path):
    (tmp_path / "subjects.csv").write_text("id\n")
    (tmp_path / "timeseries_cc200.npz").write_bytes(b"PK")
    assert kind_of(tmp_path) == "abide_arrays"


@pytest.mark.parametrize("place", ["", "cpac/filt_global/rois_cc200", "Outputs/cpac/filt_global/rois_cc200"])
def test_abide_text_files_at_any_depth(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Olin_0050102_rois_cc200.1D").write_text("#2001\t#2002\n1\t2\n")
    assert kind_of(tmp_path) == "abide"


def test_a_table_of_regions_or_an_empty_file_does_not_decide(tmp_path, cohort, write_folder):
    """Either stands before the scans in the folder; what is wrong with it is said when the folder is opened."""
    folder = write_folder(tmp_path / "scans", cohort)
    (folder / "atlas.csv").write_text("label,name\n10,left\n20,right\n")
    (folder / "a.npy").write_bytes(b"")
    assert kind_of(folder) == "timeseries"


# Opening


def test_a_folder_of_series_is_the_cohort_it_was_written_from(tmp_path, cohort, atlas_file, write_folder):
    source = Source(str(write_folder(tmp_path / "scans", cohort)), atlas_file, target="diagnosis", site="site", covariates=("age", "sex"))
    found = open_source(source)
    assert found.ids == cohort.ids
    assert found.schema.named("covariate") == ["age", "sex"]
    assert found.sites.tolist() == cohort.sites.tolist()
    for subject, series in cohort.regions["toy"].values.items():
        np.testing.assert_array_equal(found.regions["toy"].values[subject], series)


@pytest.mark.parametrize("covariates", ["age", ["age"], ("age",)])
def test_one_word_or_several(tmp_path, cohort, atlas_file, covariates, write_folder):
    source = Source(str(write_folder(tmp_path / "scans", cohort)), [atlas_file], target="diagnosis", covariates=covariates)
    assert open_source(source).schema.named("covariate") == ["age"]


def test_matrices_are_opened_as_what_they_are_said_to_be(tmp_path, cohort, atlas_file, write_folder):
    folder = str(write_folder(tmp_path / "matrices", cohort, matrices=True))
    assert open_source(Source(folder, atlas_file)).regions["toy"].provenance.kind == "correlation"
    found = open_source(Source(folder, atlas_file, kind="covariance")).regions["toy"].provenance
    assert (found.kind, found.fisher_z) == ("covariance", False)
    assert open_source(Source(folder, atlas_file, fisher_z=True)).regions["toy"].provenance.fisher_z


def test_other_table_and_id_column(tmp_path, cohort, atlas_file, write_folder):
    folder = write_folder(tmp_path / "scans", cohort)
    (folder / "participants.tsv").unlink()
    cohort.subjects.rename_axis("code").to_csv(tmp_path / "people.csv")
    found = open_source(Source(str(folder), atlas_file, participants=str(tmp_path / "people.csv"), id_column="code", target="diagnosis"))
    assert found.ids == cohort.ids


def test_regions_without_signal_may_be_masked(tmp_path, cohort, atlas_file, write_folder):
    folder = write_folder(tmp_path / "scans", cohort)
    series = cohort.regions["toy"].values["sub-003"].copy()
    series[:, 5] = 1.0
    np.save(folder / "sub-003.npy", series)
    with pytest.raises(DataError, match="constant or NaN regions in 1 of 8 subjects"):
        open_source(Source(str(folder), atlas_file))
    found = open_source(Source(str(folder), atlas_file, missing_regions="mask"))
    assert found.regions["toy"].observed["sub-003"].sum() == 11


@pytest.mark.parametrize("matrices", [False, True])
def test_an_atlas_is_asked_for_with_the_number_of_regions(tmp_path, cohort, matrices, write_folder):
    folder = write_folder(tmp_path / "scans", cohort, matrices)
    what = "matrices" if matrices else "timeseries"
    with pytest.raises(ConfigError, match=rf"atlas of the regions for {what} data, found none\. The files have 12 regions, .*--atlas"):
        open_source(Source(str(folder)))
    found = look(Source(str(folder)))
    assert (len(found.cohort), found.complete) == (8, False)
    assert found.advice[0].startswith("The files have 12 regions, with the labels 1, 2, 3, 4 … 12, and say not where these are.")


def test_one_atlas_for_a_folder(tmp_path, cohort, atlas_file, write_folder):
    with pytest.raises(ConfigError, match="one atlas for a folder of time series, found 2"):
        open_source(Source(str(write_folder(tmp_path / "scans", cohort)), [atlas_file, "simulated12"]))


def test_another_atlas(tmp_path, cohort, write_folder):
    with pytest.raises(AtlasError, match="20 regions"):
        open_source(Source(str(write_folder(tmp_path / "scans", cohort)), "simulated20"))


def test_abide_asks_for_atlases_too(tmp_path):
    (tmp_path / "Olin_0050102_rois_cc200.1D").write_text("#2001\t#2002\n1\t2\n3\t1\n")
    with pytest.raises(ConfigError, match=r"atlas of the regions for abide data, found none\. Files of 'cc200' have 2 regions, .*2001, 2002"):
        open_source(Source(str(tmp_path)))


def test_an_option_that_does_not_apply(tmp_path, cohort, atlas_file, write_folder):
    with pytest.raises(ConfigError, match="Expected options that apply to a folder of time series, found strategy"):
        open_source(Source(str(write_folder(tmp_path / "scans", cohort)), atlas_file, strategy="filt_global"))


@pytest.mark.shared_data
def test_the_arrays_of_abide_are_recognised_and_opened(shared_data):
    source = Source(str(shared_data / "brain" / "abide1"), f"cc200={shared_data / 'brain' / 'atlases' / 'coords' / 'pcp_cc200.csv'}")
    assert kind_of(source.path) == "abide_arrays"


def test_errors_speak_of_options_on_the_command_line(tmp_path, cohort, atlas_file, write_folder):
    folder = write_folder(tmp_path / "scans", cohort)
    (folder / "participants.tsv").unlink()
    with pytest.raises(SchemaError, match=r"found no participants\.tsv or \.csv in .*Pass --participants …"), told_as_options():
        open_source(Source(str(folder), atlas_file, target="diagnosis"))


def test_scans_that_were_not_fetched_are_told(tmp_path, cohort, write_folder):
    folder = write_folder(tmp_path / "scans", cohort)
    (folder / "sub-999.csv").symlink_to(".git/annex/objects/sub-999.csv")
    [line] = [line for line in look(Source(str(folder))).advice if "lead to no file" in line]
    assert line == "1 links lead to no file, such as sub-999.csv: fetch their content, with datalad get or git annex get"
