"""Fine-tuning for segmentation: what is learned, from whom, and the model on disk."""

from dataclasses import replace

import pytest
import torch

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import GraphTransformer, ResNet
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.graphs import ConnectomeBuilder
from graphssl.training import Model, SegmentationSettings, TrainingSettings, finetune_segmentation, load_model
from graphssl.training.segment import subjects_with_masks
from graphssl.views import ForegroundCrop

QUICK = TrainingSettings(max_epochs=12, batch_size=4, learning_rate=1e-2, accelerator="cpu")
NO_MASK = {"mask_path": "", "mask_part": "", "mask_hash": ""}


def without_masks(cohort, subjects):
    data = cohort.images["images"]
    gone = data.table["subject_id"].isin(subjects)
    return replace(cohort, images={"images": replace(data, table=data.table.assign(**{name: data.table[name].mask(gone, "") for name in NO_MASK}))})


def pretrained(cohort):
    """As pre-training leaves it: images without masks were seen."""
    data = cohort.images["images"]
    unlabelled = replace(data, table=data.table.assign(**NO_MASK), classes=(), mask_values=())
    torch.manual_seed(0)
    encoder = ResNet(2, 1, 4, (1, 1), stem="small", norm="group").eval()
    return Model(ImageBuilder().fit(replace(cohort, images={"images": unlabelled})), encoder)


@pytest.fixture(scope="module")
def cohort():
    made = simulate_images(16, size=16, effect=4.0, n_sites=1)
    return without_masks(made, made.ids[-2:])


@pytest.fixture(scope="module")
def tuned(cohort):
    model = pretrained(cohort)
    before = {name: weight.clone() for name, weight in model.encoder.state_dict().items()}
    tuned = finetune_segmentation(model, cohort, segmentation=SegmentationSettings(width=4), settings=QUICK)
    assert all(weight.equal(before[name]) for name, weight in model.encoder.state_dict().items())
    return tuned


@pytest.fixture(scope="module")
def new(tuned):
    return tuned.builder.transform(simulate_images(6, size=16, effect=4.0, n_sites=1, seed=1))


def test_lesions_of_new_images_are_found(tuned, new):
    found = tuned.segment(new)
    assert found.shape == (6, 16, 16)
    hit = ((found == 1) & (new.masks == 1)).sum().item()
    assert 2 * hit / ((found == 1).sum() + (new.masks == 1).sum()).item() > 0.6  # 0.23 where everything is called a lesion
    assert (tuned.segment(new, window=(16, 16)) == found).float().mean() > 0.99


def test_it_says_what_it_learned_from(tuned, cohort):
    assert tuned.builder.classes_ == ("tissue", "lesion")
    assert tuned.card["classes"] == ["tissue", "lesion"]
    assert "14 subjects" in tuned.card["fine-tuned on"]  # two have no mask
    assert {"train_dice", "train_ce", "train_overlap", "validation_loss"} <= set(tuned.history.columns)
    assert "segments into 2 classes" in repr(tuned)
    assert pretrained(cohort).builder.classes_ == ()


def test_a_saved_model_segments_as_before(tuned, new, cohort, tmp_path):
    again = load_model(tuned.save_pretrained(tmp_path / "model"))
    assert again.segment(new).equal(tuned.segment(new))
    assert again.decoder.arguments() == tuned.decoder.arguments()
    assert tuned.embed(cohort).equals(again.embed(cohort))


def test_a_frozen_encoder_stays_and_windows_are_drawn_from_the_seed(cohort):
    model = pretrained(cohort)
    quick = replace(QUICK, max_epochs=1)
    settings = SegmentationSettings(losses={"focal": 1.0}, width=4, frozen=True, view=ForegroundCrop((8, 8)))
    frozen, again, other = (finetune_segmentation(model, cohort, segmentation=settings, settings=quick, seed=seed) for seed in (0, 0, 1))
    assert all(weight.equal(frozen.encoder.state_dict()[name]) for name, weight in model.encoder.state_dict().items())
    assert all(weight.equal(again.decoder.state_dict()[name]) for name, weight in frozen.decoder.state_dict().items())
    assert not other.decoder.heads[0].weight.equal(frozen.decoder.heads[0].weight)


def test_few_masks_are_enough_and_one_is_not(cohort):
    model, quick = pretrained(cohort), replace(QUICK, max_epochs=1)
    few = without_masks(cohort, cohort.ids[3:])
    assert "3 subjects" in finetune_segmentation(model, few, segmentation=SegmentationSettings(width=4), settings=quick).card["fine-tuned on"]
    with pytest.raises(DataError, match="Expected at least 2 subjects of each class and 2 groups for 2 folds"):
        finetune_segmentation(model, without_masks(cohort, cohort.ids[1:]), settings=quick)


def test_few_masks_get_as_many_steps_as_are_asked_for(cohort):
    few = without_masks(cohort, cohort.ids[3:])  # two to train on: one step an epoch
    settings = SegmentationSettings(width=4, min_steps=7)
    tuned = finetune_segmentation(pretrained(cohort), few, segmentation=settings, settings=replace(QUICK, max_epochs=3, patience=3))
    assert len(tuned.history) == 9


def test_subjects_with_masks_are_those_with_one_or_more(cohort):
    assert subjects_with_masks(cohort, "images") == list(cohort.ids[:-2])


def test_what_cannot_be_segmented_is_refused(cohort, make_cohort):
    model = pretrained(cohort)
    without = without_masks(cohort, cohort.ids)
    with pytest.raises(DataError, match="Expected segmentation masks beside the images 'images' of 'images', found none"):
        finetune_segmentation(model, without)
    with pytest.raises(CheckpointError, match="Expected a model with a decoder, found none. Call graphssl.training.finetune_segmentation"):
        model.segment(model.builder.transform(without))
    brains = make_cohort()
    with pytest.raises(ConfigError, match="Expected a model of images to segment, found one of"):
        finetune_segmentation(Model(ConnectomeBuilder().fit(brains), GraphTransformer()), brains)
