"""Cohorts whose labels differ, joined to pre-train on all of them."""

import pytest
import torch

from graphssl.data import ImageBuilder
from graphssl.data.union import union_of_labels
from graphssl.datasets import simulate_images, simulate_table
from graphssl.encoders import ResNet
from graphssl.errors import SchemaError
from graphssl.objectives import LabelUnion


@pytest.fixture(scope="module")
def parts():
    return [simulate_images(6, size=12, name=name, seed=seed) for seed, name in enumerate(("north", "south"))]


def test_what_a_cohort_does_not_know_is_missing(parts):
    whole = union_of_labels(parts)
    assert len(whole) == 12
    assert list(whole.subjects) == ["north: diagnosis", "south: diagnosis"]
    assert whole.subjects.notna().sum().tolist() == [6, 6]
    assert whole.subjects.notna().sum(axis=1).eq(1).all()
    assert set(whole.images) == {"image"}
    assert whole.images["image"].values == dict.fromkeys(whole.ids, 1)


def test_labels_that_mean_the_same_are_one(parts):
    whole = union_of_labels(parts, shared=["diagnosis"])
    assert list(whole.subjects) == ["diagnosis"]
    assert whole.subjects["diagnosis"].tolist() == [label for part in parts for label in part.subjects["diagnosis"]]


def test_an_encoder_learns_from_all_of_it(parts):
    whole = union_of_labels(parts)
    batch = ImageBuilder().fit(whole).transform(whole)
    encoder = ResNet(2, 1, 4, (1, 1), stem="small", norm="group")
    objective = LabelUnion().for_cohort(whole).prepare(encoder)
    assert len(objective.names) == 2
    objective(encoder, batch, torch.Generator().manual_seed(0)).total.backward()
    assert (objective.head.weight.grad.abs().sum(dim=1) > 0).all()


def test_tables_and_single_cohorts_and_no_names(parts):
    table = simulate_table(n_subjects=20, columns=4).cohort
    assert union_of_labels([table]) is table
    with pytest.raises(SchemaError, match="Expected cohorts of different names"):
        union_of_labels([parts[0], parts[0]])
    with pytest.raises(SchemaError, match="Expected cohorts of different names"):
        union_of_labels([])
