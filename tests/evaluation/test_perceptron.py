"""The perceptron is scikit-learn's, stopped on training subjects, with classes of equal weight."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neural_network import MLPClassifier

from graphssl.evaluation.perceptron import Perceptron


def two_rings(n=200, seed=0):
    """Classes that no line parts: one inside the other."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * (0.5 + y)[:, None] + 0.1 * rng.standard_normal((n, 2)), y


def test_it_learns_what_no_line_parts():
    X, y = two_rings(1000)
    model = Perceptron().fit(X, y + 3)
    assert_array_equal(model.classes_, [3, 4])
    fresh, truth = two_rings(seed=1)
    assert (model.classes_[model.predict_proba(fresh).argmax(axis=1)] == truth + 3).mean() > 0.9
    assert model.network_.n_iter_ <= 100


def test_it_is_the_library_with_balanced_weights():
    X, y = two_rings(90)
    y[y == 1] = (np.arange(45) % 3 == 0).astype(int)  # 15 of 90
    counts = np.bincount(y)
    by_hand = MLPClassifier(
        (64,), alpha=1e-2, batch_size=32, early_stopping=True, validation_fraction=0.2, n_iter_no_change=20, max_iter=100, random_state=5
    )
    by_hand.fit(X, y, sample_weight=len(y) / (2 * counts[y]))
    assert_allclose(Perceptron(seed=5).fit(X, y).predict_proba(X), by_hand.predict_proba(X))


@pytest.mark.parametrize("per_class", [2, 9, 10])
def test_few_subjects_train_without_choosing_an_epoch(per_class):
    rng = np.random.default_rng(0)
    y = np.arange(2 * per_class) % 2
    model = Perceptron().fit(rng.standard_normal((len(y), 30)), y)
    assert model.network_.early_stopping is (per_class >= 10)
    assert_allclose(model.predict_proba(rng.standard_normal((3, 30))).sum(axis=1), 1.0)


def test_the_seed_decides():
    X, y = two_rings(40)
    one, same, other = (Perceptron(seed=seed).fit(X, y).predict_proba(X) for seed in (0, 0, 1))
    assert_array_equal(one, same)
    assert (one != other).any()
