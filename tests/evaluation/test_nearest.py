"""Votes of the nearest subjects, against sums by hand."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet
from graphssl.errors import DataError
from graphssl.estimators import WITHHELD, ConnectomeClassifier
from graphssl.evaluation import NearestNeighborProbe
from graphssl.objectives import PredictLabel
from graphssl.training import TrainingSettings


@pytest.fixture(scope="module")
def cohort():
    return simulate_images(24, size=12)


@pytest.fixture(scope="module")
def labels(cohort):
    return (cohort.subjects["diagnosis"] == "malignant").astype(int).to_numpy()


def probe(**arguments):
    return NearestNeighborProbe(ConnectomeClassifier(None, ResNet(blocks=(1,), width=4)), **arguments)


def test_votes_are_those_of_the_formula(cohort, labels):
    some = np.where(np.arange(24) < 16, labels, WITHHELD)
    found = probe(n_neighbors=5, temperature=0.2).fit(cohort, some)
    vectors = found.model_.embed(cohort).to_numpy()
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for cosines, votes in zip(vectors @ vectors[:16].T, found.predict_proba(cohort), strict=True):
        nearest = np.argsort(-cosines)[:5]
        weight = np.exp(cosines[nearest] / 0.2)
        assert_allclose(votes, [weight[labels[nearest] == label].sum() / weight.sum() for label in (0, 1)], rtol=1e-4, atol=1e-6)
    assert (found.predict(cohort) == found.predict_proba(cohort).argmax(axis=1)).all()


def test_with_few_labels_all_of_them_vote(cohort, labels):
    some = np.where(np.arange(24) < 6, labels, WITHHELD)
    assert probe().fit(cohort, some).voters_.n_neighbors == 6


def test_pre_training_on_labels_reads_those_that_are_not_withheld(cohort, labels):
    some = np.where(np.arange(24) < 16, labels, WITHHELD)
    quick = TrainingSettings(max_epochs=1, batch_size=8, accelerator="cpu")
    hidden = cohort.with_column(cohort.schema["diagnosis"], pd.Series(np.nan, index=cohort.subjects.index))
    classifier = ConnectomeClassifier(PredictLabel(), ResNet(blocks=(1,), width=4), pretraining=quick)
    assert NearestNeighborProbe(classifier).fit(hidden, some).predict_proba(hidden).shape == (24, 2)


def test_one_class_is_refused(cohort):
    with pytest.raises(DataError, match="at least two classes"):
        probe().fit(cohort, np.zeros(24, dtype=int))
