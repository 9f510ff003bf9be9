"""How well segmentations fit masks: overlap and distance of surfaces, class by class, image by image."""

import itertools
import math
import warnings
from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.errors import DataError
from graphssl.extras import require
from graphssl.training.model import Model

SCORES = ("dice", "iou", "nsd", "hd95")


def evaluate_segmentation(
    model: Model, cohort: Cohort, *, window: Sequence[int] | None = None, overlap: float = 0.5, tolerance: float = 1.0
) -> pd.DataFrame:
    """Scores of every image and class, the background left out, in voxels as the builder prepares them.

    Args:
        model: A model that was fine-tuned for segmentation.
        cohort: Subjects with masks, none of whom it was trained on.
        window: Voxels of a window that slides over each image; the whole image when left out.
        overlap: Share of a window that the next one covers too.
        tolerance: Distance up to which surfaces count as the same, for `nsd`; in the units of `hd95`.

    Returns:
        One row an image and class: `subject`, `row` (the image's place in the batch), `class`, `dice`, `iou`, `nsd` (share of both surfaces that
        lies within the tolerance of the other) and `hd95` (mm where the spacing is known, else voxels). Scores of a class that neither has are NaN;
        the distance to a class that only one of the two has is the diagonal of the image.

    Raises:
        CheckpointError: If the model was not fine-tuned for segmentation.
        DataError: If it is no model of images, or the cohort has no masks.
    """
    batch = model.builder.transform(cohort)
    if not isinstance(batch, ImageBatch):
        raise DataError(f"Expected a model of images to score segmentations, found one of {', '.join(model.builder.describe())}.")
    return scores_by_image(model.segment(batch, window=window, overlap=overlap), batch, model.builder, tolerance=tolerance)


def scores_by_image(predicted: Int[Tensor, "B *S"], batch: ImageBatch, builder: AbstractBuilder, *, tolerance: float = 1.0) -> pd.DataFrame:
    """The table of `evaluate_segmentation` for classes predicted by anything.

    Args:
        predicted: Predicted class of every voxel.
        batch: The images, with masks.
        builder: The `ImageBuilder` that made them.
        tolerance: Distance up to which surfaces count as the same.

    Raises:
        DataError: If there are no masks, or the shapes differ.
    """
    if batch.masks is None:
        raise DataError("Expected images with segmentation masks to score, found none. Load them with masks.")
    assert isinstance(builder, ImageBuilder)
    spacing, shape = builder.preparation_.spacing, batch.masks.shape[1:]
    by_axis = spacing if spacing is not None and len(spacing) == len(shape) else None  # a clip has no spacing along time
    scores = segmentation_scores(predicted, batch.masks, len(builder.classes_), by_axis, tolerance)
    diagonal = math.hypot(*(n * mm for n, mm in zip(shape, by_axis or [1.0] * len(shape), strict=True)))
    scores["hd95"] = scores["hd95"].clamp(max=diagonal)
    rows = [
        {"subject": subject, "row": row, "class": name, **{metric: float(values[row, k]) for metric, values in scores.items()}}
        for (row, subject), (k, name) in itertools.product(enumerate(batch.subject_ids), enumerate(builder.classes_[1:]))
        if (batch.masks[row] >= 0).any()
    ]
    return pd.DataFrame(rows, columns=["subject", "row", "class", *scores])


def mean_scores(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """Means over subjects, then over classes, and the Dice score of each class; several images of a subject count once.

    Args:
        scores: Rows of `evaluate_segmentation`.
        classes: Names of the classes, the background left out.
    """
    by_subject = scores.groupby(["subject", "class"], sort=False)[list(SCORES)].mean()
    by_class = by_subject.groupby("class").mean().reindex(list(classes))
    found = {str(metric): float(value) for metric, value in by_class.mean().items()}
    return found | ({f"dice: {name}": float(value) for name, value in by_class["dice"].items()} if len(classes) > 1 else {})


def segmentation_scores(
    predicted: Int[Tensor, "B *S"], masks: Int[Tensor, "B *S"], n_classes: int, spacing: Sequence[float] | None = None, tolerance: float = 1.0
) -> dict[str, Float[Tensor, "B K"]]:
    """Overlap and distance of surfaces of every image and class but the background.

    These are Dice, intersection over union, the normalised surface distance (Nikolov et al., 2021) and the 95th percentile of the Hausdorff distance,
    as MONAI computes the last two. A class that neither has scores NaN. One that only one of the two has scores 0, and an infinite distance. Voxels
    of unknown class do not count.

    Args:
        predicted: Predicted class of every voxel.
        masks: True class of every voxel, -1 where unknown.
        n_classes: Number of classes, the background among them.
        spacing: Size of a voxel in mm by axis; distances are in voxels when left out.
        tolerance: Distance up to which surfaces count as the same.

    Raises:
        DataError: If the shapes differ, or the tolerance is negative.
        MissingExtraError: If MONAI is not installed.
    """
    if predicted.shape != masks.shape:
        raise DataError(f"Expected predicted classes and masks of one shape, found {list(predicted.shape)} and {list(masks.shape)}.")
    if not tolerance >= 0:
        raise DataError(f"Expected a tolerance of surfaces of at least 0, found {tolerance}.")
    known = masks >= 0
    ours, truth = (_by_class(torch.where(known, each, 0), n_classes) for each in (predicted, masks))
    shared, sizes = (ours & truth).flatten(2).sum(2), ours.flatten(2).sum(2) + truth.flatten(2).sum(2)
    present = sizes > 0
    dice = torch.where(present, 2 * shared / sizes, torch.nan)
    within, distances = _surfaces(ours, truth, spacing, tolerance)
    return {"dice": dice, "iou": torch.where(present, shared / (sizes - shared), torch.nan), "nsd": within, "hd95": distances}


def _by_class(classes: Tensor, n_classes: int) -> Tensor:
    """One mask a class `[B, K, *S]`, the background left out."""
    return F.one_hot(classes.long(), n_classes).movedim(-1, 1)[:, 1:].bool()


def _surfaces(ours: Tensor, truth: Tensor, spacing: Sequence[float] | None, tolerance: float) -> tuple[Tensor, Tensor]:
    """Share of both surfaces within the tolerance of the other, and the 95th percentile of their distances, each `[B, K]`."""
    metrics = require("monai.metrics", extra="imaging", purpose="measure distances of surfaces")
    within, found = (torch.full(ours.shape[:2], torch.nan) for _ in range(2))
    for row, k in itertools.product(*map(range, ours.shape[:2])):
        pair = ours[row, k][None, None], truth[row, k][None, None]
        there = [bool(each.any()) for each in pair]
        if all(there):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of an argument that it gives to itself
                distance = metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
                share = metrics.compute_surface_dice(*pair, [tolerance], include_background=True, spacing=spacing)
            found[row, k], within[row, k] = float(distance), float(share)
        elif any(there):
            found[row, k], within[row, k] = torch.inf, 0.0
    return within, found
