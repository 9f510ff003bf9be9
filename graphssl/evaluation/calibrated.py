"""Linear classifiers whose scores become probabilities through subjects they were not fitted on, training subjects all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from graphssl.errors import DataError

_FLAT = 1e-3
_ALPHAS = tuple(10.0 ** (k / 2) for k in range(-6, 7))
_FOLDS = 5


class RidgeProbability(ClassifierMixin, BaseEstimator):
    """Ridge classification with a penalty chosen, and probabilities calibrated, by leave-one-out on the training subjects.

    Leave-one-out values of ridge regression have a closed form, so both cost one decomposition; probabilities come from a logistic curve through
    the left-out values (Platt scaling).

    Args:
        alphas: Penalties to choose from.
    """

    def __init__(self, alphas: Sequence[float] = _ALPHAS) -> None:
        self.alphas = alphas

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> "RidgeProbability":
        """Fit on features `[n, F]` and class indices `[n]`."""
        self.classes_, counts = np.unique(y, return_counts=True)
        positive = _one_column_a_curve(y, self.classes_)
        weight = len(y) / (len(counts) * counts[np.searchsorted(self.classes_, y)])
        self.ridge_ = RidgeCV(list(self.alphas), scoring="neg_mean_squared_error", store_cv_results=True)
        self.ridge_.fit(X, np.where(positive, 1.0, -1.0), sample_weight=weight)
        best = int(np.argmin(np.abs(np.asarray(self.alphas) - self.ridge_.alpha_)))
        left_out = np.asarray(self.ridge_.cv_results_)[..., best]
        self.curves_ = _rising_curves(left_out.reshape(positive.shape), positive)
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`."""
        return _probabilities(self.curves_, np.asarray(self.ridge_.predict(X)).reshape(len(X), -1))


class SvmProbability(ClassifierMixin, BaseEstimator):
    """A linear support vector machine, one class against the rest, with probabilities calibrated on left-out training subjects.

    Inner products are worked out once and serve every fold, so calibration costs little beside the fit. Probabilities come from a logistic curve
    through the values of left-out subjects (Platt 1999), in as many folds as the rarest class has subjects and five at most.

    Args:
        C: Inverse penalty.
        random_state: Seed of the folds.
    """

    def __init__(self, C: float = 1.0, random_state: int = 0) -> None:
        self.C = C
        self.random_state = random_state

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> "SvmProbability":
        """Fit on features `[n, F]` and class indices `[n]`.

        Raises:
            DataError: If a class has one subject only.
        """
        self.classes_, counts = np.unique(y, return_counts=True)
        if counts.min() < 2:
            raise DataError(f"Expected at least two subjects of each class to calibrate on, found {dict(zip(self.classes_, counts, strict=True))}.")
        positive = _one_column_a_curve(y, self.classes_)
        products = X @ X.T
        machine = OneVsRestClassifier(SVC(kernel="precomputed", C=self.C, class_weight="balanced"))
        folds = StratifiedKFold(min(_FOLDS, int(counts.min())), shuffle=True, random_state=self.random_state)
        left_out = cross_val_predict(machine, products, y, cv=folds, method="decision_function")
        self.machine_ = machine.fit(products, y)
        self.train_ = X
        self.curves_ = _rising_curves(left_out.reshape(positive.shape), positive)
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`."""
        return _probabilities(self.curves_, np.asarray(self.machine_.decision_function(X @ self.train_.T)).reshape(len(X), -1))


def _one_column_a_curve(y: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether a subject is of a class: the second one of two `[n, 1]`, else each `[n, C]`."""
    return np.asarray(y[:, None] == (classes[1:] if len(classes) == 2 else classes))


def _rising_curves(values: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> list[LogisticRegression]:
    """A logistic curve through left-out values that never falls, one a column.

    Leaving a subject out draws the mean away from it, so that values without any signal fall as the class rises; a falling curve would then turn
    the classifier around. Where it falls, nothing is known but the order: almost flat, at one half.
    """
    curves = []
    for k in range(positive.shape[1]):
        curve = LogisticRegression(C=1e4, class_weight="balanced").fit(values[:, [k]], positive[:, k])
        if curve.coef_[0, 0] <= 0:
            curve.coef_[:], curve.intercept_[:] = _FLAT, 0.0
        curves.append(curve)
    return curves


def _probabilities(curves: Sequence[LogisticRegression], values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    shares = expit(np.column_stack([curve.decision_function(values[:, [k]]) for k, curve in enumerate(curves)]))
    if shares.shape[1] == 1:
        return np.column_stack([1 - shares, shares])
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
