"""Stages: each goes on where the last one ended, says where its weights came from, and a killed chain ends as an unbroken one."""

import os
import signal
import warnings
from dataclasses import dataclass, field

import pandas as pd
import pytest

from graphssl.errors import ConfigError
from graphssl.training import Model, Probe, Stage, finetune, load_model, pretrain
from graphssl.training.carry import weights_hash


def test_a_stage_starts_from_the_loss_of_the_one_before(chain, in_stages, general_images):
    """On the same subjects with the same objective there is no jump: encoder and decoder go on."""
    table = chain.stages.set_index("stage")
    assert table.loc["again", "validation_loss_before"] == table.loc["task", "validation_loss"]
    assert table.loc["task", "objective_weights"] == table.loc["again", "objective_weights"] == "kept"
    new = in_stages([Stage("general", general_images), Stage("task"), Stage("again", epochs=1, keep_objective=False)]).stages.set_index("stage")
    assert new.loc["again", "validation_loss_before"] != table.loc["task", "validation_loss"]
    assert new.loc["again", "objective_weights"] == "new"
    assert new.loc["again", "parent"] == table.loc["task", "weights"]


def test_the_first_stage_is_an_ordinary_pre_training(chain, general_images, same_weights, autoencoder):
    model = pretrain(general_images, **autoencoder())
    assert same_weights(model, chain.models["general"])
    assert model.card["epoch kept"] == chain.models["general"].card["epoch kept"]
    ours = chain.history[chain.history["stage"] == "general"].drop(columns="stage").reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, model.history, check_exact=True)


def test_every_weight_has_a_record_of_where_it_came_from(chain, task_images, general_images, tmp_path, autoencoder):
    saved = load_model(chain.model.save_pretrained(tmp_path / "model"))
    records = saved.card["stages"]
    assert [record["stage"] for record in records] == ["general", "task", "again", "still"]
    assert [record["cohort"]["hash"] for record in records] == [general_images.hash, *[task_images.hash] * 3]
    assert [record["epochs"] for record in records] == [2, 2, 1, 0]
    assert [record["initialisation"]["from"] for record in records] == ["random weights", "stage general", "stage task", "stage again"]
    assert [record["initialisation"]["weights"] for record in records[1:]] == [record["weights"] for record in records[:-1]]
    assert records[-1]["weights"] == weights_hash(saved.encoder.state_dict()) == records[-2]["weights"]
    assert all(record["objective"] == repr(autoencoder()["objective"]) for record in records)
    assert 0 <= records[0]["probe"]["auroc"] <= 1
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "    2. stage: task; cohort: {'name': 'task'" in card
    tuned = finetune(chain.model, task_images, mode="probe")
    assert tuned.card["stages"] == records


def test_a_probe_within_a_stage_stands_in_the_history_and_changes_nothing(chain, in_stages, general_images, task_images, same_weights):
    found = in_stages([Stage("general", general_images, epochs=2, probe_every=2)], probe=Probe(task_images))
    assert found.history["probe_auroc"].notna().tolist() == [False, True]
    assert found.history["probe_auroc"].iloc[-1] == found.stages["probe_auroc"].iloc[0] or found.history["validation_loss"].is_monotonic_increasing
    assert same_weights(found.model, chain.models["general"])


@dataclass(frozen=True, eq=False)
class Killing(Probe):
    """A probe that kills its process the given time it is asked, as no code can catch."""

    deadly: int = 0
    asked: list = field(default_factory=list)

    def score(self, model):
        self.asked.append(model)
        if len(self.asked) == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(model)


def killed(run):
    """Whether a process of its own that runs this is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, none of which holds a lock here
        child = os.fork()
    if not child:
        try:
            run()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def contents(folder):
    """Every file but the checkpoints, which hold times."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".ckpt"}


def test_a_chain_killed_in_the_middle_of_stages_ends_as_an_unbroken_one(in_stages, general_images, task_images, tmp_path, same_weights, autoencoder):
    stages = [Stage("general", general_images, epochs=2, probe_every=1), Stage("task", epochs=3, probe_every=1)]

    def run(folder, probe):
        return in_stages(stages, probe=probe, folder=folder, encoder=autoencoder(dropout=0.1)["encoder"])

    expected = run(tmp_path / "unbroken", Probe(task_images))
    # After the second epoch of the first stage; then, the checkpoint of the first epoch being there, after the second epoch of the second.
    for deadly, started in ((2, ["1-general"]), (4, ["1-general", "2-task"])):
        assert killed(lambda deadly=deadly: run(tmp_path / "killed", Killing(task_images, deadly=deadly)))
        assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == started
    found = run(tmp_path / "killed", Probe(task_images))
    assert same_weights(found.model, expected.model)
    pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)
    pd.testing.assert_frame_equal(found.stages, expected.stages, check_exact=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


def test_what_a_chain_is_told_is_checked(in_stages, task_images):
    with pytest.raises(ConfigError, match="Expected at least one stage, found none"):
        in_stages([])
    with pytest.raises(ConfigError, match="Expected another name for each stage, found 'a' twice"):
        in_stages([Stage("a"), Stage("a")])
    with pytest.raises(ConfigError, match="Expected a cohort for stage 'a', found none"):
        in_stages([Stage("a")], cohort=None)
    assert isinstance(in_stages([Stage("a", epochs=0)]).model, Model)
