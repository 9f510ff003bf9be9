"""Studies: the same splits for every cell, what is shared is computed once, and a killed study goes on where it was."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation import studies
from graphssl.evaluation.shares import Share
from graphssl.evaluation.studies import Cell, CellSettings, grid, merged, run_study
from graphssl.objectives import Restoration
from graphssl.training import SegmentationSettings, StepSettings, TrainingSettings

STEPS = StepSettings(n_steps=2, batch_size=8, n_checks=2)
ONCE = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")


@pytest.fixture(scope="module")
def cohort():
    return simulate_images(36, size=8, effect=3.0, n_sites=1)


@pytest.fixture(scope="module")
def source():
    return simulate_images(30, size=8, n_sites=1, seed=1, name="elsewhere")


@pytest.fixture(scope="module")
def make_cell(cohort):
    def make(levels, *, segmentation=None, objective=None, source=None, class_weight="balanced", **settings):
        return Cell(
            levels,
            cohort,
            objective or Restoration(),
            ResNet(2, 1, 4, (1, 1), stem="small", norm="group"),
            ImageBuilder(),
            CellSettings(**{"steps": STEPS, **settings}),
            source,
            ONCE,
            class_weight=class_weight,
            segmentation=segmentation,
        )

    return make


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


def test_cells_that_begin_alike_share_a_pre_training(study):
    folder, _ = study
    assert len(list((folder / "starts").iterdir())) == 2  # one a seed
    assert len(list((folder / "cells").iterdir())) == 8


def test_a_killed_study_goes_on_and_ends_with_the_same_numbers(study, cells, tmp_path, monkeypatch):
    done = []
    computed = studies._computed

    def until_the_third(unit, *drawn):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(unit.path)
        return computed(unit, *drawn)

    monkeypatch.setattr(studies, "_computed", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_study(cells, folder=tmp_path, seeds=(0, 1), n_folds=1)
    assert len(list((tmp_path / "cells").iterdir())) == 3
    kept = {path: path.read_bytes() for path in done}
    starts = {path: path.stat().st_mtime_ns for path in (tmp_path / "starts").rglob("model.safetensors")}
    monkeypatch.setattr(studies, "_computed", computed)
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


def test_validation_subjects_give_curves_and_are_never_trained_on(make_cell, tmp_path):
    cell = make_cell({"imbalance": "3"}, pretrain_on=(), imbalance=3, validation_fraction=0.25)
    found = run_study([cell], folder=tmp_path, n_folds=1)
    assert found.curves["step"].tolist() == [1, 2]
    assert {"train_loss", "validation_score", "validation_loss"} <= set(found.curves)
    first = found.table.iloc[0]
    assert (first["n_labelled"], first["n_rarest"]) == (12, 3)  # 24 less a quarter; 9 and 3
    assert {"curve_area", "late_spread"} <= set(found.table["metric"])
    assert set(cell.metrics) == set(found.table["metric"])


def test_the_rare_class_is_the_one_that_is_named(make_cell, tmp_path):
    cell = make_cell({"imbalance": "3"}, pretrain_on=(), imbalance=3, rare="malignant")
    found = run_study([cell], folder=tmp_path / "named", n_folds=1).table.iloc[0]
    assert found["n_labelled"] == 4 * found["n_rarest"]
    with pytest.raises(ConfigError, match="Expected the rare class to be one of"):
        run_study([make_cell({"imbalance": "3"}, pretrain_on=(), imbalance=3, rare="nobody")], folder=tmp_path / "none", n_folds=1)
    assert not (tmp_path / "none").exists()


def test_an_encoder_goes_from_the_source_to_the_cohort(make_cell, source, tmp_path):
    chain = make_cell({"start": "both"}, pretrain_on=("source", "cohort"), source=source, source_size=20, mode="probe", label_fraction=0.5)
    first = make_cell({"start": "source"}, pretrain_on=("source",), source=source, source_size=20, mode="probe", label_fraction=0.5)
    table = run_study([chain, first], folder=tmp_path, n_folds=1).table
    assert table.groupby("start", sort=False)["n_pretrained"].first().tolist() == [44, 20]
    stages = {stage["stage"]: stage for stage in (json.loads(path.read_text()) for path in (tmp_path / "starts").rglob("provenance.json"))}
    assert len(list((tmp_path / "starts").iterdir())) == 2  # both begin with the same source
    assert stages["source"]["initialisation"]["from"] == "random weights"
    assert stages["cohort"]["initialisation"]["weights"] == stages["source"]["weights"]
    assert stages["cohort"]["objective_weights"] == "kept"


def test_a_source_is_learned_from_once_for_all_splits(make_cell, source, tmp_path):
    cell = make_cell({}, pretrain_on=("source",), source=source, mode="probe")
    table = run_study([cell], folder=tmp_path, n_folds=2).table
    assert table["split"].nunique() == 2
    assert len(list((tmp_path / "starts").iterdir())) == 1


def test_subjects_of_the_cohort_are_never_taken_from_the_source(make_cell, cohort):
    """A source of the same name holds the same subjects."""
    cell = make_cell({}, pretrain_on=("source",), source=cohort)
    with pytest.raises(DataError):
        studies._of_source(cell, 0)
    kept = studies.others(cohort, cohort.select(cohort.ids[:5]))
    assert kept.ids == cohort.ids[5:]
    other = simulate_images(10, size=8, n_sites=1, seed=2, name="other")
    assert studies.others(other, cohort) is other
    too_many = make_cell({}, pretrain_on=("source",), source=other, source_size=11)
    with pytest.raises(ConfigError, match="Expected at most the 10 subjects of the source"):
        studies._of_source(too_many, 0)


def test_masks_with_the_decoder_of_the_pre_training(make_cell, tmp_path):
    learned = {"objective": Restoration(segmentation_width=4), "segmentation": SegmentationSettings(width=4)}
    cells = [make_cell({"transfer": name}, transfer=name, shots=4, **learned) for name in ("encoder", "encoder_decoder")]
    table = run_study(cells, folder=tmp_path, n_folds=1).table
    dice = table[table["metric"] == "dice"].set_index("transfer")["value"]
    assert dice.between(0, 1).all()
    assert dice["encoder"] != dice["encoder_decoder"]
    assert set(cells[0].metrics) == set(table["metric"])
    with pytest.raises(ConfigError, match="Expected masks to be predicted after a Restoration"):
        make_cell({}, transfer="encoder_decoder", objective=Restoration(segmentation_width=8), segmentation=SegmentationSettings(width=4))
    with pytest.raises(ConfigError, match="Expected neither imbalance nor a probe"):
        make_cell({}, mode="probe", **learned)


def test_settings_that_do_not_go_together(make_cell, cells):
    with pytest.raises(ConfigError, match="Expected shots or a label fraction"):
        CellSettings(shots=1, label_fraction=0.5)
    with pytest.raises(ConfigError, match="Expected each of source and cohort once"):
        CellSettings(pretrain_on=("cohort", "cohort"))
    with pytest.raises(ConfigError, match="Expected a source to pre-train on in start s"):
        make_cell({"start": "s"}, pretrain_on=("source",))
    with pytest.raises(ConfigError, match="Expected cells and seeds to study, found 0 and 1"):
        run_study([], folder="unused")


def test_a_grid_is_every_combination():
    assert grid({"a": ["1", "2"], "b": ["x", "y"]}) == [{"a": a, "b": b} for a in "12" for b in "xy"]
    assert grid({}) == [{}]


def test_changes_are_laid_over_a_configuration():
    base = {"encoder": {"class_path": "A", "init_args": {"width": 8, "depth": 2}}, "cell": {"shots": 1}}
    assert merged(base, {"encoder": {"init_args": {"width": 16}}})["encoder"] == {"class_path": "A", "init_args": {"width": 16, "depth": 2}}
    assert merged(base, {"encoder": {"class_path": "B"}})["encoder"] == {"class_path": "B"}
    assert merged(base, {"cell": {"mode": "probe"}}, {"cell": {"shots": None}})["cell"] == {"shots": None, "mode": "probe"}
    assert base["cell"] == {"shots": 1}


def test_probes_of_one_subject_a_class(make_cell, tmp_path):
    cell = replace(make_cell({}, pretrain_on=(), shots=1, mode="probe"), class_weight=None)
    table = run_study([cell], folder=tmp_path, n_folds=1).table
    assert table["n_labelled"].eq(2).all()
