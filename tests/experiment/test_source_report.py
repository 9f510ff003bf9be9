"""One screen says what a source holds, what was left out and what is left to do."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Column
from graphssl.experiment.source_report import report_source
from graphssl.experiment.sources import Source

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


def test_the_report_names_what_was_found_and_left_out(tmp_path, cohort, atlas_file):
    folder = write_folder(tmp_path / "scans", cohort, ids=cohort.ids[:6])
    np.save(folder / "stranger.npy", cohort.regions["toy"].values["sub-000"])
    source = Source(str(folder), atlas_file, target="diagnosis", site="site")
    text, record = report_source(source)
    assert text.startswith(
        f"Recognised as timeseries: a folder of time series\nPath          {folder}\n  6 subjects × 12 regions of toy: time series, "
    )
    assert "Left out, subject (3):" in text
    assert "  sub-006, sub-007 (2): in the table, without a file\n" in text
    assert "  stranger.npy: a file, without a row in the table\n" in text
    assert text.endswith("Nothing to mend.")
    assert (record["recognised"], record["n_subjects"], record["excluded_count"]) == ("timeseries", 6, {"subject": 3})
    assert {entry["id"] for entry in record["excluded"]} == {"sub-006", "sub-007", "stranger.npy"}
    assert record["advice"] == []
    json.dumps(record)


def test_a_long_list_is_cut(tmp_path, cohort):
    excluded = pd.DataFrame({"what": "subject", "id": [f"s{k}" for k in range(20)], "reason": "no file"}, dtype="str")
    folder = replace(cohort, excluded=excluded).save(tmp_path / "saved")
    text, record = report_source(Source(str(folder)))
    assert "  s0, s1, s2, s3 … s19 (20): no file\n" in text
    assert len(record["excluded"]) == 20
    excluded["reason"] = [f"reason {k}" for k in range(20)]
    text, _ = report_source(Source(str(replace(cohort, excluded=excluded).save(tmp_path / "saved"))))
    assert "  s7: reason 7\n  … and 12 more" in text


def test_a_named_list_is_told_with_its_hash(tmp_path, cohort):
    text, _ = report_source(Source(str(replace(cohort, name="abide1-871").save(tmp_path / "saved"))))
    assert "list     abide1-871: 8 of 871 subjects (hash " in text


def test_a_cohort_at_hand_is_not_opened_again(tmp_path, cohort):
    cohort.save(tmp_path / "saved")
    record = report_source(Source(str(tmp_path / "saved")), cohort.select(cohort.ids[:3]))[1]
    assert record["n_subjects"] == 3


def test_a_column_is_told_with_its_unit_and_those_without_a_value(tmp_path, cohort):
    labels = pd.Series(["control"] * 3 + [None] * 5, index=cohort.subjects.index, dtype="str")
    made = cohort.with_column(cohort.schema["diagnosis"], labels).with_column(
        Column("age", "continuous", "covariate", "years"), cohort.subjects["age"]
    )
    text, _ = report_source(Source(str(made.save(tmp_path / "saved"))))
    assert "  target   diagnosis: control (3); without one 5\n" in text
    assert "age (continuous, years, covariate)" in text


@pytest.mark.parametrize(("n_subjects", "told"), [(8, "0.5 (1), 1.5 (1), 2.5 (1), "), (10, "0.5 to 9.5")])
def test_many_numbers_to_predict_are_told_by_their_range(tmp_path, make_cohort, n_subjects, told):
    cohort = make_cohort(n_subjects=n_subjects)
    made = cohort.with_column(Column("score", "continuous", "target"), pd.Series(np.arange(n_subjects) + 0.5, index=cohort.subjects.index))
    assert f"  target   score: {told}" in report_source(Source(str(made.save(tmp_path / "saved"))))[0]


@pytest.mark.shared_data
def test_the_text_files_of_abide_are_looked_at_without_an_atlas(shared_data):
    text, record = report_source(Source(str(shared_data / "brain" / "abide1" / "pcp_layout")))
    assert (record["recognised"], record["n_subjects"], record["complete"]) == ("abide", 8, False)
    assert "8 subjects × 200 regions of cc200: time series, " in text
    assert "aal116: time series, 145 to 235 time points; dparsf filt_global\n    labels 2001, 2002, 2101, 2102 … 9170" in text


@pytest.mark.shared_data
def test_group_matrices_of_several_atlases_have_to_be_chosen(shared_data):
    folder = str(shared_data / "brain" / "hcp_group")
    _, record = report_source(Source(folder, kind="adjacency"))
    assert "found 68 × 68 in 2 files such as funcMatrix_ctx.csv; 100 × 100 in 2 files" in record["advice"][0]
    _, record = report_source(Source(folder, kind="adjacency", pattern="*Matrix_ctx_schaefer_100.csv"))
    assert (record["n_subjects"], record["complete"]) == (2, False)
