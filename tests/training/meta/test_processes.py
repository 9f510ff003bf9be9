"""Tasks spread over processes: two real ones by gloo, new ones and those of torchrun, end where one alone ends; an error of one is that of all."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lightning_fabric import Fabric

from graphssl.data import Cohort
from graphssl.encoders import GraphTransformer
from graphssl.errors import GraphSSLError
from graphssl.training.checkpoint import read_checkpoint
from graphssl.training.launch import cluster
from graphssl.training.meta import (
    GradientAgreement,
    JointTraining,
    MetaLearning,
    MetaSettings,
    SingleSource,
    SourceBatches,
    TaskSampler,
    UncertaintyWeights,
    meta_train,
    sources_by_site,
)
from graphssl.training.meta.meta_trainer import MetaTrainer

module = importlib.import_module("graphssl.training.meta.meta_train")
SETTINGS = MetaSettings(max_epochs=2, steps_per_epoch=2, n_support=3, n_query=3, learning_rate=3e-3, accelerator="cpu")
# Three sources over two processes, so that one has two tasks; with a single source one has none.
CASES = {
    "maml": MetaLearning(),
    "joint": JointTraining(),
    "agreement": JointTraining(GradientAgreement()),
    "uncertainty": MetaLearning("anil", weighting=UncertaintyWeights()),
    "reptile": MetaLearning("reptile"),
    "single source": SingleSource(),
}


def trained(cohort, name, folder, devices=1):
    sources = sources_by_site(cohort, target="diagnosis")
    encoder = GraphTransformer(width=8, depth=1, heads=2, dropout=0.0, spacing_mm=40.0)
    settings = replace(SETTINGS, devices=devices)
    return meta_train(sources, encoder=encoder, strategy=CASES[name], settings=settings, target=cohort, folder=folder)


def in_one_of_two_processes(folder):
    """What each process of torchrun does: all cases, a stopped run, one with a checkpoint in one process alone, one that fails in one, the verb."""
    torch.set_num_threads(1)
    cohort, rank = Cohort.load(f"{folder}/cohort"), cluster().global_rank()
    for name in CASES:
        model = trained(cohort, name, f"{folder}/two/{name}", devices=2)
        model.history.to_csv(f"{folder}/{name} {rank}.csv", index=False)
    trained(cohort, "maml", f"{folder}/stopped", devices=2).history.to_csv(f"{folder}/stopped {rank}.csv", index=False)
    try:
        trained(cohort, "maml", f"{folder}/{('two/maml', 'none')[rank]}", devices=2)
    except GraphSSLError as error:
        print(f"\n{rank} found: {error}", flush=True)
    take = SourceBatches.take
    if rank == 1:
        SourceBatches.take = spoiled(take)
    try:
        trained(cohort, "joint", f"{folder}/spoiled", devices=2)
    except GraphSSLError as error:
        print(f"\n{rank} met: {error}", flush=True)
    SourceBatches.take = take
    from graphssl.cli import main

    os.chdir(folder)
    print(f"\n{rank} ended: {main(['meta-train', '--config', 'meta.yaml', '--quiet'])}", flush=True)


def spoiled(take):
    def taken(self, source, subjects, labels):
        batch, classes = take(self, source, subjects, labels)
        return replace(batch, weights=batch.weights * float("inf")), classes

    return taken


CONFIGURATION = {
    "name": "verb",
    "sources": [{"cohort": {"path": "cohort"}, "target": "diagnosis"}],
    "strategy": "meta",
    "compare": ["joint"],
    "encoder": {"class_path": "graphssl.encoders.GraphTransformer", "init_args": {"width": 8, "depth": 1, "heads": 2, "spacing_mm": 40.0}},
    "settings": {"max_epochs": 1, "steps_per_epoch": 1, "n_support": 3, "n_query": 3, "accelerator": "cpu"},
    "similarity": False,
}


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=36, n_sites=3, effect=2.0)


@pytest.fixture(scope="module")
def two(cohort, tmp_path_factory):
    """A folder in which two processes of torchrun have done all cases, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    cohort.save(folder / "cohort")
    stop_after_an_epoch(cohort, folder / "stopped")
    (folder / "meta.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("name", CASES)
def test_two_processes_of_torchrun_end_where_one_alone_ends(name, two, cohort, tmp_path):
    folder, _ = two
    alone = trained(cohort, name, tmp_path)
    for rank in (0, 1):
        history = pd.read_csv(folder / f"{name} {rank}.csv")
        assert list(history) == list(alone.history)
        assert np.allclose(history, alone.history, rtol=1e-4, atol=1e-5)
    # What Reptile takes for a gradient are differences of weights, of which little is left after rounding.
    largest = 1e-3 if name == "reptile" else 1e-6
    assert_same_state(read_checkpoint(folder / "two" / name / "last.ckpt"), read_checkpoint(tmp_path / "last.ckpt"), largest)


def assert_same_state(found, expected, largest=1e-6):
    """Weights, and the means of the gradients that Adam keeps."""
    moments = [{k: one["exp_avg"] for k, one in state["optimizer"]["state"].items()} for state in (found, expected)]
    assert moments[0].keys() == moments[1].keys()
    for k, moment in moments[1].items():
        assert torch.allclose(moments[0][k], moment, rtol=1e-3, atol=1e-6)
    # Where a gradient is nothing but rounding, as that of a key's bias, Adam makes a step of its sign.
    off = torch.cat([(found["weights"][name].double() - value).abs().flatten() for name, value in expected["weights"].items()])
    assert off.quantile(0.95) < largest


def test_an_error_of_one_process_is_that_of_all(two):
    _, said = two
    for rank in (0, 1):
        assert f"{rank} met: Expected finite losses in every task, found nan in task 'site-1'" in said
        assert f"{rank} found: Expected every process to find the same checkpoint" in said


def test_the_verb_writes_in_the_first_process_alone(two):
    folder, said = two
    assert said.count("ended: 0") == 2
    assert said.count("Report:") == 1
    run = folder / "runs" / "verb"
    assert (run / "report.html").is_file()
    assert (run / "encoder" / "model.safetensors").is_file()


def stop_after_an_epoch(cohort, folder):
    """Train alone, and be interrupted in the second meta-epoch."""
    note = MetaTrainer._note

    def interrupted(self, epoch, *rest):
        if epoch == 1:
            raise KeyboardInterrupt
        note(self, epoch, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetaTrainer, "_note", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(cohort, "maml", folder)
    assert len(read_checkpoint(folder / "last.ckpt")["history"]) == 1


def test_two_processes_go_on_from_where_one_alone_stopped(two, cohort, tmp_path):
    folder, _ = two
    alone = trained(cohort, "maml", tmp_path)
    history = pd.read_csv(folder / "stopped 1.csv")
    assert history["epoch"].tolist() == [0, 1]
    assert np.allclose(history, alone.history, rtol=1e-4, atol=1e-5)
    assert_same_state(read_checkpoint(folder / "stopped" / "last.ckpt"), read_checkpoint(tmp_path / "last.ckpt"))


@pytest.mark.slow
@pytest.mark.enable_socket
def test_new_processes_go_on_from_where_one_alone_stopped(cohort, tmp_path):
    stopped = tmp_path / "stopped"
    stop_after_an_epoch(cohort, stopped)
    together, alone = trained(cohort, "maml", stopped, devices=2), trained(cohort, "maml", tmp_path / "alone")
    assert together.history["epoch"].tolist() == [0, 1]
    assert np.allclose(together.history, alone.history, rtol=1e-4, atol=1e-5)
    assert_same_state(read_checkpoint(stopped / "last.ckpt"), read_checkpoint(tmp_path / "alone" / "last.ckpt"))
    weights = read_checkpoint(stopped / "last.ckpt")["weights"]
    assert all(torch.equal(value, weights[f"0.encoder.{name}"]) for name, value in together.encoder.state_dict().items())


def test_new_processes_can_be_sent_what_they_need(cohort, tmp_path, monkeypatch):
    """What Lightning's launcher sends is whole on the other side; the slow test beside starts real ones."""
    sent = []

    def launched(fabric, function):
        sent.append(ForkingPickler.loads(bytes(ForkingPickler.dumps(function))))
        return GraphSSLError("not started")

    monkeypatch.setattr(Fabric, "launch", launched)
    with pytest.raises(GraphSSLError, match="not started"):
        trained(cohort, "agreement", tmp_path, devices=2)
    (function, (_, sampler, batches, *_)) = sent[0].args
    assert function is module._train_together
    expected = sources_by_site(cohort, target="diagnosis")
    assert [task.support for task in sampler.draw(3)] == [task.support for task in TaskSampler(expected, 3, 3).draw(3)]
    ours = SourceBatches(expected, batches.builder_, is_fitted=True).batches
    assert all(torch.equal(batches.batches[name].weights, batch.weights) for name, batch in ours.items())


if __name__ == "__main__":
    in_one_of_two_processes(sys.argv[1])
