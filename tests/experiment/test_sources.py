"""Sources: each layout is recognised by what it holds, opened, and told of in one screen."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort, Column, Schema
from graphssl.datasets import recognise
from graphssl.errors import AtlasError, ConfigError, DataError
from graphssl.experiment.sources import Source, open_source, report_source

N_REGIONS, N_TIMEPOINTS = 12, 30


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=8, n_regions=N_REGIONS, n_timepoints=N_TIMEPOINTS)


@pytest.fixture
def atlas_file(tmp_path, cohort):
    atlas = cohort.atlas("toy")
    table = pd.DataFrame({"label": atlas.labels, "name": atlas.names, "network": atlas.networks})
    table[["x", "y", "z"]] = atlas.centroids
    table.to_csv(tmp_path / "toy.csv", index=False)
    return f"toy={tmp_path / 'toy.csv'}"


def write_folder(folder, cohort, matrices=False, ids=None):
    folder.mkdir()
    for subject in ids or cohort.ids:
        series = cohort.regions["toy"].values[subject]
        np.save(folder / f"{subject}.npy", np.corrcoef(series.T.astype(float)) if matrices else series)
    cohort.subjects.rename_axis("participant_id").to_csv(folder / "participants.tsv", sep="\t")
    return folder


def kind_of(path):
    return recognise(path).name


# Recognising: all layouts are in tests/datasets/test_layouts.py


def test_a_saved_cohort(tmp_path, cohort):
    assert kind_of(cohort.save(tmp_path / "saved")) == "cohort"
    assert open_source(Source(str(tmp_path / "saved"))).hash == cohort.hash


def test_folders_of_series_and_of_matrices(tmp_path, cohort):
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


def test_a_table_of_regions_or_an_empty_file_does_not_decide(tmp_path, cohort):
    """Either stands before the scans in the folder; what is wrong with it is said when the folder is opened."""
    folder = write_folder(tmp_path / "scans", cohort)
    (folder / "atlas.csv").write_text("label,name\n10,left\n20,right\n")
    (folder / "a.npy").write_bytes(b"")
    assert kind_of(folder) == "timeseries"


# Opening


def test_a_folder_of_series_is_the_cohort_it_was_written_from(tmp_path, cohort, atlas_file):
    source = Source(str(write_folder(tmp_path / "scans", cohort)), atlas_file, target="diagnosis", site="site", covariates=("age", "sex"))
    found = open_source(source)
    assert found.ids == cohort.ids
    assert found.schema.named("covariate") == ["age", "sex"]
    assert found.sites.tolist() == cohort.sites.tolist()
    for subject, series in cohort.regions["toy"].values.items():
        np.testing.assert_array_equal(found.regions["toy"].values[subject], series)


@pytest.mark.parametrize("covariates", ["age", ["age"], ("age",)])
def test_one_word_or_several(tmp_path, cohort, atlas_file, covariates):
    source = Source(str(write_folder(tmp_path / "scans", cohort)), [atlas_file], target="diagnosis", covariates=covariates)
    assert open_source(source).schema.named("covariate") == ["age"]


def test_matrices_are_opened_as_what_they_are_said_to_be(tmp_path, cohort, atlas_file):
    folder = str(write_folder(tmp_path / "matrices", cohort, matrices=True))
    assert open_source(Source(folder, atlas_file)).regions["toy"].provenance.kind == "correlation"
    found = open_source(Source(folder, atlas_file, kind="covariance")).regions["toy"].provenance
    assert (found.kind, found.fisher_z) == ("covariance", False)
    assert open_source(Source(folder, atlas_file, fisher_z=True)).regions["toy"].provenance.fisher_z


def test_other_table_and_id_column(tmp_path, cohort, atlas_file):
    folder = write_folder(tmp_path / "scans", cohort)
    (folder / "participants.tsv").unlink()
    cohort.subjects.rename_axis("code").to_csv(tmp_path / "people.csv")
    found = open_source(Source(str(folder), atlas_file, participants=str(tmp_path / "people.csv"), id_column="code", target="diagnosis"))
    assert found.ids == cohort.ids


def test_regions_without_signal_may_be_masked(tmp_path, cohort, atlas_file):
    folder = write_folder(tmp_path / "scans", cohort)
    series = cohort.regions["toy"].values["sub-003"].copy()
    series[:, 5] = 1.0
    np.save(folder / "sub-003.npy", series)
    with pytest.raises(DataError, match="constant or NaN regions in 1 of 8 subjects"):
        open_source(Source(str(folder), atlas_file))
    found = open_source(Source(str(folder), atlas_file, missing_regions="mask"))
    assert found.regions["toy"].observed["sub-003"].sum() == N_REGIONS - 1


@pytest.mark.parametrize("matrices", [False, True])
def test_an_atlas_is_asked_for_with_the_number_of_regions(tmp_path, cohort, matrices):
    folder = write_folder(tmp_path / "scans", cohort, matrices)
    what = "matrices" if matrices else "timeseries"
    with pytest.raises(ConfigError, match=rf"atlas of the regions for {what} data, found none\. The files have 12 regions, .*--atlas"):
        open_source(Source(str(folder)))
    text, record = report_source(Source(str(folder)))
    assert "8 subjects × 12 regions" in text
    assert "To do: The files have 12 regions, with the labels 1, 2, 3, 4 … 12, and say not where these are." in text
    assert (record["complete"], record["n_subjects"]) == (False, 8)


def test_one_atlas_for_a_folder(tmp_path, cohort, atlas_file):
    with pytest.raises(ConfigError, match="one atlas for a folder of time series, found 2"):
        open_source(Source(str(write_folder(tmp_path / "scans", cohort)), [atlas_file, "simulated12"]))


def test_another_atlas(tmp_path, cohort):
    with pytest.raises(AtlasError, match="20 regions"):
        open_source(Source(str(write_folder(tmp_path / "scans", cohort)), "simulated20"))


def test_abide_asks_for_atlases_too(tmp_path):
    (tmp_path / "Olin_0050102_rois_cc200.1D").write_text("#2001\t#2002\n1\t2\n3\t1\n")
    with pytest.raises(ConfigError, match=r"atlas of the regions for abide data, found none\. Files of 'cc200' have 2 regions, .*2001, 2002"):
        open_source(Source(str(tmp_path)))


def test_an_option_that_does_not_apply(tmp_path, cohort, atlas_file):
    with pytest.raises(ConfigError, match="Expected options that apply to a folder of time series, found strategy"):
        open_source(Source(str(write_folder(tmp_path / "scans", cohort)), atlas_file, strategy="filt_global"))


@pytest.mark.shared_data
def test_the_arrays_of_abide_are_recognised_and_opened(shared_data):
    source = Source(str(shared_data / "brain" / "abide1"), f"cc200={shared_data / 'brain' / 'atlases' / 'coords' / 'pcp_cc200.csv'}")
    assert kind_of(source.path) == "abide_arrays"


@pytest.mark.shared_data
def test_the_text_files_of_abide_are_looked_at_without_an_atlas(shared_data):
    text, record = report_source(Source(str(shared_data / "brain" / "abide1" / "pcp_layout")))
    assert (record["recognised"], record["n_subjects"], record["complete"]) == ("abide", 8, False)
    assert "8 subjects × 200 regions of cc200" in text
    assert "aal116    labels 2001, 2002, 2101, 2102 … 9170; dparsf filt_global; 145 to 235 time points" in text


@pytest.mark.shared_data
def test_group_matrices_of_several_atlases_have_to_be_chosen(shared_data):
    folder = str(shared_data / "brain" / "hcp_group")
    _, record = report_source(Source(folder, kind="adjacency"))
    assert "found 68 × 68 in 2 files such as funcMatrix_ctx.csv; 100 × 100 in 2 files" in record["advice"][0]
    _, record = report_source(Source(folder, kind="adjacency", pattern="*Matrix_ctx_schaefer_100.csv"))
    assert (record["n_subjects"], record["complete"]) == (2, False)


# Telling


def test_the_report_names_what_was_found_and_left_out(tmp_path, cohort, atlas_file):
    folder = write_folder(tmp_path / "scans", cohort, ids=cohort.ids[:6])
    np.save(folder / "stranger.npy", cohort.regions["toy"].values["sub-000"])
    source = Source(str(folder), atlas_file, target="diagnosis", site="site")
    text, record = report_source(source)
    assert f"Recognised as  timeseries: {folder}" in text
    assert "6 subjects" in text
    assert "Left out, subject (3):" in text
    assert "  in the table, without a file: sub-006, sub-007 (2)" in text
    assert "  a file, without a row in the table: stranger.npy" in text
    assert text.endswith("Nothing to mend.")
    assert (record["recognised"], record["n_subjects"], record["excluded_count"]) == ("timeseries", 6, {"subject": 3})
    assert {entry["id"] for entry in record["excluded"]} == {"sub-006", "sub-007", "stranger.npy"}
    assert record["advice"] == []
    json.dumps(record)


def test_a_long_list_is_cut(tmp_path, cohort):
    excluded = pd.DataFrame({"what": "subject", "id": [f"s{k}" for k in range(20)], "reason": "no file"}, dtype="str")
    folder = replace(cohort, excluded=excluded).save(tmp_path / "saved")
    text, record = report_source(Source(str(folder)))
    assert "  no file: s0, s1, s2, s3 … s19 (20)\n" in text
    assert len(record["excluded"]) == 20
    excluded["reason"] = [f"reason {k}" for k in range(20)]
    text, _ = report_source(Source(str(replace(cohort, excluded=excluded).save(tmp_path / "saved"))))
    assert "  reason 7: s7\n  … and 12 more" in text


def test_a_named_list_is_told_with_its_hash(tmp_path, cohort):
    text, _ = report_source(Source(str(replace(cohort, name="abide1-871").save(tmp_path / "saved"))))
    assert "list      abide1-871: 8 of 871 subjects (hash " in text


def test_a_download_that_is_far_from_complete_is_said_to_be(tmp_path, cohort, atlas_file):
    folder = write_folder(tmp_path / "scans", cohort, ids=cohort.ids[:2])
    assert "6 of 8 subjects of the table have no file: complete the download" in report_source(Source(str(folder), atlas_file))[0]


def test_a_cohort_at_hand_is_not_opened_again(tmp_path, cohort):
    cohort.save(tmp_path / "saved")
    record = report_source(Source(str(tmp_path / "saved")), cohort.select(cohort.ids[:3]))[1]
    assert record["n_subjects"] == 3


def advice_on(tmp_path, cohort):
    text, record = report_source(Source(str(cohort.save(tmp_path / "saved"))))
    assert all(f"To do: {line}" in text for line in record["advice"])
    return record["advice"]


def test_advice_on_roles(tmp_path, cohort):
    bare = Cohort("bare", cohort.subjects[["age"]], Schema([Column("age", "continuous")]), cohort.regions)
    advice = advice_on(tmp_path, bare)
    assert len(advice) == 2
    assert "--target" in advice[0]
    assert "--site" in advice[1]


def test_advice_on_a_site_with_one_subject(tmp_path, cohort):
    few = cohort.select([subject for subject, site in cohort.sites.items() if site == "site-0"] + ["sub-001"])
    assert advice_on(tmp_path, few) == ["sites with one subject cannot be left out: ['site-1']"]


@pytest.mark.parametrize(("value", "what"), [("control", "one class only"), (None, "no labels")])
def test_advice_on_a_target_that_nothing_can_be_learned_from(tmp_path, cohort, value, what):
    one = cohort.with_column(cohort.schema["diagnosis"], pd.Series([value] * 8, index=cohort.subjects.index, dtype="str"))
    assert advice_on(tmp_path, one) == [f"the target 'diagnosis' has {what}: nothing can be learned from it"]
