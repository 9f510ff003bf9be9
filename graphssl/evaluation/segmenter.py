"""What segments images, as protocols fit it: a pre-trained encoder with a decoder, and the mean mask beside it."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator

from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.errors import DataError
from graphssl.estimators import WITHHELD, ConnectomeClassifier
from graphssl.evaluation.segmentation import evaluate_segmentation, scores_by_image
from graphssl.training.segment import SEGMENTATION, SEGMENTATION_TRAINING, SegmentationSettings, finetune_segmentation, masked_rows


class Segmenter(BaseEstimator):
    """Pre-trains an encoder on all training images, then trains it with a decoder on those whose mask may be read.

    Args:
        classifier: Says what is pre-trained and how, and how long the segmentation is trained (`finetuning`); its head is not used. Its mode
            `"probe"` leaves the encoder as it is.
        segmentation: What is learned from the masks.

    Attributes:
        model_: The fitted [`Model`][graphssl.training.Model].
    """

    def __init__(self, classifier: ConnectomeClassifier, segmentation: SegmentationSettings = SEGMENTATION) -> None:
        self.classifier = classifier
        self.segmentation = segmentation

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "Segmenter":
        """Pre-train on all of the cohort, segment those whose mask may be read.

        Args:
            X: Training cohort of `n` subjects.
            y: `-1` for subjects whose masks are withheld, else 0 `[n]`.
            groups: Not used; the cohort knows its families and repeated scans.
        """
        frozen = self.segmentation.frozen or self.classifier.mode == "probe"
        self.model_ = finetune_segmentation(
            self.classifier.pretrain_cohort(X),
            X.select(np.asarray(y) != WITHHELD),
            segmentation=replace(self.segmentation, frozen=frozen),
            settings=self.classifier.finetuning or SEGMENTATION_TRAINING,
            seed=self.classifier.seed,
        )
        return self

    def score_masks(self, X: Cohort) -> pd.DataFrame:
        """Scores of every image and class, as `evaluate_segmentation` gives them."""
        return evaluate_segmentation(self.model_, X, window=self.segmentation.window)


class MeanMask(BaseEstimator):
    """The class that most training masks have at each voxel: what is known of an organ's place without a look at the image.

    Args:
        builder: How images are prepared; an `ImageBuilder` when left out.

    Attributes:
        builder_: The builder, fitted on training subjects.
        mask_: Class of every voxel `[*S]`.
    """

    def __init__(self, builder: ImageBuilder | None = None) -> None:
        self.builder = builder

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "MeanMask":
        """Count the classes of the training masks; arguments as those of `Segmenter`.

        Raises:
            DataError: If nobody has a mask.
        """
        self.builder_ = ImageBuilder(**({} if self.builder is None else self.builder.get_params())).fit(X)
        known = X.select(np.asarray(y) != WITHHELD)
        if not any(data.has_masks for data in known.images.values()):
            raise DataError(f"Expected {X.name!r} to have segmentation masks, found none. Load them with masks.")
        batch = masked_rows(self.builder_, known)
        votes = torch.zeros(len(self.builder_.classes_), *batch.shape[2:], dtype=torch.long)
        for rows in torch.arange(len(batch)).split(_ROWS_AT_ONCE):
            masks = batch[rows.tolist()].masks
            assert masks is not None
            votes += torch.stack([(masks == k).sum(dim=0) for k in range(len(votes))])
        self.mask_ = votes.argmax(dim=0)
        return self

    def score_masks(self, X: Cohort) -> pd.DataFrame:
        """Scores of every image and class, as `evaluate_segmentation` gives them."""
        batch = self.builder_.transform(X)
        return scores_by_image(self.mask_.expand(len(batch), *self.mask_.shape), batch, self.builder_)


_ROWS_AT_ONCE = 16
