"""Calibrated classifiers against explicit refits, one left-out subject or fold at a time."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from graphssl.errors import DataError
from graphssl.evaluation.calibrated import RidgeProbability, SvmProbability


def features_and_classes(n_classes, n=30, n_features=50, seed=0):
    """More features than subjects, classes of unequal size."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.choice(n_classes, size=n, p=[0.6, 0.4] if n_classes == 2 else [0.5, 0.3, 0.2]))
    return rng.standard_normal((n, n_features)) + 0.5 * y[:, None], y


def balanced_weights(y):
    classes, counts = np.unique(y, return_counts=True)
    size = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    return np.asarray([len(y) / (len(classes) * size[label]) for label in y.tolist()])


def solve_ridge(X, target, alpha, weight):
    """Intercept and coefficients of ridge regression with weights, from its normal equations."""
    with_one = np.column_stack([np.ones(len(X)), X])
    penalty = alpha * np.diag([0.0] + [1.0] * X.shape[1])
    return np.linalg.solve(with_one.T @ (weight[:, None] * with_one) + penalty, with_one.T @ (weight * target))


def left_out_by_refits(X, target, alpha, weight):
    """What a ridge fitted without a subject says of it, one refit a subject."""
    values = np.zeros_like(target)
    for i in range(len(X)):
        others = np.arange(len(X)) != i
        values[i] = np.append(1.0, X[i]) @ solve_ridge(X[others], target[others], alpha, weight[others])
    return values


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("alpha", [0.1, 10.0, 1e4])
def test_left_out_values_are_those_of_explicit_refits(n_classes, alpha):
    """With one penalty to choose from, the stored values and the curves must come from n refits."""
    X, y = features_and_classes(n_classes)
    model = RidgeProbability(alphas=[alpha]).fit(X, y)
    weight = balanced_weights(y)
    for k, label in enumerate([1] if n_classes == 2 else [0, 1, 2]):
        target = np.where(y == label, 1.0, -1.0)
        left_out = left_out_by_refits(X, target, alpha, weight)
        stored = np.asarray(model.ridge_.cv_results_).reshape(len(y), -1)[:, k]
        assert_allclose(stored, left_out, rtol=1e-6, atol=1e-8)
        curve = LogisticRegression(C=1e4, class_weight="balanced").fit(left_out[:, None], y == label)
        rises = curve.coef_[0, 0] > 0
        assert_allclose(model.curves_[k].coef_, curve.coef_ if rises else 1e-3, rtol=1e-3)
        assert_allclose(model.curves_[k].intercept_, curve.intercept_ if rises else 0.0, rtol=1e-3, atol=1e-4)


def test_the_penalty_is_the_one_of_the_smallest_left_out_error():
    """Chosen by the mean squared error of the refits, with every class weighing the same."""
    X, y = features_and_classes(2)
    alphas = [0.1, 1.0, 10.0, 100.0, 1000.0, 1e4]
    target, weight = np.where(y == 1, 1.0, -1.0), balanced_weights(y)
    errors = [np.average((left_out_by_refits(X, target, alpha, weight) - target) ** 2, weights=weight) for alpha in alphas]
    model = RidgeProbability(alphas).fit(X, y)
    assert model.ridge_.alpha_ == alphas[int(np.argmin(errors))]
    assert 0 < np.argmin(errors) < len(alphas) - 1, "the choice must be a choice"


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_never_turn_the_ridge_around(n_classes):
    """In small samples of noise, values of left-out subjects fall with the class; a curve through them must not."""
    n_flat = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((12, 40)), np.arange(12) % n_classes
        model = RidgeProbability().fit(X, y)
        new = rng.standard_normal((30, 40))
        values, probability = model.ridge_.predict(new).reshape(30, -1), model.predict_proba(new)
        n_flat += sum(curve.coef_[0, 0] <= 1e-3 for curve in model.curves_)
        assert all(curve.coef_[0, 0] > 0 for curve in model.curves_)
        if n_classes == 2:
            assert_array_equal(np.argsort(probability[:, 1]), np.argsort(values[:, 0]))
    assert n_flat > 0, "the case must occur"


def test_ridge_of_pure_noise_says_little():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 100)), np.arange(60) % 2
    probability = RidgeProbability().fit(X, y).predict_proba(rng.standard_normal((200, 100)))
    assert np.abs(probability[:, 1] - 0.5).mean() < 0.2


@pytest.mark.parametrize("n_classes", [2, 3])
def test_ridge_probabilities_sum_to_one_and_follow_the_ridge(n_classes):
    X, y = features_and_classes(n_classes)
    model = RidgeProbability().fit(X, y + 5)
    assert_array_equal(model.classes_, np.arange(n_classes) + 5)
    probability = model.predict_proba(X)
    assert probability.shape == (len(y), n_classes)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert_allclose(probability.sum(axis=1), 1.0)
    assert (model.classes_[probability.argmax(axis=1)] == y + 5).mean() > 0.8
    if n_classes == 2:
        assert_array_equal(np.argsort(probability[:, 1]), np.argsort(model.ridge_.predict(X).ravel()))


def test_one_class_more_often_than_the_other_does_not_draw_the_ridge_to_it():
    """Each class weighs the same: the mean prediction over subjects, class by class, lies midway between -1 and 1."""
    X, y = features_and_classes(2, n=40, n_features=3)
    several = np.concatenate([np.arange(40), *[np.flatnonzero(y == 0)] * 3])
    ridge = RidgeProbability([1e-6]).fit(X[several], y[several]).ridge_
    weight = balanced_weights(y[several])
    assert np.average(ridge.predict(X[several]).ravel(), weights=weight) == pytest.approx(0.0, abs=1e-6)


# Support vector machine


def svm_by_folds(X, y, C):
    """Values of left-out subjects and of the machine fitted on all, one class and one fold at a time."""
    classes = [1] if len(np.unique(y)) == 2 else np.unique(y).tolist()
    folds = StratifiedKFold(min(5, np.bincount(y).min()), shuffle=True, random_state=0)
    left_out, machines = np.zeros((len(y), len(classes))), []
    for k, label in enumerate(classes):
        machine = SVC(kernel="linear", C=C, class_weight="balanced")
        for train, test in folds.split(X, y):
            left_out[test, k] = machine.fit(X[train], y[train] == label).decision_function(X[test])
        machines.append(SVC(kernel="linear", C=C, class_weight="balanced").fit(X, y == label))
    return classes, left_out, machines


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_svm_is_platt_scaling_of_left_out_folds(n_classes, C):
    X, y = features_and_classes(n_classes)
    X[:, :n_classes] += 3 * np.eye(n_classes)[y]
    new = np.random.default_rng(9).standard_normal((12, X.shape[1]))
    classes, left_out, machines = svm_by_folds(X, y, C)
    shares = []
    for k, label in enumerate(classes):
        curve = LogisticRegression(C=1e4, class_weight="balanced").fit(left_out[:, [k]], y == label)
        assert curve.coef_[0, 0] > 0
        shares.append(curve.predict_proba(machines[k].decision_function(new)[:, None])[:, 1])
    expected = np.column_stack([1 - shares[0], shares[0]] if n_classes == 2 else shares)
    found = SvmProbability(C).fit(X, y).predict_proba(new)
    assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_svm_with_two_subjects_of_each_class():
    """As one per cent of the labels leaves them."""
    rng = np.random.default_rng(0)
    y = np.asarray([0, 1, 0, 1])
    model = SvmProbability().fit(rng.standard_normal((4, 30)) + y[:, None], y)
    probability = model.predict_proba(rng.standard_normal((5, 30)))
    assert probability.shape == (5, 2)
    assert_allclose(probability.sum(axis=1), 1.0)


def test_svm_needs_two_subjects_of_each_class():
    with pytest.raises(DataError, match="at least two subjects of each class to calibrate on"):
        SvmProbability().fit(np.eye(3), np.asarray([0, 0, 1]))
