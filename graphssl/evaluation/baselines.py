"""Baselines that every method stands beside, with the interface protocols fit: `fit(cohort, y, groups)` and `predict_proba(cohort)`."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data.cohort import Cohort
from graphssl.data.regions import ConnectivityKind
from graphssl.data.transforms import ColumnEncoder
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD
from graphssl.graphs.connectivity import ConnectivityFeatures

BASELINES = ("logistic_correlation", "ridge_correlation", "logistic_tangent", "ridge_tangent", "covariates", "majority")

_FLAT = 1e-3
_ALPHAS = tuple(10.0 ** (k / 2) for k in range(-6, 7))


def make_baseline(name: str, atlases: Sequence[str] | None = None) -> "LabelledOnly":
    """The baseline of that name.

    `logistic_…` is logistic regression with C = 1 and `ridge_…` a ridge classifier whose penalty is chosen by leave-one-out on the training
    subjects, both on features centred and scaled on training subjects (`UnitScaler`): Fisher-z correlations or tangent connectivity.
    `covariates` is logistic regression on the table's covariates alone, which shows what can be read without any scan; other columns, such as
    clinical scores, may spell the target out and are left alone. `majority` answers with the training shares.

    Args:
        name: One of `BASELINES`.
        atlases: Atlases whose connectivity to use, side by side; all of the cohort when left out.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name == "majority":
        return LabelledOnly(DummyClassifier(strategy="prior"), features=None)
    if name == "covariates":
        return LabelledOnly(make_pipeline(ColumnEncoder(roles=("covariate",)), LogisticRegression(class_weight="balanced", max_iter=2000)))
    model, _, kind = name.partition("_")
    models = {"logistic": LogisticRegression(class_weight="balanced", max_iter=2000), "ridge": RidgeProbability()}
    if model not in models or kind not in ("correlation", "tangent"):
        raise ConfigError(f"Expected baselines among {', '.join(BASELINES)}; found {name!r}.")
    return LabelledOnly(make_pipeline(SharedConnectivity(atlases, kind), UnitScaler(), models[model]))  # type: ignore[arg-type]


class LabelledOnly(ClassifierMixin, BaseEstimator):
    """Fits a classifier on the subjects whose label is not withheld (`-1`), for it cannot use the others.

    Args:
        classifier: A scikit-learn classifier; its first step takes a cohort.
        features: None if the classifier does not look at the subjects at all.
    """

    def __init__(self, classifier: Any, features: str | None = "cohort") -> None:
        self.classifier = classifier
        self.features = features

    def fit(self, X: Cohort, y: npt.NDArray[Any], groups: object = None) -> "LabelledOnly":
        """Fit on the labelled subjects."""
        labels = np.asarray(y)
        labelled = X.select(labels != WITHHELD)
        self.classifier_ = clone(self.classifier).fit(self._features(labelled), labels[labels != WITHHELD])
        self.classes_ = self.classifier_.classes_
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`."""
        return np.asarray(self.classifier_.predict_proba(self._features(X)))

    def predict(self, X: Cohort) -> npt.NDArray[Any]:
        """The most probable class of each subject `[n]`."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _features(self, cohort: Cohort) -> Any:
        return cohort if self.features is not None else np.zeros((len(cohort), 1))


class UnitScaler(StandardScaler):
    """Features centred and scaled on training subjects, then divided by the root of their number.

    The mean squared length of a training vector is then 1, and a penalty means the same whatever the number of connections.
    """

    def transform(self, X: npt.NDArray[Any], copy: bool | None = None) -> npt.NDArray[Any]:
        """Scaled features `[n, F]`."""
        return np.asarray(super().transform(X, copy=copy)) / np.sqrt(self.n_features_in_)


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
        positive = y[:, None] == (self.classes_[1:] if len(self.classes_) == 2 else self.classes_)
        weight = len(y) / (len(counts) * counts[np.searchsorted(self.classes_, y)])
        self.ridge_ = RidgeCV(list(self.alphas), scoring="neg_mean_squared_error", store_cv_results=True)
        self.ridge_.fit(X, np.where(positive, 1.0, -1.0), sample_weight=weight)
        best = int(np.argmin(np.abs(np.asarray(self.alphas) - self.ridge_.alpha_)))
        left_out = np.asarray(self.ridge_.cv_results_)[..., best].reshape(positive.shape)
        self.curves_ = [_rising_curve(left_out[:, [k]], positive[:, k]) for k in range(positive.shape[1])]
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`."""
        values = np.asarray(self.ridge_.predict(X)).reshape(len(X), -1)
        logits = [curve.decision_function(values[:, [k]]) for k, curve in enumerate(self.curves_)]
        if len(logits) == 1:
            positive = expit(logits[0])
            return np.column_stack([1 - positive, positive])
        shares = expit(np.column_stack(logits))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _rising_curve(values: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> LogisticRegression:
    """A logistic curve through left-out values that never falls.

    Leaving a subject out draws the mean away from it, so that values without any signal fall as the class rises; a falling curve would then turn
    the ridge around. Where it falls, nothing is known but the order: almost flat, at one half.
    """
    curve = LogisticRegression(C=1e4, class_weight="balanced").fit(values, positive)
    if curve.coef_[0, 0] <= 0:
        curve.coef_[:], curve.intercept_[:] = _FLAT, 0.0
    return curve


class SharedConnectivity(TransformerMixin, BaseEstimator):
    """Connectivity features that baselines of one fold share, so that a tangent reference is worked out once.

    Args:
        atlases: Atlases, side by side; all of the cohort when left out.
        kind: Kind of connectivity, in nilearn's words.
    """

    def __init__(self, atlases: Sequence[str] | None = None, kind: ConnectivityKind = "correlation") -> None:
        self.atlases = atlases
        self.kind = kind

    def fit(self, X: Cohort, y: object = None) -> "SharedConnectivity":
        """Fit on training subjects, unless another baseline has on the same."""
        names = tuple(self.atlases) if self.atlases is not None else tuple(X.regions)
        self.key_ = (X.hash, names, self.kind)
        self.features_: ConnectivityFeatures = _remember(_FITTED, self.key_, lambda: ConnectivityFeatures(list(names), self.kind).fit(X))
        return self

    def transform(self, X: Cohort) -> npt.NDArray[np.float32]:
        """Features `[n, E]` of any subjects."""
        return np.asarray(_remember(_TRANSFORMED, (*self.key_, X.hash), lambda: self.features_.transform(X)))


_FITTED: OrderedDict[Any, Any] = OrderedDict()
_TRANSFORMED: OrderedDict[Any, Any] = OrderedDict()
_MAX_REMEMBERED = 4


def _remember(memory: OrderedDict[Any, Any], key: Any, make: Any) -> Any:
    if key not in memory:
        memory[key] = make()
    memory.move_to_end(key)
    while len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)
    return memory[key]
