"""Boosting where few subjects have a label, against scikit-learn's, which has no tree there."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from graphssl.evaluation.boosting import Boosting, make_boosting


def subjects(n, seed=0):
    """Subjects of whom the first of three columns says the class, with a third of the values missing in the others."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    values = rng.standard_normal((n, 3))
    values[:, 0] += 3 * y
    values[:, 1:][rng.random((n, 2)) < 1 / 3] = np.nan
    return values, y


@pytest.mark.parametrize("n", [6, 24, 39])
def test_few_labels_are_learned_from(n):
    """Where scikit-learn's leaves of twenty leave everybody with the same answer."""
    X, y = subjects(n)
    new, truth = subjects(200, seed=1)
    plain = HistGradientBoostingClassifier(learning_rate=0.05, max_iter=300, early_stopping=False, random_state=0).fit(X, y)
    assert roc_auc_score(truth, plain.predict_proba(new)[:, 1]) == 0.5
    assert roc_auc_score(truth, make_boosting("balanced").fit(X, y).predict_proba(new)[:, 1]) > 0.8


def test_with_labels_enough_it_is_that_of_scikit_learn():
    X, y = subjects(80)
    arguments = {"max_iter": 20, "early_stopping": False, "random_state": 0}
    ours, theirs = Boosting(**arguments).fit(X, y), HistGradientBoostingClassifier(**arguments).fit(X, y)
    assert np.array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    fewer = Boosting(**arguments).fit(X[:79], y[:79])
    nineteen = HistGradientBoostingClassifier(**arguments, min_samples_leaf=19).fit(X[:79], y[:79])
    assert np.array_equal(fewer.predict_proba(X), nineteen.predict_proba(X))


def test_leaves_are_as_small_as_asked_for_and_the_setting_stays():
    X, y = subjects(100)
    arguments = {"max_iter": 20, "early_stopping": False, "random_state": 0}
    asked = Boosting(**arguments, min_samples_leaf=3)
    theirs = HistGradientBoostingClassifier(**arguments, min_samples_leaf=3).fit(X, y)
    assert np.array_equal(asked.fit(X, y).predict_proba(X), theirs.predict_proba(X))
    assert clone(Boosting().fit(X, y)).get_params() == HistGradientBoostingClassifier().get_params()
