"""What is left of a method when a modality is missing at test."""

import warnings
import zlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer
from graphssl.data.transforms import ColumnEncoder
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD
from graphssl.evaluation.fitted_once import fitted_once
from graphssl.graphs.connectome import ConnectomeBuilder


class MissingAtTest(ClassifierMixin, BaseEstimator):
    """A method whose test subjects lack a modality: of those who have it a share loses it before the method is asked. Training is as it was.

    Who loses it depends on the seed alone, and those of a smaller share are among those of a larger one, so that shares and methods compare. Whoever
    has nothing left gets the shares of the training labels.

    Args:
        classifier: The method; fitted once for all shares.
        builder: The builder of the modalities.
        modality: Name of the modality.
        share: Share of those with the modality who lose it, in [0, 1].
        seed: Seed of who loses it.

    Attributes:
        classifier_: The fitted method.
        classes_: Class indices.
    """

    def __init__(self, classifier: Any, builder: MultimodalBuilder, modality: str, share: float, seed: int = 0) -> None:
        self.classifier = classifier
        self.builder = builder
        self.modality = modality
        self.share = share
        self.seed = seed

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "MissingAtTest":
        """Fit the method on the training cohort as it is.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Passed on.

        Raises:
            ConfigError: If there is no such modality, or the share is not in [0, 1].
        """
        if self.modality not in self.builder.builders or not 0.0 <= self.share <= 1.0:
            raise ConfigError(
                f"Expected a modality among {', '.join(self.builder.builders)} and a share in [0, 1], found {self.modality!r} and {self.share}."
            )
        labels = np.asarray(y)
        known = labels[labels != WITHHELD]
        self.classifier_ = fitted_once(self.classifier, X, labels, groups)
        self.classes_ = self.classifier_.classes_
        self.shares_ = np.array([(known == label).mean() for label in self.classes_])
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]` after the loss, columns as `classes_`."""
        reader = self.builder.builders[self.modality]
        having = sorted(reader.readable(X))
        order = np.random.default_rng([self.seed, zlib.crc32(self.modality.encode())]).permutation(len(having))
        left = without(X, reader, {having[k] for k in order[: round(self.share * len(having))]})
        there = np.isin(left.ids, self.builder.readable(left))
        found = np.tile(self.shares_, (len(X), 1))
        if there.any():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Nobody of", category=UserWarning)  # which is what is measured
                found[there] = self.classifier_.predict_proba(left.select(there))
        return np.asarray(found)


def missing_name(method: str, modality: str, share: float) -> str:
    """Name of a method whose test subjects lack a modality, such as `pretrained|missing_image_50`; reports know it by that."""
    return f"{method}|missing_{modality}_{round(100 * share)}"


def without(cohort: Cohort, builder: AbstractBuilder, subjects: Collection[str]) -> Cohort:
    """A cohort without what a builder reads of some subjects.

    Args:
        cohort: The cohort.
        builder: A builder of one modality.
        subjects: Who loses it.

    Raises:
        ConfigError: If the builder reads several modalities.
    """
    gone = set(subjects)
    rest = [subject for subject in cohort.ids if subject not in gone]
    if isinstance(builder, ImageBuilder):
        names = [builder.images] if builder.images else list(cohort.images)
        return replace(cohort, images={**cohort.images, **{name: cohort.images[name].select(rest) for name in names if name in cohort.images}})
    if isinstance(builder, ConnectomeBuilder):
        atlases = [name for name in builder.atlases or cohort.regions if name in cohort.regions]
        return replace(cohort, regions={**cohort.regions, **{name: cohort.regions[name].select(rest) for name in atlases}})
    if isinstance(builder, AbstractStreamTokenizer):
        return replace(cohort, events=None if cohort.events is None else cohort.events.select(rest))
    if isinstance(builder, ColumnTokenizer):
        encoder = ColumnEncoder(builder.columns, roles=builder.roles).fit(cohort)
        lost = pd.Series(cohort.subjects.index.isin(gone), index=cohort.subjects.index)
        changed = {column.name: cohort.subjects[column.name].mask(lost) for column in encoder.columns_}
        return replace(cohort, subjects=cohort.subjects.assign(**changed))
    raise ConfigError(f"Expected the builder of one modality, found a {type(builder).__name__}.")
