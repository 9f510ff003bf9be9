"""Rows spread over processes: two real ones by gloo, started by torchrun, end where one alone ends, whatever an objective compares."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from graphssl.atlases import simulated_atlas
from graphssl.cli import main
from graphssl.data import Cohort, ColumnTokenizer, ImageBuilder, MultimodalBuilder, StreamedCohort, TimelineTokenizer, write_shards
from graphssl.datasets import simulate_images, simulate_multimodal, simulate_stays, simulate_table
from graphssl.encoders import Concatenation, GraphTransformer, MultimodalEncoder, PopulationGNN, ResNet, TableTransformer, TimelineTransformer
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.errors import RunFolderError
from graphssl.graphs import PopulationBuilder
from graphssl.objectives import (
    BYOL,
    DINO,
    BarlowTwins,
    CrossModalContrast,
    DeepCluster,
    MaskedBlocks,
    MaskedColumns,
    MaskedModality,
    MaskedRegions,
    MoCo,
    NTXent,
    SwAV,
    WeightedSum,
)
from graphssl.processes import Processes
from graphssl.seal import SEAL, broken
from graphssl.training import Stage, TrainingSettings, finetune, pretrain, pretrain_stages
from graphssl.training.checkpoint import read_checkpoint
from graphssl.training.divided import divided
from graphssl.training.learner import Learner
from graphssl.views import ResizedCrop

SETTINGS = TrainingSettings(max_epochs=2, batch_size=9, learning_rate=3e-3, accelerator="cpu")
SMALL = {"width": 8, "hidden": 8}
REGIONS = ("regions", lambda: GraphTransformer(width=8, depth=1, heads=2, dropout=0.0, spacing_mm=40.0), None)
IMAGES = ("images", lambda: ResNet(rank=2, width=4, blocks=[1, 1], stem="small"), lambda: ImageBuilder(size=[8, 8]))
SAMPLED = {"whole_limit": 0, "fan_outs": [3, 2], "dropout": 0.0}
STAYS = (
    "stays",
    lambda: TimelineTransformer(width=8, depth=1, heads=2, dropout=0.0),
    lambda: TimelineTokenizer(n_bins=6, bin_hours=8.0, treatments=["ventilation"], min_subjects=3, n_pieces=4),
)
PARTS = (
    "parts",
    lambda: MultimodalEncoder({"image": IMAGES[1](), "table": TableTransformer(8, 1, 2, dropout=0.0)}, Concatenation(8, dropout=0.0), 0.0),
    lambda: MultimodalBuilder({"image": ImageBuilder(size=[8, 8]), "table": ColumnTokenizer(n_pieces=4)}),
)
PATIENTS = (
    "table",
    lambda: PopulationGNN(8, 1, heads=2, layer="sage", patient=PatientNetwork(8, dropout=0.0), **SAMPLED),
    lambda: PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=4),
)
# Nine rows a minibatch: five and four of them, and fewer in the last one. Sums draw one objective a step. Few patients have an image, at times none
# of those of a process, or one.
CASES = {
    "masked regions": (*REGIONS, lambda: MaskedRegions(rank=4)),
    "shards": ("shards", *REGIONS[1:], lambda: MaskedRegions(rank=4)),
    "contrast": (*REGIONS, lambda: NTXent(**SMALL)),
    "queue": (*REGIONS, lambda: MoCo(queue_size=16, **SMALL)),
    "clusters": (*REGIONS, lambda: SwAV(n_prototypes=4, queue_size=16, frozen=0.3, **SMALL)),
    "centre": (*REGIONS, lambda: DINO(n_prototypes=4, **SMALL)),
    "one of two": (*REGIONS, lambda: WeightedSum({"regions": MaskedRegions(rank=4), "twins": BYOL(**SMALL)}, each_step="one")),
    "batch normalisation": (*IMAGES, lambda: BarlowTwins(ResizedCrop(8), **SMALL)),
    "clusters of all": (*IMAGES, lambda: DeepCluster(ResizedCrop(8), n_clusters=(3, 2), n_clusterings=2, **SMALL)),
    "blocks of hours": (*STAYS, lambda: MaskedBlocks(2)),
    "image and table": (*PARTS, lambda: CrossModalContrast(**SMALL)),
    "hidden modality": (*PARTS, lambda: MaskedModality(temperature=1.0)),  # a low one magnifies rounding
    "sampled neighbours": (*PATIENTS, lambda: MaskedColumns(0.3, patients=0.2)),
}


@contextmanager
def without_adam():
    """Without what AdamW makes of a gradient that is nothing but rounding, as that of a bias before batch normalisation: a step of its sign."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "configure_optimizers", lambda learner: torch.optim.SGD(learner.parameters(), lr=0.1))
        yield


def trained(name, cohorts, folder=None):
    kind, encoder, builder, objective = CASES[name]
    given = {"encoder": encoder(), "objective": objective(), "builder": builder and builder()}
    with without_adam():
        return pretrain(cohorts[kind], **given, settings=SETTINGS, folder=folder and folder / name)


def tuned(cohorts, folder=None):
    start = trained("contrast", cohorts, folder)
    with without_adam():
        return finetune(start, cohorts["regions"], target="diagnosis", settings=SETTINGS)


def staged(cohorts, folder=None):
    """Masked regions, then contrast from the weights of the first stage."""
    stages = [Stage("masks", objective=CASES["masked regions"][-1]()), Stage("views", objective=CASES["contrast"][-1](), epochs=1)]
    with without_adam():
        return pretrain_stages(stages, cohorts["regions"], encoder=REGIONS[1](), settings=SETTINGS, folder=folder and folder / "stages").model


def cohorts_of(folder):
    return {
        "regions": Cohort.load(folder / "regions"),
        "shards": StreamedCohort(folder / "shards", 2),
        "images": simulate_images(n_subjects=26, size=8),
        "table": simulate_table(n_subjects=26).cohort,
        "stays": simulate_stays(26),
        "parts": simulate_multimodal([simulated_atlas(8)], n_subjects=26, size=8, shares={"table": 0.9, "image": 0.7}),
    }


def in_one_of_two_processes(folder):
    """What each process of torchrun does: all cases, a stopped run, fine-tuning, other data in one of them, the verbs."""
    torch.set_num_threads(1)
    cohorts, rank = cohorts_of(folder), int(os.environ["RANK"])
    for name in CASES:
        keep(trained(name, cohorts, folder / "two"), folder / f"{name} {rank}")
    keep(trained("contrast", cohorts, folder / "stopped"), folder / f"stopped {rank}")
    keep(tuned(cohorts, folder / "two"), folder / f"tuned {rank}")
    keep(staged(cohorts, folder / "two"), folder / f"staged {rank}")
    fewer = cohorts["regions"].select(cohorts["regions"].ids[rank:])
    try:
        trained("contrast", {"regions": fewer})
    except RunFolderError as error:
        print(f"\n{rank} met: {error}", flush=True)
    os.chdir(folder)
    for verb in ("finetune", "evaluate"):
        print(f"\n{rank} ended {verb}: {main([verb, '--config', 'run.yaml', '--quiet'])}", flush=True)


def keep(model, place):
    model.history.to_csv(f"{place}.csv", index=False)
    torch.save(model.encoder.state_dict(), f"{place}.pt")


CONFIGURATION = {
    "name": "verb",
    "cohort": {"path": "regions"},
    "target": "diagnosis",
    "encoder": {
        "class_path": "graphssl.encoders.GraphTransformer",
        "init_args": {"width": 8, "depth": 1, "heads": 2, "spacing_mm": 40.0, "dropout": 0.0},
    },
    "pretraining": {"max_epochs": 1, "batch_size": 9, "accelerator": "cpu"},
    "finetuning": {"max_epochs": 1, "batch_size": 9, "accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def folder(make_cohort, tmp_path_factory):
    """A folder with the cohort and the configuration that every process reads."""
    place = tmp_path_factory.mktemp("two")
    make_cohort(n_subjects=26, effect=2.0).save(place / "regions")
    write_shards(make_cohort(n_subjects=26, effect=2.0), place / "shards", size=6)
    (place / "run.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    return place


@pytest.fixture(scope="module")
def two(folder):
    """The folder after two processes of torchrun have done all cases, and what they said."""
    stop_after_an_epoch(cohorts_of(folder), folder / "stopped")
    done = by_torchrun(__file__, folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def by_torchrun(*words):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)


class KilledError(Exception):
    """Stands for whatever ends a run."""


def stop_after_an_epoch(cohorts, place):
    """Train alone, and be stopped in the second epoch."""
    note = Learner.on_train_epoch_end

    def interrupted(self):
        if self.current_epoch == 1:
            raise KilledError
        note(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "on_train_epoch_end", interrupted)
        with pytest.raises(KilledError):
            trained("contrast", cohorts, place)
    assert len(read_checkpoint(place / "contrast" / "last.ckpt")["history"]) == 1


def assert_same(place, model):
    history, weights = pd.read_csv(f"{place}.csv"), torch.load(f"{place}.pt")
    assert list(history) == list(model.history)
    assert np.allclose(history, model.history, rtol=1e-4, atol=1e-5, equal_nan=True)  # where nobody had two modalities
    assert all(torch.allclose(weights[name], value, rtol=1e-4, atol=1e-6) for name, value in model.encoder.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_two_processes_of_torchrun_end_where_one_alone_ends(name, two):
    folder, _ = two
    alone = trained(name, cohorts_of(folder))
    for rank in (0, 1):
        assert_same(folder / f"{name} {rank}", alone)


def test_two_processes_go_on_from_where_one_alone_stopped(two):
    folder, _ = two
    assert_same(folder / "stopped 1", trained("contrast", cohorts_of(folder)))
    assert len(pd.read_csv(folder / "stopped 1.csv")) == 2


def test_two_processes_fine_tune_as_one_alone_does(two):
    folder, _ = two
    assert_same(folder / "tuned 1", tuned(cohorts_of(folder)))


def test_two_processes_go_through_stages_as_one_alone_does(two):
    folder, _ = two
    assert_same(folder / "staged 1", staged(cohorts_of(folder)))


def test_other_data_in_one_process_are_refused_in_all(two):
    _, said = two
    for rank in (0, 1):
        assert f"{rank} met: Expected all 2 processes to train the same on the same data" in said


def test_the_verbs_write_in_the_first_process_alone(two):
    """Fine-tuning pre-trains first; evaluation is for one process."""
    folder, said = two
    assert said.count("ended finetune: 0") == said.count("ended evaluate: 2") == 2
    assert said.count("Model:") == 1
    run = folder / "runs" / "verb"
    assert {"encoder", "model", "history.csv", SEAL} <= {path.name for path in run.iterdir()}
    assert broken(run) == []


def die_in_one_of_two_processes(folder):
    """What each process does that runs the verb, one of which is killed in the second epoch."""
    note = Learner.on_train_epoch_end

    def killed(self):
        if self.current_epoch == 1 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        note(self)

    Learner.on_train_epoch_end = killed
    os.chdir(folder)
    sys.exit(main(["pretrain", "--config", "run.yaml", "--quiet", "--name", "killed", "--pretraining.max_epochs", "3"]))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_one_alone_goes_on(folder, monkeypatch, capsys):
    done = by_torchrun(__file__, folder, "die")
    assert done.returncode != 0
    run = folder / "runs" / "killed"
    assert not (run / SEAL).exists()
    assert len(read_checkpoint(run / "checkpoints" / "pretrain" / "last.ckpt")["history"]) == 1
    monkeypatch.chdir(folder)
    words = ["pretrain", "--config", "run.yaml", "--quiet", "--pretraining.max_epochs", "3", "--name"]
    assert main([*words, "killed"]) == main([*words, "unbroken"]) == 0
    found, expected = (load_file(folder / "runs" / name / "encoder" / "model.safetensors") for name in ("killed", "unbroken"))
    off = torch.cat([(found[name].double() - value).abs().flatten() for name, value in expected.items() if value.is_floating_point()])
    assert off.quantile(0.95) < 1e-5  # where a gradient is nothing but rounding, AdamW makes a step of its sign


def test_one_process_alone_embeds_all_rows(make_encoder, make_batch):
    encoder, objective = make_encoder(), MaskedRegions()
    before = encoder.forward
    with divided(encoder, objective, Processes()):
        assert encoder.forward == before
    assert len(encoder(make_batch(3)).pooled) == 3


def test_fewer_rows_than_processes_are_embedded_by_each(make_encoder, make_batch):
    """Nothing is sent, so no other process is needed to see it."""
    encoder, batch = make_encoder(dropout=0.0), make_batch(2)
    expected = encoder(batch).pooled
    with divided(encoder, MaskedRegions(), Processes(1, 3)):
        assert torch.equal(encoder(batch).pooled, expected)
    assert "forward" not in vars(encoder)


if __name__ == "__main__":
    (die_in_one_of_two_processes if "die" in sys.argv else in_one_of_two_processes)(Path(sys.argv[1]))
