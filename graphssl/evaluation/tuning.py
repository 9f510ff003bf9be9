"""Settings chosen on inner folds of the training subjects, as an estimator that a protocol fits like any other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold
from sklearn.utils.validation import check_is_fitted

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.errors import ConfigError, DataError
from graphssl.estimators import WITHHELD
from graphssl.statistics.metrics import LOWER_IS_BETTER, named_metric

InnerUnit = Literal["site", "subject"]


class Tuned(ClassifierMixin, BaseEstimator):
    """Chooses settings of an estimator on inner folds, then fits it with them on all training subjects (nested cross-validation).

    The inner folds split the labelled training subjects and cut no family; with `inner="site"` each holds out whole sites, so that the choice
    asks the question that leave-one-site-out asks. Subjects whose label is withheld train along, unless their site or family is held out. Where too
    few labels are there for two folds, the first of the settings is taken.

    Args:
        estimator: What to fit, with `fit(cohort, y, groups)` and `predict_proba(cohort)`.
        grid: Values to choose from, by name of a parameter; a double underscore reaches inside, such as `classifier__model__C` of a baseline or
            `finetuning__learning_rate` of a `ConnectomeClassifier`. Every combination is tried; of equals the first is taken.
        n_inner: Number of inner folds, at most as many as there are sites or families, or subjects of the rarest class.
        inner: What an inner fold holds out: `"site"`, or `"subject"` with its family and repeated scans.
        metric: Name of the metric that decides, from `graphssl.statistics.METRICS`.
        random_state: Seed of the folds.

    Attributes:
        best_params_: The settings chosen.
        best_score_: Their mean score over the inner folds; NaN where there were none.
        candidates_: One row a combination: its parameters, `score` and `n_folds`.
        best_estimator_: The estimator, fitted with them.
        classes_: Class indices.
    """

    def __init__(
        self,
        estimator: Any,
        grid: Mapping[str, Sequence[Any]],
        *,
        n_inner: int = 3,
        inner: InnerUnit = "site",
        metric: str = "auroc",
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.grid = grid
        self.n_inner = n_inner
        self.inner = inner
        self.metric = metric
        self.random_state = random_state

    def fit(self, X: Cohort, y: npt.NDArray[Any], groups: object = None) -> "Tuned":
        """Choose on inner folds, then fit on all.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used; the cohort knows its sites, families and repeated scans.

        Raises:
            ConfigError: If there is nothing to choose from, or a parameter is unknown.
            DataError: If sites are to be held out and the cohort has none.
        """
        if not self.grid or not all(len(values) for values in self.grid.values()):
            raise ConfigError(f"Expected at least one value of at least one parameter to choose from, found {dict(self.grid)}.")
        labels = np.asarray(y)
        # ParameterGrid sorts names; its last name turns fastest, and the first of all is the first value of each.
        settings = list(ParameterGrid({name: list(values) for name, values in self.grid.items()}))
        folds = inner_folds(X, labels, self.n_inner, self.inner, seed=self.random_state) if len(settings) > 1 else []
        scores = np.asarray([self._scores(X, labels, fold, settings) for fold in folds]).reshape(len(folds), len(settings))
        means = [_mean(column) for column in scores.T]
        best = _first_best(means, lower=self.metric in LOWER_IS_BETTER)
        self.candidates_ = pd.DataFrame(settings).assign(score=means, n_folds=(~np.isnan(scores)).sum(axis=0))
        self.best_params_, self.best_score_ = settings[best], means[best]
        self.best_estimator_ = self._with(self.best_params_).fit(X, labels, X.groups.to_numpy())
        self.classes_ = self.best_estimator_.classes_
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`, columns as `classes_`."""
        check_is_fitted(self, "best_estimator_")
        return np.asarray(self.best_estimator_.predict_proba(X))

    def predict(self, X: Cohort) -> npt.NDArray[Any]:
        """The most probable class of each subject `[n]`."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _with(self, settings: Mapping[str, Any]) -> Any:
        try:
            return clone(self.estimator).set_params(**settings)
        except ValueError as error:
            raise ConfigError(f"Expected parameters of {type(self.estimator).__name__} to choose, found others: {error}") from error

    def _scores(self, cohort: Cohort, labels: npt.NDArray[Any], fold: Split, settings: Sequence[Mapping[str, Any]]) -> list[float]:
        """Score of each of the settings on a fold; its cohorts are made once, and so is what estimators keep of them."""
        label_of = pd.Series(labels, index=cohort.ids)
        train, test = cohort.select(fold.train), cohort.select(fold.test)
        known, wanted, groups = label_of[train.ids].to_numpy(), label_of[test.ids].tolist(), train.groups.to_numpy()
        scores = []
        for chosen in settings:
            estimator = self._with(chosen).fit(train, known, groups)
            index = {label: k for k, label in enumerate(estimator.classes_.tolist())}
            scores.append(named_metric(self.metric)(np.asarray([index[label] for label in wanted]), np.asarray(estimator.predict_proba(test))))
        return scores


def inner_folds(cohort: Cohort, labels: npt.NDArray[Any], n_folds: int, inner: InnerUnit, *, seed: int = 0) -> list[Split]:
    """Folds of the labelled subjects in which no family, and with `inner="site"` no site, stands on two sides.

    Args:
        cohort: Training cohort of `n` subjects.
        labels: Class index of each subject `[n]`, `-1` where it is withheld.
        n_folds: Number of folds; fewer where there are not enough sites, families or subjects of the rarest class.
        inner: What is held out together.
        seed: Seed of the shuffle.

    Returns:
        Splits whose training side holds two labelled subjects of every class; none where the labels are too few.

    Raises:
        ConfigError: If `inner` is neither of the two.
        DataError: If sites are to be held out and the cohort has none.
        LeakageError: If a family spans two sites that are held apart.
    """
    families = cohort.groups
    units = _units(cohort, families, inner)
    label_of = pd.Series(labels, index=cohort.ids)
    labelled = label_of[label_of != WITHHELD]
    n = min(n_folds, int(labelled.value_counts().min()), units[labelled.index].nunique()) if len(labelled) else 0
    if n < 2:
        return []
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    family_of = dict(zip(cohort.ids, families, strict=True))
    found = []
    for k, (_, test) in enumerate(splitter.split(labelled.index, labelled, units[labelled.index])):
        held = labelled.index[test].tolist()
        held_units = set(units[held])
        train = [s for s, unit in zip(cohort.ids, units, strict=True) if unit not in held_units]
        enough = labelled.drop(held).value_counts().reindex(labelled.unique(), fill_value=0).min() >= 2
        if held and enough:
            found.append(Split(f"inner-{k}", tuple(train), tuple(held)).check(family_of))
    return found


def _units(cohort: Cohort, families: "pd.Series[str]", inner: InnerUnit) -> "pd.Series[str]":
    if inner == "subject":
        return families
    if inner != "site":
        raise ConfigError(f"Expected inner folds to hold out a 'site' or a 'subject', found {inner!r}.")
    sites = cohort.sites
    if sites is None:
        raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site' for inner folds, found none. Use inner='subject'.")
    return sites


def _mean(scores: npt.NDArray[np.float64]) -> float:
    """Mean over the folds in which the metric is defined; NaN where there are none."""
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if len(defined) else math.nan


def _first_best(means: Sequence[float], *, lower: bool) -> int:
    worst = math.inf if lower else -math.inf
    known = [worst if math.isnan(mean) else mean for mean in means]
    return int(np.argmin(known) if lower else np.argmax(known))
