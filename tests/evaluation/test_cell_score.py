"""What a cell is worth: who is labelled, curves of those who are held out, classes, masks and probes."""

from dataclasses import replace

import pytest

from graphssl.errors import ConfigError
from graphssl.evaluation.studies import run_study
from graphssl.objectives import Restoration
from graphssl.training import SegmentationSettings


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


def test_masks_with_the_decoder_of_the_pre_training(make_cell, tmp_path):
    learned = {"objective": Restoration(segmentation_width=4), "segmentation": SegmentationSettings(width=4)}
    cells = [make_cell({"transfer": name}, transfer=name, shots=4, **learned) for name in ("encoder", "encoder_decoder")]
    found = run_study(cells, folder=tmp_path, n_folds=1)
    table = found.table
    assert {"dice", "hd95"} <= set(found.resampled["metric"])
    dice = table[table["metric"] == "dice"].set_index("transfer")["value"]
    assert dice.between(0, 1).all()
    assert dice["encoder"] != dice["encoder_decoder"]
    assert set(cells[0].metrics) == set(table["metric"])
    with pytest.raises(ConfigError, match="Expected masks to be predicted after a Restoration"):
        make_cell({}, transfer="encoder_decoder", objective=Restoration(segmentation_width=8), segmentation=SegmentationSettings(width=4))
    with pytest.raises(ConfigError, match="Expected neither imbalance nor a probe"):
        make_cell({}, mode="probe", **learned)


def test_probes_of_one_subject_a_class(make_cell, tmp_path):
    cell = replace(make_cell({}, pretrain_on=(), shots=1, mode="probe"), class_weight=None)
    table = run_study([cell], folder=tmp_path, n_folds=1).table
    assert table["n_labelled"].eq(2).all()
