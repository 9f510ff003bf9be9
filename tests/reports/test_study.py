"""The report of a study, made of a table that was planted."""

import json

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import DataError, RunFolderError
from graphssl.reports import is_study_run, write_study_report
from graphssl.reports.canvas import canvas
from graphssl.reports.study import _alike, _in_order, read_study_run, study_differences

AXES = {"start": ["scratch", "contrast"], "shots": ["1", "5", "10"], "width": ["8", "16"]}
QUESTION = {"title": "Does it help <b>?", "axes": {"start": None, "shots": None}, "compare": {"start": "scratch"}, "along": "shots"}


@pytest.fixture
def run(tmp_path):
    rows, curves = [], []
    for start, shots, width, fold in np.array(np.meshgrid(AXES["start"], AXES["shots"], AXES["width"], range(3))).T.reshape(-1, 4):
        levels = {"part": "images", "start": start, "shots": shots, "width": width, "split": f"fold-{fold}", "seed": 0}
        value = 1 - 0.5 * float(shots) ** -0.4 + 0.02 * int(fold) + (0.1 + 0.01 * int(fold)) * (start == "contrast")
        counts = {"n_labelled": 2 * int(shots), "n_rarest": int(shots), "n_pretrained": 0, "n_train": 100, "n_test": 50, "seconds": 1.0}
        rows.append({**levels, "metric": "auroc", "value": value, **counts})
        curves += [{**levels, "step": step, "train_loss": 1.0, "validation_score": value * step / 30} for step in (10, 20, 30)]
    pd.DataFrame(rows).to_csv(tmp_path / "study.csv", index=False)
    pd.DataFrame(curves).to_csv(tmp_path / "curves.csv", index=False)
    pd.DataFrame({"part": ["images"], "start": ["contrast"], "why": ["too few subjects"]}).to_csv(tmp_path / "left_out.csv", index=False)
    question = {**QUESTION, "metrics": None, "law": "n_labelled", "curves": True}
    shown = {"name": "study", "parts": {"images": {"metrics": ["auroc"], "axes": AXES, "questions": [question]}}}
    (tmp_path / "study.json").write_text(json.dumps(shown))
    (tmp_path / "manifest.json").write_text(json.dumps({"command": "graphssl evaluate", "versions": {"graphssl": "0.1"}}))
    return tmp_path


def test_the_page_says_what_the_table_says(run):
    page = write_study_report(run).read_text(encoding="utf-8")
    assert "12 cells: of 3 paired differences in AUROC, 3 are above zero, 0 below, and 0 leave it open." in page
    assert "Does it help &lt;b&gt;?" in page
    assert "+0.110" in page
    assert page.count("<img") == 2  # the question and its curves
    assert "Exponent b" in page
    assert "Steps to 95%" in page
    assert "too few subjects" in page
    assert 'src="http' not in page


def test_questions_are_asked_at_the_first_level_of_what_they_do_not_name(run):
    study = read_study_run(run)
    rows = study.question_table("images", study.shown["parts"]["images"]["questions"][0])
    assert "width" not in rows
    assert len(rows) == 2 * 3 * 3
    found = study_differences(study)
    assert found["difference"].tolist() == pytest.approx([0.11] * 3)
    assert found["question"].eq(QUESTION["title"]).all()


def test_a_reference_that_was_left_out_is_said(run):
    table = pd.read_csv(run / "study.csv")
    table[table["start"] != "scratch"].to_csv(run / "study.csv", index=False)
    page = write_study_report(run).read_text(encoding="utf-8")
    assert "Nothing to compare with: start scratch was left out." in page
    assert "no comparison has an interval" in page


def test_other_folders_and_damaged_ones(run, tmp_path):
    assert is_study_run(run)
    assert not is_study_run(tmp_path / "none")
    with pytest.raises(RunFolderError, match="Expected a run folder at .*none, found none. Give the folder of a study"):
        read_study_run(tmp_path / "none")
    for text in ("{", '{"parts": {"images": []}}', '{"axes": {}}'):
        (run / "study.json").write_text(text)
        with pytest.raises(DataError, match=r"Expected .*study\.json whole, found a damaged file"):
            read_study_run(run)


def test_numbers_are_drawn_from_low_to_high_and_words_after_them():
    assert _in_order(["full", "100", "5", "0.5", "none"]) == ["0.5", "5", "100", "full", "none"]


def test_the_answer_in_words_says_what_the_intervals_say(run):
    page = write_study_report(run).read_text(encoding="utf-8")
    assert "12 cells on 3 splits, each with 1 seed; 100 subjects to train on and 50 to test on in each split. With one seed, what other" in page
    assert "AUROC against scratch; 3 splits, 1 seed:" in page
    half = 4.302653 * 0.01 * (1 / 3 + 50 / 100) ** 0.5
    interval = f"+{0.11 - half:.3f} to +{0.11 + half:.3f}"
    told = f"higher: +0.110 on average over 3 cells (95% interval {interval}). Cell by cell, the interval lies above zero in 3 of 3, below it in 0."
    assert f"<li><b>contrast</b>: {told}</li>" in page
    table = pd.read_csv(run / "study.csv")
    table["value"] += (table["start"] == "contrast") * np.where(table["split"] == "fold-0", 0.2, -0.2)
    table.to_csv(run / "study.csv", index=False)
    assert "no difference is shown: " in write_study_report(run).read_text(encoding="utf-8")
    table[table["split"] == "fold-0"].to_csv(run / "study.csv", index=False)
    page = write_study_report(run).read_text(encoding="utf-8")
    assert "not shown: " in page
    assert "without an interval, which takes two splits or more that differ" in page
    assert "higher: " not in page
    apart = table[(table["split"] == "fold-0") == (table["shots"] == 1)]
    apart[(apart["split"] != "fold-1") | (apart["shots"] == 5)].to_csv(run / "study.csv", index=False)
    assert "none of 3 cells has all of 3 splits" in write_study_report(run).read_text(encoding="utf-8")


def test_intervals_of_one_split_are_over_its_test_subjects(run):
    table = pd.read_csv(run / "study.csv", dtype={"shots": "str", "width": "str"})
    table = table[table["split"] == "fold-0"]
    table.to_csv(run / "study.csv", index=False)
    keys = ["part", *AXES, "split", "seed", "metric"]
    draws = [[value - 0.01, value, value + 0.01] for value in table["value"]]
    table[keys].assign(tested="all", resampled=draws).to_parquet(run / "resampled.parquet")
    page = write_study_report(run).read_text(encoding="utf-8")
    assert "higher: +0.100 on average over 3 cells (95% interval +0.100 to +0.100, over test subjects)." in page
    assert "12 cells: of 3 paired differences in AUROC, 3 are above zero" in page
    (run / "resampled.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"Expected .*resampled\.parquet whole, found a damaged file"):
        write_study_report(run)


def test_a_metric_that_is_absent_is_said(run):
    shown = json.loads((run / "study.json").read_text())
    shown["parts"]["images"]["questions"][0]["metrics"] = ["auroc", "dice", "brier"]
    (run / "study.json").write_text(json.dumps(shown))
    table = pd.read_csv(run / "study.csv")
    pd.concat([table, table.assign(metric="brier", value=np.nan)]).to_csv(run / "study.csv", index=False)
    page = write_study_report(run).read_text(encoding="utf-8")
    for name in ("Dice", "Brier score"):
        assert f"{name} was asked for, and no cell has a number of it." in page
    assert "AUROC against scratch" in page


def test_panels_have_one_scale():
    with canvas(4, 2, columns=2) as (_, panels):
        _alike(panels)
        for axes, heights in zip(panels, ([0.2, 0.3], [0.8, 0.9]), strict=True):
            axes.plot(heights)
        assert panels[0].get_ylim() == panels[1].get_ylim()
        assert panels[0].get_ylim()[0] < 0.2
        assert panels[0].get_ylim()[1] > 0.9
