"""One screen says what a source holds, what was left out and what is left to do."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Column
from graphssl.experiment.source_report import report_source
from graphssl.experiment.sources import Source


def test_the_report_names_what_was_found_and_left_out(tmp_path, cohort, atlas_file, write_folder):
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
