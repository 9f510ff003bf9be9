"""One meta-training: its checkpoints, and the step at which numbers cease to be finite."""

from dataclasses import replace

import pytest
import torch

from graphssl.errors import CheckpointError, GraphSSLError, RunFolderError
from graphssl.training.meta import (
    STRATEGIES,
    JointTraining,
    MetaLearning,
    SourceBatches,
    meta_train,
)
from graphssl.training.meta.meta_trainer import MetaTrainer


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path, sources, make_encoder, settings):
    meta_train(sources, encoder=make_encoder(), settings=settings(max_epochs=1), folder=tmp_path)
    with pytest.raises(RunFolderError, match="the checkpoint of this meta-training in .* found one of another run"):
        meta_train(sources, encoder=make_encoder(), settings=settings(max_epochs=1), folder=tmp_path, seed=1)
    with pytest.raises(RunFolderError, match="another run"):
        meta_train(sources, encoder=make_encoder(), strategy=STRATEGIES["joint"], settings=settings(max_epochs=1), folder=tmp_path)
    (tmp_path / "last.ckpt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="a whole checkpoint"):
        meta_train(sources, encoder=make_encoder(), settings=settings(max_epochs=1), folder=tmp_path)


@pytest.mark.parametrize("strategy", [MetaLearning(), JointTraining(), MetaLearning("reptile")], ids=lambda one: repr(one)[:40])
def test_a_loss_that_is_not_finite_names_the_task_and_saves_the_state_before(strategy, tmp_path, sources, make_encoder, monkeypatch, settings):
    """From the fourth step on the connections of one source are infinite."""
    built = SourceBatches.take

    def taken(self, source, subjects, labels):
        batch, classes = built(self, source, subjects, labels)
        return (replace(batch, weights=batch.weights * float("inf")) if source == "site-1" and spoiled else batch), classes

    spoiled = []
    monkeypatch.setattr(SourceBatches, "take", taken)
    step = MetaTrainer._step

    def counted(self, tasks, number, path):
        if number == 4:
            spoiled.append(number)
        return step(self, tasks, number, path)

    monkeypatch.setattr(MetaTrainer, "_step", counted)
    with pytest.raises(
        GraphSSLError, match=r"finite losses in every task.*'site-1'.*step 4 of the meta-training\. The state before it is in .*stopped"
    ):
        meta_train(sources, encoder=make_encoder(), strategy=strategy, settings=settings(), folder=tmp_path)
    state = torch.load(tmp_path / "stopped.ckpt", weights_only=True)
    assert all(bool(value.isfinite().all()) for value in state["weights"].values())
    assert len(torch.load(tmp_path / "last.ckpt", weights_only=True)["history"]) == 1


def test_gradients_that_are_not_finite_stop_the_run(sources, make_encoder, monkeypatch, settings):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(GraphSSLError, match="Expected finite gradients, found inf on tasks of site-0, site-1, site-2"):
        meta_train(sources, encoder=make_encoder(), settings=settings(max_epochs=1))
