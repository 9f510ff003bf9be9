"""The verb `pretrain`: from an experiment to the files of a run folder."""

import shutil
from dataclasses import replace
from pathlib import Path

from graphssl.experiment.pretrain import run_pretrain
from graphssl.training import load_model


def test_pretraining_leaves_an_encoder_and_says_where(pretrained, files_in):
    folder, found = pretrained
    assert found["encoder"] == str(folder / "encoder")
    assert found["epochs"] == 2
    assert found["epoch_kept"].startswith(("1 of 2", "2 of 2"))
    assert files_in(folder) >= {"config.yaml", "manifest.json", "history.csv", "encoder/model.safetensors", "encoder/README.md"}
    assert load_model(found["encoder"]).head is None


def test_pretraining_again_goes_on_from_the_checkpoint(pretrained, tmp_path, experiment_in, text_of):
    folder, found = pretrained
    shutil.copytree(folder, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "encoder")
    experiment = experiment_in(tmp_path)
    again = run_pretrain(experiment, text_of(experiment))
    assert again["epoch_kept"] == found["epoch_kept"]
    weights = [(place / "encoder" / "model.safetensors").read_bytes() for place in (folder, tmp_path / "study")]
    assert weights[0] == weights[1]


def test_the_card_says_what_the_licence_of_the_data_asks(tmp_path, experiment_in, text_of):
    experiment = experiment_in(tmp_path)
    experiment.cohort = replace(experiment.cohort, licence="CC BY 4.0: name the source.")
    found = run_pretrain(experiment, text_of(experiment))
    assert found["licence_of_the_data"] == "CC BY 4.0: name the source."
    assert "- **licence of the data**: CC BY 4.0: name the source." in (Path(found["encoder"]) / "README.md").read_text()
