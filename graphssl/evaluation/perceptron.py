"""A multilayer perceptron that stops in time, the baseline that is neither linear nor a graph network."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

_VALIDATION = 0.2
# With fewer subjects of a class than this its share of the validation set would be one or none.
_ENOUGH = 10
_BATCH = 32
_EPOCHS = 100
_PATIENCE = 20
_EPOCHS_BLIND = 20


class Perceptron(ClassifierMixin, BaseEstimator):
    """scikit-learn's `MLPClassifier`, stopped early on a fifth of the training subjects, with every class weighing the same.

    Where a class has fewer than ten labelled subjects there is nothing to choose the epoch on: it trains for twenty epochs on all of them.

    Args:
        hidden: Width of the hidden layer.
        alpha: Weight decay.
        seed: Seed of weights, order and validation subjects.
    """

    def __init__(self, hidden: int = 64, alpha: float = 1e-2, seed: int = 0) -> None:
        self.hidden = hidden
        self.alpha = alpha
        self.seed = seed

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> "Perceptron":
        """Fit on features `[n, F]` and class indices `[n]`."""
        self.classes_, member, counts = np.unique(y, return_inverse=True, return_counts=True)
        early = bool(counts.min() >= _ENOUGH)
        self.network_ = MLPClassifier(
            (self.hidden,),
            alpha=self.alpha,
            batch_size=_BATCH if len(y) >= 2 * _BATCH else "auto",
            early_stopping=early,
            validation_fraction=_VALIDATION,
            n_iter_no_change=_PATIENCE,
            max_iter=_EPOCHS if early else _EPOCHS_BLIND,
            random_state=self.seed,
        )
        with warnings.catch_warnings():  # the last epoch was reached, which is meant where none is chosen
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.network_.fit(X, y, sample_weight=len(y) / (len(counts) * counts[member]))
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`."""
        return np.asarray(self.network_.predict_proba(X))
