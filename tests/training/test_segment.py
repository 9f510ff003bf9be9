"""Fine-tuning for segmentation: what is learned, from whom, and the model on disk."""

from dataclasses import replace

import pytest
import torch

from graphssl.data import ImageBuilder
from graphssl.encoders import ResNet
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.training import Model, TrainingSettings, finetune_segmentation
from graphssl.training.model import load_model
from graphssl.views import RandomWindow

QUICK = TrainingSettings(max_epochs=8, batch_size=4, learning_rate=1e-2, accelerator="cpu")


def pretrained(cohort):
    """As pre-training leaves it: images without masks were seen."""
    data = replace(
        cohort.images["image"], table=cohort.images["image"].table.assign(mask_path="", mask_part="", mask_hash=""), classes=(), mask_values=()
    )
    builder = ImageBuilder().fit(replace(cohort, images={"image": data}))
    torch.manual_seed(0)
    return Model(builder, ResNet(2, 1, 4, (1, 1), stem="small", norm="group").eval())


@pytest.fixture(scope="module")
def cohort(squares, tmp_path_factory):
    return squares(tmp_path_factory.mktemp("squares"), n=16, unmasked=2)


@pytest.fixture(scope="module")
def tuned(cohort):
    model = pretrained(cohort)
    before = {name: weight.clone() for name, weight in model.encoder.state_dict().items()}
    tuned = finetune_segmentation(model, cohort, width=4, settings=QUICK)
    assert all(weight.equal(before[name]) for name, weight in model.encoder.state_dict().items())
    return tuned


def test_squares_of_new_images_are_found(tuned, squares, tmp_path):
    new = squares(tmp_path, n=6, seed=1)
    batch = tuned.builder.transform(new)
    found = tuned.segment(batch)
    assert found.shape == (6, 16, 16)
    hit = ((found == 1) & (batch.masks == 1)).sum().item()
    assert 2 * hit / ((found == 1).sum() + (batch.masks == 1).sum()).item() > 0.8
    by_windows = tuned.segment(batch, window=(16, 16))
    assert (by_windows == found).float().mean() > 0.99


def test_it_says_what_it_learned_from(tuned, cohort):
    assert tuned.builder.classes_ == ("background", "square")
    assert tuned.card["classes"] == ["background", "square"]
    assert "14 subjects" in tuned.card["fine-tuned on"]  # two have no mask
    assert {"train_dice", "train_ce", "train_overlap", "validation_loss"} <= set(tuned.history.columns)
    assert "segments into 2 classes" in repr(tuned)
    assert pretrained(cohort).builder.classes_ == ()


def test_a_saved_model_segments_as_before(tuned, squares, tmp_path):
    batch = tuned.builder.transform(squares(tmp_path, n=3, seed=1))
    again = load_model(tuned.save_pretrained(tmp_path / "model"))
    assert again.segment(batch).equal(tuned.segment(batch))
    assert again.decoder.arguments() == tuned.decoder.arguments()
    assert tuned.embed(squares(tmp_path, n=3, seed=1)).equals(again.embed(squares(tmp_path, n=3, seed=1)))


def test_a_frozen_encoder_stays_and_windows_are_drawn(cohort):
    model = pretrained(cohort)
    quick = replace(QUICK, max_epochs=1)
    frozen = finetune_segmentation(model, cohort, width=4, frozen=True, view=RandomWindow((8, 8)), losses={"focal": 1.0}, settings=quick)
    assert all(weight.equal(frozen.encoder.state_dict()[name]) for name, weight in model.encoder.state_dict().items())
    again = finetune_segmentation(model, cohort, width=4, frozen=True, view=RandomWindow((8, 8)), losses={"focal": 1.0}, settings=quick)
    assert all(weight.equal(again.decoder.state_dict()[name]) for name, weight in frozen.decoder.state_dict().items())
    other = finetune_segmentation(model, cohort, width=4, frozen=True, view=RandomWindow((8, 8)), losses={"focal": 1.0}, settings=quick, seed=1)
    assert not other.decoder.heads[0].weight.equal(frozen.decoder.heads[0].weight)


def test_what_cannot_be_segmented_is_refused(cohort, make_cohort):
    from graphssl.encoders import GraphTransformer
    from graphssl.graphs import ConnectomeBuilder

    model = pretrained(cohort)
    without = replace(cohort, images={"image": replace(cohort.images["image"], table=cohort.images["image"].table.assign(mask_path=""))})
    with pytest.raises(DataError, match="Expected segmentation masks beside the images 'image' of 'squares', found none"):
        finetune_segmentation(model, without)
    with pytest.raises(CheckpointError, match="Expected a model with a decoder, found none. Call graphssl.training.finetune_segmentation"):
        model.segment(model.builder.transform(without))
    brains = make_cohort()
    with pytest.raises(ConfigError, match="Expected a model of images to segment, found one of"):
        finetune_segmentation(Model(ConnectomeBuilder().fit(brains), GraphTransformer()), brains)
