"""Stages: each goes on where the last one ended, says where its weights came from, and a killed chain ends as an unbroken one."""

import json
import os
import signal
import warnings
from dataclasses import dataclass, field

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from graphssl.data import ColumnTokenizer, ImageBuilder
from graphssl.datasets import simulate_images, simulate_table
from graphssl.encoders import ResNet, TableTransformer, VisionTransformer
from graphssl.errors import CheckpointError, ConfigError, RunFolderError, SchemaError
from graphssl.objectives import BYOL, MaskedColumns, MaskedPatches, MaskedRegions
from graphssl.training import Model, Probe, Stage, TrainingSettings, finetune, load_model, pretrain, pretrain_stages
from graphssl.training.carry import weights_hash
from graphssl.views import Flip

QUICK = TrainingSettings(max_epochs=2, batch_size=8, learning_rate=3e-3, accelerator="cpu")
VIT = {"patch_size": 4, "width": 8, "depth": 1, "heads": 2, "n_maps": 1}
MASKED = MaskedPatches(width=8, depth=1, heads=2)
RESNET = {"width": 4, "blocks": (1, 1), "stem": "small"}


@pytest.fixture(scope="module")
def images():
    return simulate_images(24, size=16, effect=2.0, name="task")


@pytest.fixture(scope="module")
def others():
    return simulate_images(20, size=16, seed=7, name="general")


@pytest.fixture(scope="module")
def masked(images):
    """`masked(stages, **changes)`: a chain of masked autoencoders on the small images."""

    def chain(stages, cohort=images, **changes):
        told = {"objective": MASKED, "encoder": VisionTransformer(**VIT), "builder": ImageBuilder(size=16), "settings": QUICK}
        return pretrain_stages(stages, cohort, **{**told, **changes})

    return chain


@pytest.fixture(scope="module")
def chain(masked, others, images):
    """General images, those of the task twice, the last time without training; do not change it."""
    return masked([Stage("general", others), Stage("task"), Stage("again", epochs=1), Stage("still", epochs=0)], probe=Probe(images))


def weights(model):
    return model.encoder.state_dict()


def same(model, other):
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(model).items())


def test_a_stage_starts_from_the_loss_of_the_one_before(chain, masked, others):
    """On the same subjects with the same objective there is no jump: encoder and decoder go on."""
    table = chain.stages.set_index("stage")
    assert table.loc["again", "validation_loss_before"] == table.loc["task", "validation_loss"]
    assert table.loc["task", "objective_weights"] == table.loc["again", "objective_weights"] == "kept"
    new = masked([Stage("general", others), Stage("task"), Stage("again", epochs=1, keep_objective=False)]).stages.set_index("stage")
    assert new.loc["again", "validation_loss_before"] != table.loc["task", "validation_loss"]
    assert new.loc["again", "objective_weights"] == "new"
    assert new.loc["again", "parent"] == table.loc["task", "weights"]


def test_the_first_stage_is_an_ordinary_pre_training(chain, others):
    model = pretrain(others, objective=MASKED, encoder=VisionTransformer(**VIT), builder=ImageBuilder(size=16), settings=QUICK)
    assert same(model, chain.models["general"])
    assert model.card["epoch kept"] == chain.models["general"].card["epoch kept"]
    ours = chain.history[chain.history["stage"] == "general"].drop(columns="stage").reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, model.history, check_exact=True)


def test_every_weight_has_a_record_of_where_it_came_from(chain, images, others, tmp_path):
    saved = load_model(chain.model.save_pretrained(tmp_path / "model"))
    records = saved.card["stages"]
    assert [record["stage"] for record in records] == ["general", "task", "again", "still"]
    assert [record["cohort"]["hash"] for record in records] == [others.hash, *[images.hash] * 3]
    assert [record["epochs"] for record in records] == [2, 2, 1, 0]
    assert [record["initialisation"]["from"] for record in records] == ["random weights", "stage general", "stage task", "stage again"]
    assert [record["initialisation"]["weights"] for record in records[1:]] == [record["weights"] for record in records[:-1]]
    assert records[-1]["weights"] == weights_hash(weights(saved)) == records[-2]["weights"]
    assert all(record["objective"] == repr(MASKED) for record in records)
    assert 0 <= records[0]["probe"]["auroc"] <= 1
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "    2. stage: task; cohort: {'name': 'task'" in card
    tuned = finetune(chain.model, images, mode="probe")
    assert tuned.card["stages"] == records


def test_a_probe_within_a_stage_stands_in_the_history_and_changes_nothing(chain, masked, others, images):
    found = masked([Stage("general", others, epochs=2, probe_every=2)], probe=Probe(images))
    assert found.history["probe_auroc"].notna().tolist() == [False, True]
    assert found.history["probe_auroc"].iloc[-1] == found.stages["probe_auroc"].iloc[0] or found.history["validation_loss"].is_monotonic_increasing
    assert same(found.model, chain.models["general"])


def test_a_probe_that_a_stage_cannot_serve_says_why(masked, images):
    volumes = simulate_images(20, size=16, rank=3)
    found = masked([Stage("images", epochs=0)], probe=Probe(volumes))
    [record] = found.model.card["stages"]
    assert record["probe"]["auroc"] is None
    assert "found" in record["probe"]["why"]


def test_an_anchor_holds_the_weights_where_they_were(masked, others):
    start = masked([Stage("general", others)])
    away = {}
    for anchor in (0.0, 100.0):
        found = masked(
            [Stage("task", initialisation=start.model, anchor=anchor, settings=TrainingSettings(max_epochs=4, batch_size=8, accelerator="cpu"))]
        )
        away[anchor] = sum(float((value - weights(start.model)[name]).square().sum()) for name, value in weights(found.model).items())
    assert 0 < away[100.0] < 0.5 * away[0.0]
    assert found.history["train_distance"].iloc[-1] > 0


def test_rates_are_scaled_and_random_weights_begin_anew(masked, others, images):
    found = masked([Stage("general", others, epochs=1), Stage("task", epochs=1, learning_rate_scale=0.1), Stage("alone", initialisation="random")])
    assert found.stages["from"].tolist() == ["random weights", "stage general", "random weights"]
    assert [record["learning_rate"] for record in found.model.card["stages"]] == [3e-3]  # nothing of the stages before is left in it
    assert found.models["task"].card["stages"][1]["learning_rate"] == pytest.approx(3e-4)
    alone = pretrain(images, objective=MASKED, encoder=VisionTransformer(**VIT), builder=ImageBuilder(size=16), settings=QUICK)
    assert same(alone, found.model)


def test_stages_start_from_folders_files_and_models(chain, masked, others, tmp_path):
    whole = masked([Stage("general", others), Stage("task")], folder=tmp_path / "chain")
    first = tmp_path / "chain" / "1-general"
    by_folder = masked([Stage("task", initialisation=first)])
    assert same(by_folder.model, whole.model)
    assert [record["stage"] for record in by_folder.model.card["stages"]] == ["general", "task"]
    assert same(masked([Stage("task", initialisation=whole.models["general"], keep_objective=False)]).model, whole.model) is False
    bare = chain.models["general"].save_pretrained(tmp_path / "bare")  # without the weights of the decoder
    assert masked([Stage("task", initialisation=str(bare))]).stages["objective_weights"].tolist() == ["new"]
    with pytest.raises(CheckpointError, match="Stage 'task': Expected weights of MaskedPatches to go on with, found none"):
        masked([Stage("task", initialisation=str(bare), keep_objective=True)])
    save_file({name: value.clone() for name, value in weights(chain.models["general"]).items()}, tmp_path / "weights.safetensors")
    by_file = masked([Stage("task", initialisation=tmp_path / "weights.safetensors", epochs=0)])
    assert same(by_file.model, chain.models["general"])
    assert by_file.stages["parent"].tolist() == [chain.stages["weights"][0]]


def test_a_pre_trained_run_that_is_no_chain_is_told_by_its_card(masked, others, tmp_path):
    model = pretrain(others, objective=MASKED, encoder=VisionTransformer(**VIT), builder=ImageBuilder(size=16), settings=QUICK)
    folder = model.save_pretrained(tmp_path / "run" / "encoder")
    [record] = masked([Stage("task", initialisation=folder.parent, epochs=0)]).model.card["stages"]
    assert record["initialisation"]["card"]["objective"] == model.card["objective"]


def test_2d_weights_start_a_stage_of_volumes(others):
    volumes = simulate_images(16, size=16, rank=3)
    byol = BYOL(view=Flip(), width=8, hidden=8)
    found = pretrain_stages(
        [
            Stage("slices", others, encoder=ResNet(**RESNET), builder=ImageBuilder(size=16)),
            Stage("volumes", epochs=0, inflation="centre"),
        ],
        volumes,
        objective=byol,
        encoder=ResNet(3, **RESNET),
        builder=ImageBuilder(size=(8, 16, 16)),
        settings=QUICK,
    )
    assert torch.equal(found.model.encoder.conv1.weight[:, :, 1], found.models["slices"].encoder.conv1.weight)
    kept = found.stages["objective_weights"].tolist()
    assert kept[0] == "new"
    assert kept[1].startswith("new, for there were teacher")
    assert found.stages["encoder_weights"].tolist() == ["new", "kept"]


def test_connectomes_go_on_in_another_atlas(make_cohort, make_encoder):
    """Tokens stand for places, so a stage may have another atlas; the decoder goes on too."""
    stages = [Stage("public", make_cohort(n_regions=10, seed=2)), Stage("cohort", epochs=1)]
    found = pretrain_stages(stages, make_cohort(), objective=MaskedRegions(rank=4), encoder=make_encoder(), settings=QUICK)
    assert found.stages["encoder_weights"].tolist() == ["new", "kept"]
    assert found.stages["objective_weights"].tolist() == ["new", "kept"]
    with pytest.raises(CheckpointError, match=r"Stage 'wider': Expected weights of every part of GraphTransformer .*\[8\] in place of \[16\]"):
        pretrain_stages([stages[0], Stage("wider", encoder=make_encoder(width=16))], make_cohort(), encoder=make_encoder(), settings=QUICK)


def test_tables_share_columns_by_name():
    cohort = simulate_table(n_subjects=60, columns=6).cohort
    names = list(cohort.schema.named("feature"))
    told = {"objective": MaskedColumns(), "encoder": TableTransformer(width=8, depth=1, heads=2), "settings": QUICK}
    stages = [Stage("some", builder=ColumnTokenizer(columns=names[:4])), Stage("same", builder=ColumnTokenizer(columns=names[:4]), epochs=1)]
    found = pretrain_stages([*stages, Stage("all", epochs=1)], cohort, builder=ColumnTokenizer(columns=names), **told)
    assert found.stages["validation_loss_before"][1] == found.stages["validation_loss"][0]
    assert found.stages["objective_weights"].tolist() == ["new", "kept", "new, for there were those of other columns, codes or categories"]
    with pytest.raises(CheckpointError, match="Stage 'all': Expected weights of MaskedColumns to go on with, found those of other columns"):
        pretrain_stages([stages[0], Stage("all", keep_objective=True)], cohort, builder=ColumnTokenizer(columns=names), **told)
    with pytest.raises(SchemaError, match="Stage 'others': "):
        pretrain_stages([stages[0], Stage("others", builder=ColumnTokenizer(columns=names[4:]))], cohort, **told)


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


def test_a_chain_killed_in_the_middle_of_stages_ends_as_an_unbroken_one(masked, others, images, tmp_path):
    stages = [Stage("general", others, epochs=2, probe_every=1), Stage("task", epochs=3, probe_every=1)]

    def run(folder, probe):
        return masked(stages, probe=probe, folder=folder, encoder=VisionTransformer(**VIT, dropout=0.1))

    expected = run(tmp_path / "unbroken", Probe(images))
    # After the second epoch of the first stage; then, the checkpoint of the first epoch being there, after the second epoch of the second.
    for deadly, started in ((2, ["1-general"]), (4, ["1-general", "2-task"])):
        assert killed(lambda deadly=deadly: run(tmp_path / "killed", Killing(images, deadly=deadly)))
        assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == started
    found = run(tmp_path / "killed", Probe(images))
    assert same(found.model, expected.model)
    pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)
    pd.testing.assert_frame_equal(found.stages, expected.stages, check_exact=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


def test_a_chain_that_is_done_is_taken_up_and_no_other(masked, others, tmp_path):
    stages = [Stage("general", others, epochs=1), Stage("task", epochs=1)]
    first = masked(stages, folder=tmp_path, objective=BYOL(view=Flip(), width=8, hidden=8), encoder=ResNet(**RESNET))
    again = masked(stages, folder=tmp_path, objective=BYOL(view=Flip(), width=8, hidden=8), encoder=ResNet(**RESNET))
    assert same(first.model, again.model)
    assert same(first.model.with_target_encoder(), again.model.with_target_encoder())
    pd.testing.assert_frame_equal(first.stages, again.stages)
    provenance = json.loads((tmp_path / "2-task" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["initialisation"] == {"from": "stage general", "weights": first.stages["weights"][0]}
    assert set(load_file(tmp_path / "2-task" / "objective.safetensors")) >= {name for name, _ in first.model.objective.named_parameters()}
    with pytest.raises(RunFolderError, match="Stage 'general': Expected the stage of this chain in .*1-general, found one of another"):
        masked([Stage("general", epochs=1)], folder=tmp_path, objective=BYOL(view=Flip(), width=8, hidden=8), encoder=ResNet(**RESNET))


def test_damaged_or_foreign_weights_are_refused(masked, others, tmp_path):
    masked([Stage("general", others, epochs=1)], folder=tmp_path)
    (tmp_path / "1-general" / "objective.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="Expected whole safetensors weights at .*objective.safetensors"):
        masked([Stage("task", initialisation=tmp_path / "1-general")])
    (tmp_path / "weights.pth").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"Expected a folder of a model or of a run, or weights in \.safetensors, found the file"):
        masked([Stage("task", initialisation=tmp_path / "weights.pth")])
    with pytest.raises(CheckpointError, match="Stage 'task': Expected a model folder with config.json at .*nowhere, found none"):
        masked([Stage("task", initialisation=tmp_path / "nowhere")])


def test_what_a_chain_is_told_is_checked(masked, images):
    with pytest.raises(ConfigError, match="Expected at least one stage, found none"):
        masked([])
    with pytest.raises(ConfigError, match="Expected another name for each stage, found 'a' twice"):
        masked([Stage("a"), Stage("a")])
    with pytest.raises(ConfigError, match="Expected a cohort for stage 'a', found none"):
        masked([Stage("a")], cohort=None)
    with pytest.raises(ConfigError, match="Expected a name of a stage of letters, digits, - and _, for a folder has it; found 'a b'"):
        Stage("a b")
    for wrong in ({"epochs": -1}, {"learning_rate_scale": 0.0}, {"anchor": -1.0}, {"probe_every": 0}):
        with pytest.raises(ConfigError, match="Expected epochs ≥ 0, learning_rate_scale > 0, anchor ≥ 0 and probe_every ≥ 1 of stage 'a'"):
            Stage("a", **wrong)
    assert isinstance(masked([Stage("a", epochs=0)]).model, Model)
