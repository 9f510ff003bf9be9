"""Where the weights of a stage come from: stages, folders, files and models; what is damaged or foreign is refused."""

import pytest
from safetensors.torch import save_file

from graphssl.errors import CheckpointError
from graphssl.training import Stage, pretrain


def test_stages_start_from_folders_files_and_models(chain, in_stages, general_images, tmp_path, same_weights):
    whole = in_stages([Stage("general", general_images), Stage("task")], folder=tmp_path / "chain")
    first = tmp_path / "chain" / "1-general"
    by_folder = in_stages([Stage("task", initialisation=first)])
    assert same_weights(by_folder.model, whole.model)
    assert [record["stage"] for record in by_folder.model.card["stages"]] == ["general", "task"]
    assert same_weights(in_stages([Stage("task", initialisation=whole.models["general"], keep_objective=False)]).model, whole.model) is False
    bare = chain.models["general"].save_pretrained(tmp_path / "bare")  # without the weights of the decoder
    assert in_stages([Stage("task", initialisation=str(bare))]).stages["objective_weights"].tolist() == ["new"]
    with pytest.raises(CheckpointError, match="Stage 'task': Expected weights of MaskedPatches to go on with, found none"):
        in_stages([Stage("task", initialisation=str(bare), keep_objective=True)])
    save_file({name: value.clone() for name, value in chain.models["general"].encoder.state_dict().items()}, tmp_path / "weights.safetensors")
    by_file = in_stages([Stage("task", initialisation=tmp_path / "weights.safetensors", epochs=0)])
    assert same_weights(by_file.model, chain.models["general"])
    assert by_file.stages["parent"].tolist() == [chain.stages["weights"][0]]


def test_a_pre_trained_run_that_is_no_chain_is_told_by_its_card(in_stages, general_images, tmp_path, autoencoder):
    model = pretrain(general_images, **autoencoder())
    folder = model.save_pretrained(tmp_path / "run" / "encoder")
    [record] = in_stages([Stage("task", initialisation=folder.parent, epochs=0)]).model.card["stages"]
    assert record["initialisation"]["card"]["objective"] == model.card["objective"]


def test_damaged_or_foreign_weights_are_refused(in_stages, general_images, tmp_path):
    in_stages([Stage("general", general_images, epochs=1)], folder=tmp_path)
    (tmp_path / "1-general" / "objective.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="Expected whole safetensors weights at .*objective.safetensors"):
        in_stages([Stage("task", initialisation=tmp_path / "1-general")])
    (tmp_path / "weights.pth").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"Expected a folder of a model or of a run, or weights in \.safetensors, found the file"):
        in_stages([Stage("task", initialisation=tmp_path / "weights.pth")])
    with pytest.raises(CheckpointError, match="Stage 'task': Expected a model folder with config.json at .*nowhere, found none"):
        in_stages([Stage("task", initialisation=tmp_path / "nowhere")])
