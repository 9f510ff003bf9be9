"""One stage: its probe, its anchor, its rate, and which weights it kept."""

import pytest
import torch

from graphssl.data import ColumnTokenizer, ImageBuilder
from graphssl.datasets import simulate_images, simulate_table
from graphssl.encoders import ResNet, TableTransformer
from graphssl.errors import CheckpointError, SchemaError
from graphssl.objectives import BYOL, MaskedColumns, MaskedRegions
from graphssl.training import Probe, Stage, TrainingSettings, pretrain, pretrain_stages
from graphssl.views import Flip

QUICK = TrainingSettings(max_epochs=2, batch_size=8, learning_rate=3e-3, accelerator="cpu")
RESNET = {"width": 4, "blocks": (1, 1), "stem": "small"}


def test_a_probe_that_a_stage_cannot_serve_says_why(in_stages, task_images):
    volumes = simulate_images(20, size=16, rank=3)
    found = in_stages([Stage("images", epochs=0)], probe=Probe(volumes))
    [record] = found.model.card["stages"]
    assert record["probe"]["auroc"] is None
    assert "found" in record["probe"]["why"]


def test_an_anchor_holds_the_weights_where_they_were(in_stages, general_images):
    start = in_stages([Stage("general", general_images)])
    away = {}
    for anchor in (0.0, 100.0):
        found = in_stages(
            [Stage("task", initialisation=start.model, anchor=anchor, settings=TrainingSettings(max_epochs=4, batch_size=8, accelerator="cpu"))]
        )
        away[anchor] = sum(
            float((value - start.model.encoder.state_dict()[name]).square().sum()) for name, value in found.model.encoder.state_dict().items()
        )
    assert 0 < away[100.0] < 0.5 * away[0.0]
    assert found.history["train_distance"].iloc[-1] > 0


def test_rates_are_scaled_and_random_weights_begin_anew(in_stages, general_images, task_images, same_weights, autoencoder):
    found = in_stages(
        [Stage("general", general_images, epochs=1), Stage("task", epochs=1, learning_rate_scale=0.1), Stage("alone", initialisation="random")]
    )
    assert found.stages["from"].tolist() == ["random weights", "stage general", "random weights"]
    assert [record["learning_rate"] for record in found.model.card["stages"]] == [3e-3]  # nothing of the stages before is left in it
    assert found.models["task"].card["stages"][1]["learning_rate"] == pytest.approx(3e-4)
    alone = pretrain(task_images, **autoencoder())
    assert same_weights(alone, found.model)


def test_2d_weights_start_a_stage_of_volumes(general_images):
    volumes = simulate_images(16, size=16, rank=3)
    byol = BYOL(view=Flip(), width=8, hidden=8)
    found = pretrain_stages(
        [
            Stage("slices", general_images, encoder=ResNet(**RESNET), builder=ImageBuilder(size=16)),
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
