"""A method is fitted once on the same subjects and labels, and again on others."""

import numpy as np

from graphssl.evaluation.baselines import make_baseline
from graphssl.evaluation.fitted_once import fitted_once


def test_the_same_is_fitted_once(patients):
    labels = np.arange(40) % 2
    method = make_baseline("majority")
    first = fitted_once(method, patients, labels)
    assert fitted_once(make_baseline("majority"), patients, labels) is first
    assert not hasattr(method, "classes_")
    others = (
        fitted_once(method, patients, 1 - labels),
        fitted_once(method, patients.select(patients.ids[:20]), labels[:20]),
        fitted_once(make_baseline("logistic_table"), patients, labels),
    )
    assert all(other is not first for other in others)
