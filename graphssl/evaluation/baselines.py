"""Baselines that every method stands beside, with the interface protocols fit: `fit(cohort, y, groups)` and `predict_proba(cohort)`."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data.cohort import Cohort
from graphssl.data.harmonize import UnseenPolicy
from graphssl.data.regions import ConnectivityKind
from graphssl.data.transforms import ColumnEncoder
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD
from graphssl.evaluation.boosting import make_boosting
from graphssl.evaluation.calibrated import RidgeProbability, SvmProbability
from graphssl.evaluation.native_missing import NativeMissing
from graphssl.evaluation.perceptron import Perceptron
from graphssl.evaluation.pixels import ImageFeatures
from graphssl.graphs.connectivity import ConnectivityFeatures
from graphssl.graphs.contrast import ScanContrast
from graphssl.graphs.harmonize import CohortHarmonizer
from graphssl.objectives.supervised import ClassWeight, check_class_weight

_LINEAR = ("logistic", "ridge", "svm")
_KINDS: dict[str, ConnectivityKind] = {"correlation": "correlation", "partial": "partial correlation", "tangent": "tangent"}
_HARMONIZED: dict[str, UnseenPolicy] = {"ridge_correlation_combat": "pooled", "ridge_correlation_combat_estimate": "estimate"}
BASELINES = (
    *(f"{model}_{kind}" for kind in _KINDS for model in _LINEAR),
    "ridge_correlation_tangent",
    *_HARMONIZED,
    "mlp_correlation",
    "logistic_table",
    "boosting_table",
    "logistic_pixels",
    "boosting_intensities",
    "covariates",
    "majority",
)


def make_baseline(name: str, atlases: Sequence[str] | None = None, class_weight: ClassWeight = "balanced") -> "LabelledOnly":
    """The baseline of that name.

    `logistic_…` is logistic regression with C = 1, `ridge_…` a ridge classifier whose penalty is chosen by leave-one-out on the training subjects,
    `svm_…` a linear support vector machine with C = 1 and `mlp_…` a perceptron with one hidden layer, stopped early on training subjects. They read
    connectivity: Fisher-z `…_correlation`, Fisher-z `…_partial` correlation or `…_tangent`, centred and scaled on training subjects.
    `logistic_table` is logistic regression on the columns of the table, with the training mean and a mark in place of a missing value, and
    `boosting_table` is histogram gradient boosting on the same columns (300 rounds, learning rate 0.05), for which missing is a state of its own. Its
    leaves hold twenty subjects, or a quarter of the labels where there are fewer than 80.
    Beware of columns that spell the target out. `logistic_pixels` is logistic regression on the pixels of small images, `boosting_intensities` that
    boosting on statistics of their intensities; see `ImageFeatures`.
    `covariates` is logistic regression on the table's covariates alone, which shows what can be read without any scan; other columns, such as
    clinical scores, may spell the target out and are left alone. `majority` answers with the training shares.

    `ridge_correlation_combat` takes out first what the sites add (`CohortHarmonizer` without covariates, fitted on all training subjects, labelled
    or not) and leaves a site that was held out as it is. `ridge_correlation_combat_estimate` harmonises the held-out site too, from its unlabelled
    scans taken together: it is transductive over that site, unlike every other baseline.

    `ridge_correlation_tangent` is a ridge on both kinds of connectivity, with each atlas and kind scaled to count the same; reference and scaling are
    learned from all training subjects, labelled or not.

    Args:
        name: One of `BASELINES`.
        atlases: Atlases whose connectivity to use, side by side; all of the cohort when left out.
        class_weight: `"balanced"` lets the classes count alike, None every subject; of logistic regression and boosting. In the others classes
            count alike.

    Raises:
        ConfigError: If there is none of that name, or the class weight is unknown.
    """
    if name not in BASELINES:
        raise ConfigError(f"Expected baselines among {', '.join(BASELINES)}; found {name!r}.")
    check_class_weight(class_weight)
    if name == "majority":
        return LabelledOnly(DummyClassifier(strategy="prior"), features=None)
    logistic = LogisticRegression(class_weight=class_weight, max_iter=2000)
    if name == "logistic_table":
        return LabelledOnly(make_pipeline(ColumnEncoder(), logistic))
    if name == "boosting_table":
        return LabelledOnly(Pipeline([("nativemissing", NativeMissing()), ("histgradientboostingclassifier", make_boosting(class_weight))]))
    if name == "boosting_intensities":
        return LabelledOnly(make_boosting(class_weight), preparation=ImageFeatures("intensities"))
    if name == "logistic_pixels":
        return LabelledOnly(make_pipeline(UnitScaler(), logistic), preparation=ImageFeatures("pixels"))
    if name == "covariates":
        return LabelledOnly(make_pipeline(ColumnEncoder(roles=("covariate",)), logistic))
    if name in _HARMONIZED:
        raw = make_baseline("ridge_correlation", atlases)
        return raw.set_params(preparation=CohortHarmonizer(unseen=_HARMONIZED[name], atlases=atlases))
    if name == "ridge_correlation_tangent":
        return LabelledOnly(RidgeProbability(), preparation=ScanContrast(atlases, shrinkage=None, sites=None))
    kind_of_model, _, kind = name.partition("_")
    model = {"logistic": logistic, "ridge": RidgeProbability(), "svm": SvmProbability(), "mlp": Perceptron()}[kind_of_model]
    # A perceptron starts from weights made for features of unit variance, the others are penalised by the length of a vector.
    scaler = UnitScaler() if kind_of_model in _LINEAR else StandardScaler()
    return LabelledOnly(Pipeline([("features", SharedConnectivity(atlases, _KINDS[kind])), ("scaler", scaler), ("model", model)]))


def reads_regions(name: str) -> bool:
    """Whether the baseline of that name reads connectivity of regions, and no columns."""
    return bool(set(name.split("_")) & set(_KINDS))


class LabelledOnly(ClassifierMixin, BaseEstimator):
    """Fits a classifier on the subjects whose label is not withheld (`-1`), for it cannot use the others.

    Args:
        classifier: A scikit-learn classifier; its first step takes a cohort, or what the preparation gives.
        features: None if the classifier does not look at the subjects at all.
        preparation: A transformer fitted on all subjects, for it needs no label, such as `CohortHarmonizer` or `ScanContrast`.
    """

    def __init__(self, classifier: Any, features: str | None = "cohort", preparation: Any = None) -> None:
        self.classifier = classifier
        self.features = features
        self.preparation = preparation

    def fit(self, X: Cohort, y: npt.NDArray[Any], groups: object = None) -> "LabelledOnly":
        """Fit on the labelled subjects."""
        labels = np.asarray(y)
        labelled = labels != WITHHELD
        self.preparation_ = None if self.preparation is None else Shared(self.preparation)
        prepared = X if self.preparation_ is None else self.preparation_.fit_transform(X)
        self.classifier_ = clone(self.classifier).fit(self._features(prepared, labelled), labels[labelled])
        self.classes_ = self.classifier_.classes_
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`."""
        prepared = X if self.preparation_ is None else self.preparation_.transform(X)
        return np.asarray(self.classifier_.predict_proba(self._features(prepared, np.ones(len(X), dtype=bool))))

    def predict(self, X: Cohort) -> npt.NDArray[Any]:
        """The most probable class of each subject `[n]`."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _features(self, values: Any, rows: npt.NDArray[np.bool_]) -> Any:
        if self.features is None:
            return np.zeros((int(rows.sum()), 1))
        return values.select(rows) if isinstance(values, Cohort) else values[rows]


class UnitScaler(StandardScaler):
    """Features centred and scaled on training subjects, then divided by the root of their number.

    The mean squared length of a training vector is then 1, and a penalty means the same whatever the number of connections.
    """

    def transform(self, X: npt.NDArray[Any], copy: bool | None = None) -> npt.NDArray[Any]:
        """Scaled features `[n, F]`."""
        return np.asarray(super().transform(X, copy=copy)) / np.sqrt(self.n_features_in_)


class Shared(TransformerMixin, BaseEstimator):
    """A transformer of cohorts that methods, seeds and label fractions of one fold share, so that it is fitted once on the same subjects.

    Args:
        transformer: A scikit-learn transformer whose input is a cohort.
    """

    _fitted: ClassVar[OrderedDict[Any, Any]] = OrderedDict()
    _transformed: ClassVar[OrderedDict[Any, Any]] = OrderedDict()

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(self, X: Cohort, y: object = None) -> Self:
        """Fit on training subjects, unless somebody has on the same."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Cohort, y: object = None) -> Any:
        """Fit on training subjects and give what becomes of them."""
        transformer = self._unfitted(X)
        # The hash holds values only; roles of columns say what is a site.
        self.key_ = (X.hash, repr([X.schema, type(transformer), transformer.get_params()]))
        if self.key_ not in self._fitted:
            values = transformer.fit_transform(X)
            _remember(self._transformed, (*self.key_, X.hash), lambda: values)
        self.fitted_ = _remember(self._fitted, self.key_, lambda: transformer)
        return self.transform(X)

    def transform(self, X: Cohort) -> Any:
        """What becomes of any subjects."""
        return _remember(self._transformed, (*self.key_, X.hash), lambda: self.fitted_.transform(X))

    def _unfitted(self, cohort: Cohort) -> Any:
        return clone(self.transformer)


class SharedConnectivity(Shared):
    """Connectivity features `[n, E]` of the labelled subjects of each label fraction, shared.

    Args:
        atlases: Atlases, side by side; all of the cohort when left out.
        kind: Kind of connectivity, in nilearn's words.
    """

    # Its own, for the many of these would crowd out the few that are fitted on all subjects.
    _fitted: ClassVar[OrderedDict[Any, Any]] = OrderedDict()
    _transformed: ClassVar[OrderedDict[Any, Any]] = OrderedDict()

    def __init__(self, atlases: Sequence[str] | None = None, kind: ConnectivityKind = "correlation") -> None:
        self.atlases = atlases
        self.kind = kind

    def _unfitted(self, cohort: Cohort) -> ConnectivityFeatures:
        return ConnectivityFeatures(list(self.atlases) if self.atlases is not None else list(cohort.regions), self.kind)


_MAX_REMEMBERED = 8


def _remember(memory: OrderedDict[Any, Any], key: Any, make: Any) -> Any:
    if key not in memory:
        memory[key] = make()
    memory.move_to_end(key)
    while len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)
    return memory[key]
