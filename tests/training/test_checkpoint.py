"""Checkpoint files that cannot be trusted are refused; nothing in them is unpickled."""

import os
import pickle

import pytest
import torch

from graphssl.errors import CheckpointError, RunFolderError
from graphssl.training.checkpoint import EpochCheckpoint, read_checkpoint


class Harm:
    """Touches a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_of_tensors_is_read(tmp_path):
    torch.save({"weights": torch.arange(3), "epoch": 2}, tmp_path / "last.ckpt")
    found = read_checkpoint(tmp_path / "last.ckpt")
    assert found["epoch"] == 2
    assert found["weights"].tolist() == [0, 1, 2]


def test_an_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="Expected a checkpoint at .*last.ckpt, found no such file"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "last.ckpt"
    torch.save({"weights": torch.randn(500)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="Expected a whole checkpoint of tensors at .*truncated file or a pickle of other things.*Remove it"):
        read_checkpoint(path)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_a_pickle_of_other_things_is_refused_and_not_run(tmp_path, write):
    path, harmed = tmp_path / "last.ckpt", tmp_path / "harmed"
    content = {"weights": Harm(harmed)}
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="found a truncated file or a pickle of other things"):
        read_checkpoint(path)
    assert not harmed.exists()


def test_a_file_without_named_entries_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="Expected a checkpoint with named entries at .*, found a list"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_without_a_folder_or_a_file_there_is_nothing_to_resume_from(tmp_path):
    assert EpochCheckpoint("train_loss", "abc").resume_from() is None
    assert EpochCheckpoint("train_loss", "abc", tmp_path / "absent").resume_from() is None


@pytest.mark.parametrize("content", [{}, {"callbacks": {}}, {"callbacks": {"EpochCheckpoint": {"fingerprint": "other"}}}])
def test_the_checkpoint_of_another_run_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(RunFolderError, match="Expected the checkpoint of this run in .*found one of another run.*Choose another run name"):
        EpochCheckpoint("train_loss", "abc", tmp_path).resume_from()


def test_a_checkpoint_of_this_run_is_taken_up(tmp_path):
    state = {"fingerprint": "abc", "best_score": 0.5, "best_epoch": 3, "best_weights": {"w": torch.ones(2)}, "stopped": True}
    torch.save({"callbacks": {"EpochCheckpoint": state}}, tmp_path / "last.ckpt")
    keeper = EpochCheckpoint("train_loss", "abc", tmp_path)
    assert keeper.resume_from() == tmp_path / "last.ckpt"
    assert keeper.state_dict().keys() == state.keys()
    assert (keeper.best_score, keeper.best_epoch, keeper.stopped) == (0.5, 3, True)
