"""Fine-tuning for segmentation: an encoder of images and masks in, a model that gives the class of every voxel out."""

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.splits import hold_out
from graphssl.encoders.images.segmentation import DecoderKind
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.segmentation import Segmentation
from graphssl.training.batches import loader
from graphssl.training.fit import TrainingSettings, fit
from graphssl.training.model import Model
from graphssl.views.base import AbstractView


@dataclass(frozen=True)
class SegmentationSettings:
    """What is learned from masks.

    Args:
        losses: Weight of each loss by name, see `SegmentationLoss`; Dice and cross-entropy alike when left out.
        decoder: `"unet"` or `"unetr"`; what fits the encoder when left out.
        width: Channels of the decoder at the scale of the image.
        deep_supervision: Whether coarser scales learn by themselves too.
        view: What is done to images and masks before, such as `ForegroundCrop` where volumes are large.
        frozen: Whether the encoder is left as it is, and the decoder alone is trained.
        window: Voxels of a window that slides over images to be segmented; the whole image when left out.
        min_steps: Steps of the optimiser at least, where few masks make short epochs: epochs and patience are raised as often as it takes, so that
            shares of the masks compare (as Kalapos & Gyires-Tóth, 2022, do by repeating images).
    """

    losses: Mapping[str, float] | None = None
    decoder: DecoderKind | None = None
    width: int = 16
    deep_supervision: bool = True
    view: AbstractView | None = None
    frozen: bool = False
    window: tuple[int, ...] | None = None
    min_steps: int = 0


SEGMENTATION = SegmentationSettings()
SEGMENTATION_TRAINING = TrainingSettings(max_epochs=50, batch_size=8, learning_rate=1e-3, patience=10)


def finetune_segmentation(
    model: Model,
    cohort: Cohort,
    *,
    segmentation: SegmentationSettings = SEGMENTATION,
    settings: TrainingSettings = SEGMENTATION_TRAINING,
    validation_fraction: float = 0.2,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Give a model of images a decoder, and train both on the images that have a mask; validation subjects choose the epoch.

    Args:
        model: A pre-trained model; it is not changed.
        cohort: Training subjects; leave test subjects out of it.
        segmentation: What is learned from the masks.
        settings: How long and how fast the training goes.
        validation_fraction: Share of the subjects that choose the epoch; families stay together.
        seed: Seed of decoder, split, order and windows.
        folder: Where checkpoints go.

    Raises:
        ConfigError: If it is no model of images, or the decoder does not fit its encoder.
        DataError: If the cohort has no masks, or too few subjects have some.
    """
    builder = with_classes(model, cohort)
    known = cohort.select(subjects_with_masks(cohort, builder.name_))
    split = hold_out(known.ids, groups=known.groups.tolist(), test_fraction=validation_fraction, seed=seed)
    train, validation = (masked_rows(builder, known.select(ids)) for ids in (split.train, split.test))
    objective = segmentation_objective(builder, segmentation)
    encoder = copy.deepcopy(model.encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective.prepare(encoder)
    settings = _long_enough(settings, train, segmentation.min_steps)
    fitted = fit(encoder, objective, train, validation, settings, seed=seed, folder=folder, label="segmentation")
    card = {
        **model.card,
        "fine-tuned on": f"masks of {cohort.name}, {len(known)} subjects (cohort hash {cohort.hash})",
        "classes": list(builder.classes_),
    }
    return Model(builder, encoder.eval(), card=card, history=fitted.history, decoder=objective.decode.eval())


def segmentation_objective(builder: ImageBuilder, segmentation: SegmentationSettings) -> Segmentation:
    """What is minimised for the classes that a builder knows."""
    return Segmentation(
        len(builder.classes_),
        segmentation.losses,
        segmentation.decoder,
        len(builder.preparation_.size),
        segmentation.width,
        segmentation.deep_supervision,
        segmentation.view,
        segmentation.frozen,
    )


def _long_enough(settings: TrainingSettings, train: ImageBatch, min_steps: int) -> TrainingSettings:
    """The settings with as many times the epochs, and the patience, as make for that number of steps."""
    steps = settings.max_epochs * len(loader(train, settings.batch_size).sampler)  # type: ignore[arg-type]
    times = max(1, math.ceil(min_steps / steps))
    return replace(settings, max_epochs=times * settings.max_epochs, patience=times * settings.patience)


def subjects_with_masks(cohort: Cohort, images: str) -> list[str]:
    """Subjects with a segmentation mask beside an image, in the order of the cohort."""
    table = cohort.images[images].table
    known = set(table["subject_id"][table["mask_path"] != ""])
    return [subject for subject in cohort.ids if subject in known]


def with_classes(model: Model, cohort: Cohort) -> ImageBuilder:
    """The model's builder, which knows the classes of the cohort's masks.

    Raises:
        ConfigError: If it is no model of images.
        DataError: If the cohort has no masks.
    """
    if not isinstance(model.builder, ImageBuilder):
        raise ConfigError(f"Expected a model of images to segment, found one of {', '.join(model.builder.describe())}.")
    builder = copy.copy(model.builder)
    data = cohort.images.get(builder.name_)
    if data is None or not data.has_masks:
        raise DataError(f"Expected segmentation masks beside the images {builder.name_!r} of {cohort.name!r}, found none. Load them with masks.")
    builder.classes_ = data.classes
    return builder


def masked_rows(builder: ImageBuilder, cohort: Cohort) -> ImageBatch:
    """The images of a cohort that have a mask; a subject may have some without."""
    table = cohort.images[builder.name_].select(cohort.ids).table
    return builder.transform(cohort)[(table["mask_path"] != "").to_numpy().nonzero()[0].tolist()]
