"""Weighted cross-entropy against its closed form."""

import math

import pytest
import torch

from graphssl.encoders import GraphTransformer
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import Supervised

LABELS = {"sub-000": 0, "sub-001": 1, "sub-002": 1, "sub-003": 1, "elsewhere": 0}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return GraphTransformer(width=8, depth=1, heads=2, spacing_mm=40.0, dropout=0.0)


@pytest.mark.parametrize(
    ("labels", "n_classes", "weights"),
    [([0, 1, 1, 1], 2, [2.0, 2 / 3]), ([0, 1], 2, [1.0, 1.0]), ([2, 0, 1, 2, 2, 0], 3, [1.0, 2.0, 2 / 3])],
)
def test_class_weights_make_classes_count_alike(labels, n_classes, weights):
    objective = Supervised({str(k): label for k, label in enumerate(labels)}, n_classes)
    torch.testing.assert_close(objective.weights, torch.tensor(weights))
    total = [sum(float(objective.weights[label]) for label in labels if label == c) for c in range(n_classes)]
    assert total == pytest.approx([len(labels) / n_classes] * n_classes)


def test_the_loss_is_the_weighted_cross_entropy(make_batch, encoder):
    objective = Supervised(LABELS).prepare(encoder)
    batch = make_batch(4, 6)
    with torch.no_grad():
        loss = objective(encoder, batch, torch.Generator())
        logits = objective.head(encoder(batch).pooled).double().tolist()
    weight = [5 / (2 * 2), 5 / (2 * 3)]
    total, norm, right = 0.0, 0.0, 0
    for row, subject in enumerate(batch.subject_ids):
        label = LABELS[subject]
        total += weight[label] * (math.log(sum(map(math.exp, logits[row]))) - logits[row][label])
        norm += weight[label]
        right += logits[row].index(max(logits[row])) == label
    assert float(loss.total) == pytest.approx(total / norm, rel=1e-5)
    assert float(loss.parts["accuracy"]) == pytest.approx(right / 4)


def test_without_class_weights_every_subject_counts_alike(make_batch, encoder):
    objective = Supervised(LABELS, class_weight=None).prepare(encoder)
    batch = make_batch(4, 6)
    with torch.no_grad():
        loss = objective(encoder, batch, torch.Generator())
        logits = objective.head(encoder(batch).pooled)
    target = torch.tensor([LABELS[subject] for subject in batch.subject_ids])
    assert float(loss.total) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, target)), rel=1e-6)
    assert objective.fresh().class_weight is None


def test_an_unknown_class_weight_is_refused():
    with pytest.raises(ConfigError, match="Expected the class weight 'balanced' or None, found 'equal'"):
        Supervised(LABELS, class_weight="equal")


def test_the_gradient_reaches_encoder_and_head(make_batch, encoder):
    objective = Supervised(LABELS).prepare(encoder)
    objective(encoder, make_batch(4, 6), torch.Generator()).total.backward()
    assert objective.head.weight.grad.abs().max() > 0
    assert all(p.grad.abs().max() > 0 for name, p in encoder.named_parameters() if name != "tokens.unseen")


def test_a_few_labels_can_be_learned(make_batch, encoder, train):
    objective = Supervised(LABELS).prepare(encoder)
    losses = train(objective, encoder, make_batch(4, 6), 40, 1e-2)
    assert losses[-1] < 0.1
    assert float(objective(encoder, make_batch(4, 6), torch.Generator()).parts["accuracy"]) == 1


def test_a_subject_without_a_label_is_refused(make_batch, encoder):
    objective = Supervised({"sub-000": 0, "sub-001": 1}).prepare(encoder)
    with pytest.raises(DataError, match=r"Expected a label for every subject of the batch, found none for \['sub-002', 'sub-003'\]"):
        objective(encoder, make_batch(4, 6), torch.Generator())


@pytest.mark.parametrize(("labels", "found"), [({"a": 0, "b": 0}, r"\[2, 0\]"), ({"a": 1}, r"\[0, 1\]"), ({}, r"\[0, 0\]")])
def test_a_class_without_subjects_is_refused(labels, found):
    with pytest.raises(DataError, match=f"Expected subjects of each of 2 classes, found {found} by class"):
        Supervised(labels)


@pytest.mark.parametrize("strange", [-1, 2])
def test_labels_that_are_no_class_are_refused(strange):
    with pytest.raises(DataError, match=rf"Expected class indices from 0 to 1, found \[{strange}\]. Leave out subjects whose label is withheld"):
        Supervised({"a": 0, "b": 1, "c": strange})
