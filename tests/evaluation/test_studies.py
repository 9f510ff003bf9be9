"""Studies: the same splits for every cell, what is shared is computed once, and a killed study goes on where it was."""

import pandas as pd
import pytest

from graphssl.errors import ConfigError, DataError
from graphssl.evaluation import cell_score, studies
from graphssl.evaluation.shares import Share
from graphssl.evaluation.studies import run_study
from graphssl.objectives import Restoration
from graphssl.statistics.grid import paired_differences, with_resamples


@pytest.fixture(scope="module")
def cells(make_cell):
    starts = {"scratch": (), "pre-trained": ("cohort",)}
    return [make_cell({"start": start, "shots": str(n)}, pretrain_on=on, shots=n) for start, on in starts.items() for n in (1, 4)]


@pytest.fixture(scope="module")
def study(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, run_study(cells, folder=folder, seeds=(0, 1), n_folds=1)


def test_the_table_is_tidy(study):
    _, found = study
    table = found.table
    assert tuple(table.columns) == ("start", "shots", *studies.MEASURED)
    assert {"auroc", "recall: benign", "recall: malignant", "separation", "separation_before"} <= set(table["metric"])
    one = table[table["metric"] == "auroc"]
    assert len(one) == 4 * 2
    assert one["n_labelled"].tolist() == [2, 2, 8, 8] * 2
    assert one["n_pretrained"].tolist() == [0] * 4 + [24] * 4
    assert one["n_test"].eq(12).all()
    assert one["value"].between(0, 1).all()
    assert found.left_out.empty
    assert found.curves.empty  # nobody was held out to draw them


def test_the_only_split_has_resamples_of_its_test_subjects(study, cells, tmp_path):
    _, found = study
    both = with_resamples(found.table, found.resampled)
    scored = both[both["metric"].isin(["auroc", "brier", "recall: benign"])]
    assert len(scored) == 3 * 4 * 2
    assert {len(draws) for draws in scored["resampled"]} == {1000}
    assert len(set(scored["tested"])) == 1
    assert not paired_differences(both, "start", "scratch", "auroc")["low"].isna().any()
    assert run_study(cells[:1], folder=tmp_path, n_folds=2).resampled.empty


def test_cells_that_begin_alike_share_a_pre_training(study):
    folder, _ = study
    assert len(list((folder / "starts").iterdir())) == 2  # one a seed
    assert len(list((folder / "cells").iterdir())) == 8


def test_a_killed_study_goes_on_and_ends_with_the_same_numbers(study, cells, tmp_path, monkeypatch):
    done = []
    computed = cell_score._computed

    def until_the_third(unit, *drawn):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(unit.path)
        return computed(unit, *drawn)

    monkeypatch.setattr(cell_score, "_computed", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_study(cells, folder=tmp_path, seeds=(0, 1), n_folds=1)
    assert len(list((tmp_path / "cells").iterdir())) == 3
    kept = {path: path.read_bytes() for path in done}
    starts = {path: path.stat().st_mtime_ns for path in (tmp_path / "starts").rglob("model.safetensors")}
    monkeypatch.setattr(cell_score, "_computed", computed)
    found = run_study(cells, folder=tmp_path, seeds=(0, 1), n_folds=1)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert {path: path.stat().st_mtime_ns for path in starts} == starts
    pd.testing.assert_frame_equal(found.table.drop(columns="seconds"), study[1].table.drop(columns="seconds"))


def test_shares_are_the_whole_and_what_begins_alike_is_of_one(study, cells, tmp_path):
    kept = {"folder": tmp_path, "seeds": (0, 1), "n_folds": 1}
    first, second = (run_study(cells, share=Share(number, 2), **kept).table for number in (1, 2))
    each = ["start", "shots", "split", "seed"]
    both = pd.concat([first, second])
    assert len(both.drop_duplicates(each)) == len(first.drop_duplicates(each)) + len(second.drop_duplicates(each)) == 8
    begun = both[both["start"] == "pre-trained"].drop_duplicates(each).groupby("seed").size()
    assert begun.tolist() == [2, 2]
    for part in (first, second):
        assert set(part[part["start"] == "pre-trained"].groupby("seed")["shots"].nunique()) <= {2}
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    whole = run_study(cells, **kept)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == done  # nothing was left to do
    pd.testing.assert_frame_equal(whole.table.drop(columns="seconds"), study[1].table.drop(columns="seconds"))
    of_many = [run_study(cells[:1], folder=tmp_path, n_folds=1, share=Share(number, 3)).table for number in (1, 2, 3)]
    assert sorted(len(table.drop_duplicates(each)) for table in of_many) == [0, 0, 1]  # a share may have nothing to do


def test_processes_side_by_side_find_what_one_finds(study, cells, tmp_path):
    found = run_study(cells, folder=tmp_path, seeds=(0, 1), n_folds=1, n_jobs=2)
    pd.testing.assert_frame_equal(found.table.drop(columns="seconds"), study[1].table.drop(columns="seconds"))


def test_cells_that_differ_in_nothing_but_their_names_are_computed_once(make_cell, tmp_path):
    """From random weights nothing of the pre-training matters."""
    same = [make_cell({"objective": name}, objective=one, pretrain_on=()) for name, one in (("a", Restoration()), ("b", Restoration(skips=False)))]
    table = run_study(same, folder=tmp_path, n_folds=1).table
    assert len(list((tmp_path / "cells").iterdir())) == 1
    values = table.set_index(["objective", "metric"])["value"]
    pd.testing.assert_series_equal(values["a"], values["b"])


def test_what_the_data_do_not_allow_is_left_out_with_the_reason(make_cell, tmp_path):
    wanted = [make_cell({"shots": str(n)}, pretrain_on=(), shots=n) for n in (2, 500)]
    found = run_study(wanted, folder=tmp_path, n_folds=1)
    assert set(found.table["shots"]) == {"2"}
    assert found.left_out["shots"].tolist() == ["500"]
    assert "found n_shots=500" in found.left_out["why"].item()
    with pytest.raises(DataError, match="Expected data that allow a cell of the study, found none"):
        run_study(wanted[1:], folder=tmp_path / "none", n_folds=1)


def test_a_study_needs_cells_and_seeds(cells):
    with pytest.raises(ConfigError, match="Expected cells and seeds to study, found 0 and 1"):
        run_study([], folder="unused")
    with pytest.raises(ConfigError, match="found 4 and 0"):
        run_study(cells, folder="unused", seeds=())
