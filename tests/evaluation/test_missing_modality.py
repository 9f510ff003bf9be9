"""Modalities missing at test: who loses one is the same for all methods, smaller shares lie in larger ones, and nobody is left out."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from graphssl.atlases import load_atlas
from graphssl.data import ColumnTokenizer, EventTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.datasets import simulate_multimodal
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD
from graphssl.evaluation import MissingAtTest
from graphssl.evaluation.missing_modality import missing_name, without
from graphssl.graphs import ConnectomeBuilder


class Counting(ClassifierMixin, BaseEstimator):
    """Answers by whether a subject has an image; knows how often it was fitted."""

    n_fits = 0

    def fit(self, X, y, groups=None):
        type(self).n_fits += 1
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X):
        there = np.isin(X.ids, ImageBuilder("image").readable(X)).astype(float)
        return np.stack([1 - there, there], axis=1)


@pytest.fixture
def builder():
    return MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")})


@pytest.fixture
def readable(patients, builder):
    return patients.select(builder.readable(patients))


def test_shares_are_nested_and_the_method_is_fitted_once(readable, builder):
    y = np.arange(len(readable)) % 2
    y[0] = WITHHELD
    before = Counting.n_fits
    kept = {}
    for share in (0.0, 0.5, 0.75, 1.0):
        method = MissingAtTest(Counting(), builder, "image", share, seed=3).fit(readable, y)
        probability = method.predict_proba(readable)
        kept[share] = {subject for subject, value in zip(readable.ids, probability[:, 1], strict=True) if value == 1.0}
    assert Counting.n_fits == before + 1
    assert [len(each) for each in kept.values()] == [24, 12, 6, 0]
    assert kept[0.75] < kept[0.5] < kept[0.0]
    other = MissingAtTest(Counting(), builder, "image", 0.5, seed=4).fit(readable, y).predict_proba(readable)
    assert {s for s, value in zip(readable.ids, other[:, 1], strict=True) if value == 1.0} != kept[0.5]


def test_whoever_has_nothing_left_gets_the_shares_of_the_training_labels(readable, builder):
    y = (np.arange(len(readable)) % 4 == 0).astype(int)
    method = MissingAtTest(Counting(), builder, "image", 1.0).fit(readable, y)
    probability = method.predict_proba(readable)
    has_table = np.isin(readable.ids, ColumnTokenizer().readable(readable))
    assert (~has_table).any()
    assert np.allclose(probability[~has_table], [1 - y.mean(), y.mean()])
    assert np.allclose(probability[has_table], [1.0, 0.0])


def test_every_kind_of_data_can_be_taken_away():
    shares = {"connectome": 0.8, "table": 0.8, "events": 0.8, "image": 0.8}
    cohort = simulate_multimodal([load_atlas("simulated24")], n_subjects=20, size=8, shares=shares)
    builders = (ConnectomeBuilder(), ColumnTokenizer(), EventTokenizer(), ImageBuilder())
    for reader in builders:
        having = reader.readable(cohort)
        left = without(cohort, reader, having[:5])
        assert reader.readable(left) == having[5:]
        assert left.ids == cohort.ids
        assert all(other.readable(left) == other.readable(cohort) for other in builders if other is not reader)
        assert reader.readable(without(cohort, reader, having)) == []
    with pytest.raises(ConfigError, match="Expected the builder of one modality, found a MultimodalBuilder"):
        without(cohort, MultimodalBuilder({"table": ColumnTokenizer()}), [])


def test_other_modalities_and_shares_are_refused(readable, builder):
    for wrong in (("text", 0.5), ("image", 1.5)):
        with pytest.raises(ConfigError, match=r"Expected a modality among table, image and a share in \[0, 1\], found"):
            MissingAtTest(Counting(), builder, *wrong).fit(readable, np.zeros(len(readable)))
    assert missing_name("pretrained", "image", 0.5) == "pretrained|missing_image_50"
