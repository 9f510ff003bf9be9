"""Saved models and checkpoints that were tampered with: refused, or read to the very same model."""

import json
import shutil

import pytest
import torch

from graphssl.encoders import GraphTransformer
from graphssl.errors import GraphSSLError, InputError
from graphssl.training import TrainingSettings, load_model, pretrain
from graphssl.training.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def trained(make_cohort, tmp_path_factory):
    """Folder with `encoder/` and `last.ckpt` of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    settings = TrainingSettings(max_epochs=1, batch_size=8, accelerator="cpu")
    pretrain(make_cohort(n_subjects=16), encoder=GraphTransformer(8, 1, 2), settings=settings, folder=folder).save_pretrained(folder / "encoder")
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


@pytest.mark.parametrize("name", ["config.json", "schema.json", "model.safetensors"])
def test_a_file_of_a_model_that_is_gone_cut_empty_or_of_another_kind(copy, name):
    path = copy / "encoder" / name
    whole = path.read_bytes()
    for content in (None, b"", whole[: len(whole) // 2], whole[:-1], b"\x80\x04N.", b"[]", b"null", b"{}"):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(InputError, match="Expected"):
            load_model(copy / "encoder")


def test_weights_of_another_shape_or_name(copy):
    from safetensors.torch import load_file, save_file

    path = copy / "encoder" / "model.safetensors"
    weights = load_file(path)
    name = next(key for key, value in weights.items() if key.startswith("encoder.") and value.ndim == 2)
    for changed in (
        {**weights, name: weights[name][:, :-1].contiguous()},
        {**weights, "encoder.more": torch.zeros(1)},
        {key: value for key, value in weights.items() if key != name},
    ):
        save_file(changed, path)
        with pytest.raises(InputError, match="to fit GraphTransformer, found a mismatch"):
            load_model(copy / "encoder")


@pytest.mark.parametrize(("part", "entry"), [("encoder", "os.system"), ("builder", "subprocess.Popen"), ("encoder", "HyperNetwork.__init__")])
def test_a_class_that_is_none_of_ours_is_not_looked_up(copy, part, entry):
    record = json.loads((copy / "encoder" / "config.json").read_text())
    record[part]["class"] = entry
    (copy / "encoder" / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="Expected"):
        load_model(copy / "encoder")


def test_another_atlas_in_the_schema_is_seen_by_its_hash(copy):
    path = copy / "encoder" / "schema.json"
    path.write_text(path.read_text().replace('"labels": [', '"labels": [9', 1).replace('"labels": [\n', '"labels": [9', 1))
    with pytest.raises(InputError, match="Expected"):
        load_model(copy / "encoder")


def test_a_checkpoint_that_was_cut_or_changed_is_refused(copy):
    whole = (copy / "last.ckpt").read_bytes()
    assert "state_dict" in read_checkpoint(copy / "last.ckpt")
    for content in (b"", whole[: len(whole) // 2], whole[:-30], b"PK\x03\x04" + whole[4:100], b"\x80\x04N."):
        (copy / "last.ckpt").write_bytes(content)
        with pytest.raises(GraphSSLError, match="Expected a whole checkpoint of tensors"):
            read_checkpoint(copy / "last.ckpt")


def test_a_checkpoint_of_another_run_is_refused(copy, make_cohort):
    settings = TrainingSettings(max_epochs=1, batch_size=4, accelerator="cpu")
    with pytest.raises(GraphSSLError, match="found one of another run"):
        pretrain(make_cohort(n_subjects=16), encoder=GraphTransformer(8, 1, 2), settings=settings, folder=copy)
