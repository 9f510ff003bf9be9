"""Fine-tuning for segmentation: an encoder of images and masks in, a model that gives the class of every voxel out."""

import copy
import os
from collections.abc import Mapping

import torch

from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.splits import hold_out
from graphssl.encoders.images.segmentation import DecoderKind
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.segmentation import Segmentation
from graphssl.training.fit import TrainingSettings, fit
from graphssl.training.model import Model
from graphssl.views.base import AbstractView

SEGMENTATION = TrainingSettings(max_epochs=50, batch_size=8, learning_rate=1e-3, patience=10)


def finetune_segmentation(
    model: Model,
    cohort: Cohort,
    *,
    losses: Mapping[str, float] | None = None,
    decoder: DecoderKind | None = None,
    width: int = 16,
    deep_supervision: bool = True,
    view: AbstractView | None = None,
    frozen: bool = False,
    settings: TrainingSettings | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Give a model of images a decoder, and train both on the images that have a mask; validation subjects choose the epoch.

    Args:
        model: A pre-trained model; it is not changed.
        cohort: Training subjects; leave test subjects out of it.
        losses: Weight of each loss by name, see `SegmentationLoss`; Dice and cross-entropy alike when left out.
        decoder: `"unet"` or `"unetr"`; what fits the encoder when left out.
        width: Channels of the decoder at the scale of the image.
        deep_supervision: Whether coarser scales learn by themselves too.
        view: What is done to images and masks before, such as `RandomWindow` where volumes are large.
        frozen: Whether the encoder is left as it is, and the decoder alone is trained.
        settings: How long and how fast the training goes.
        validation_fraction: Share of the subjects that choose the epoch; families stay together.
        seed: Seed of decoder, split, order and windows.
        folder: Where checkpoints go.

    Raises:
        ConfigError: If it is no model of images, or the decoder does not fit its encoder.
        DataError: If the cohort has no masks, or too few subjects have some.
    """
    builder = _with_classes(model, cohort)
    data = cohort.images[builder.name_]
    with_masks = set(data.table["subject_id"][data.table["mask_path"] != ""])
    known = cohort.select([subject for subject in cohort.ids if subject in with_masks])
    split = hold_out(known.ids, groups=known.groups.tolist(), test_fraction=validation_fraction, seed=seed)
    train, validation = (_masked_rows(builder, known.select(ids)) for ids in (split.train, split.test))
    objective = Segmentation(len(builder.classes_), losses, decoder, len(builder.preparation_.size), width, deep_supervision, view, frozen)
    encoder = copy.deepcopy(model.encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective.prepare(encoder)
    fitted = fit(encoder, objective, train, validation, settings or SEGMENTATION, seed=seed, folder=folder, label="segmentation")
    card = {
        **model.card,
        "fine-tuned on": f"masks of {cohort.name}, {len(known)} subjects (cohort hash {cohort.hash})",
        "classes": list(builder.classes_),
    }
    return Model(builder, encoder.eval(), card=card, history=fitted.history, decoder=objective.decode.eval())


def _with_classes(model: Model, cohort: Cohort) -> ImageBuilder:
    """The model's builder, which knows the classes of the cohort's masks."""
    if not isinstance(model.builder, ImageBuilder):
        raise ConfigError(f"Expected a model of images to segment, found one of {', '.join(model.builder.describe())}.")
    builder = copy.copy(model.builder)
    data = cohort.images.get(builder.name_)
    if data is None or not data.has_masks:
        raise DataError(f"Expected segmentation masks beside the images {builder.name_!r} of {cohort.name!r}, found none. Load them with masks.")
    builder.classes_ = data.classes
    return builder


def _masked_rows(builder: ImageBuilder, cohort: Cohort) -> ImageBatch:
    """The images of a cohort that have a mask; a subject may have some without."""
    table = cohort.images[builder.name_].select(cohort.ids).table
    return builder.transform(cohort)[(table["mask_path"] != "").to_numpy().nonzero()[0].tolist()]
