"""What fusion is compared with: modalities alone, their mean, and boosting on embeddings; whoever lacks a modality is not left out."""

import numpy as np
import pytest
import torch

from graphssl.data import ColumnTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.encoders import Concatenation, MultimodalEncoder, ResNet, TableTransformer
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD, ConnectomeClassifier
from graphssl.evaluation import EmbeddingBoosting, LateAverage, ModalityClassifier
from graphssl.evaluation.modalities import embedded_modalities, parts_of
from graphssl.training.fit import TrainingSettings


@pytest.fixture(scope="module")
def readable(patients):
    builder = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")})
    return patients.select(builder.readable(patients))


@pytest.fixture(scope="module")
def labels(readable):
    y = (readable.subjects["diagnosis"] == "patient").to_numpy().astype(int)
    y[::7] = WITHHELD
    return y


@pytest.fixture
def classifier():
    encoders = {"table": TableTransformer(8, depth=1, heads=2), "image": ResNet(2, width=4, blocks=(1, 1), stem="small", norm="group")}
    settings = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")
    builder = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")})
    return ConnectomeClassifier(encoder=MultimodalEncoder(encoders, Concatenation(8)), builder=builder, finetuning=settings)


def test_one_modality_is_fitted_on_those_who_have_it(classifier, readable, labels):
    method = ModalityClassifier(classifier, "image").fit(readable, labels)
    having = method.having(readable)
    assert having.sum() == 24
    probability = method.predict_proba(readable)
    known = labels[labels != WITHHELD]
    assert np.allclose(probability[~having], [(known == 0).mean(), (known == 1).mean()])
    there = readable.select(having)
    assert np.allclose(probability[having], method.classifier_.predict_proba(there))
    assert method.classifier_.model_.builder.counts_[""] == 24
    assert method.classifier_.model_.encoder.modalities == ("image",)


def test_the_late_average_is_that_of_what_a_subject_has(classifier, readable, labels):
    method = LateAverage(classifier).fit(readable, labels)
    alone = {each.modality: each for each in method.classifiers_}
    assert alone["image"].classifier_ is ModalityClassifier(classifier, "image").fit(readable, labels).classifier_  # fitted once
    said = {name: (each.predict_proba(readable), each.having(readable)) for name, each in alone.items()}
    expected = [np.mean([probability[k] for probability, has in said.values() if has[k]], axis=0) for k in range(len(readable))]
    assert np.allclose(method.predict_proba(readable), expected)
    assert method.classes_.tolist() == [0, 1]


def test_embeddings_stand_side_by_side_with_nan_for_what_is_missing(classifier, readable, labels):
    method = EmbeddingBoosting(classifier).fit(readable, labels)
    features = embedded_modalities(method.model_, readable)
    batch = method.model_.builder.transform(readable)
    n_columns = len(method.model_.encoder.encoders["table"].column_names)
    assert features.shape == (len(readable), n_columns + method.model_.encoder.encoders["image"].pooled_width)
    assert np.array_equal(np.isnan(features[:, n_columns:]).all(axis=1), ~batch.presence[:, 1].numpy())
    table = batch.parts["table"]
    row = int(batch.rows["table"][0, 0])
    shown = torch.cat([table.numbers[row], table.codes[row].float()]).numpy()
    measured = table.measured[row].numpy()
    assert np.allclose(features[0, :n_columns][measured], shown[measured])
    assert np.isnan(features[0, :n_columns][~measured]).all()
    probability = method.predict_proba(readable)
    assert probability.shape == (len(readable), 2)
    known = labels != WITHHELD
    assert (method.classes_[probability.argmax(axis=1)] == labels)[known].mean() > 0.8  # trees remember those that they were fitted on


def test_whoever_has_nothing_gets_the_training_shares(classifier, readable, labels, patients):
    method = LateAverage(classifier).fit(readable, labels)
    images = patients.select([subject for subject in readable.ids if subject in patients.images["image"].values])
    only = method.classifiers_[1]
    assert np.allclose(only.predict_proba(readable).sum(axis=1), 1)
    bare = readable.select([subject for subject in readable.ids if subject not in set(images.ids)][:2])
    assert np.allclose(only.predict_proba(bare), only.shares_)


def test_other_classifiers_and_modalities_are_refused(classifier, readable, labels):
    with pytest.raises(ConfigError, match="Expected a modality among table, image, found 'text'"):
        ModalityClassifier(classifier, "text").fit(readable, labels)
    with pytest.raises(ConfigError, match="Expected a classifier with a MultimodalEncoder and a MultimodalBuilder, found NoneType and NoneType"):
        parts_of(ConnectomeClassifier())
