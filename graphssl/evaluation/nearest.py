"""What the nearest training subjects say: a look at an encoder that trains nothing on top of it."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from graphssl.data.cohort import Cohort
from graphssl.errors import DataError
from graphssl.estimators import WITHHELD, ConnectomeClassifier


class NearestNeighborProbe(ClassifierMixin, BaseEstimator):
    """Votes of the labelled training subjects whose vectors are nearest, weighted by `exp(cos / τ)` (Caron et al., ICCV 2021, section 4.1).

    Args:
        classifier: Says what is pre-trained and how; only its encoder is used.
        n_neighbors: Subjects that vote; all that have a label where these are fewer.
        temperature: `τ`.

    Attributes:
        model_: The pre-trained [`Model`][graphssl.training.Model].
        classes_: Class indices.
    """

    def __init__(self, classifier: ConnectomeClassifier, n_neighbors: int = 20, temperature: float = 0.07) -> None:
        self.classifier = classifier
        self.n_neighbors = n_neighbors
        self.temperature = temperature

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "NearestNeighborProbe":
        """Pre-train on all of the cohort, remember the vectors of those with a label.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used.

        Raises:
            DataError: If fewer than two classes are labelled.
        """
        labels = np.asarray(y)
        labelled = labels != WITHHELD
        if len(np.unique(labels[labelled])) < 2:
            raise DataError(f"Expected at least two classes among the labels, found {np.unique(labels[labelled]).tolist()}.")
        self.model_ = self.classifier.pretrain_cohort(X, labels)
        k = min(self.n_neighbors, int(labelled.sum()))
        voters = KNeighborsClassifier(k, metric="euclidean", weights=self._weights)
        self.voters_ = voters.fit(self._vectors(X.select(labelled)), labels[labelled])
        self.classes_ = self.voters_.classes_
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Shares of the votes `[n, C]`, columns as `classes_`."""
        return np.asarray(self.voters_.predict_proba(self._vectors(X)))

    def predict(self, X: Cohort) -> npt.NDArray[Any]:
        """The most probable class of each subject `[n]`."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _vectors(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        return np.asarray(normalize(self.model_.embed(cohort).to_numpy()))

    def _weights(self, distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """`exp((cos − 1) / τ)`, where the squared distance of unit vectors is `2 − 2 cos`."""
        return np.exp(-(distance**2) / (2 * self.temperature))
