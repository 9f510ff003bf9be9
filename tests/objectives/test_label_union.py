"""A union of labels: what is missing is neither right nor wrong."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from graphssl.data import Column
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import LabelUnion
from graphssl.objectives.label_union import masked_cross_entropy

NAN = float("nan")


def test_the_loss_is_that_of_the_known_entries_alone():
    logits = torch.tensor([[0.3, -2.0], [1.5, 4.0]], requires_grad=True)
    target = torch.tensor([[1.0, NAN], [NAN, 0.0]])
    loss = masked_cross_entropy(logits, target)
    expected = (F.softplus(torch.tensor(-0.3)) + F.softplus(torch.tensor(4.0))) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (logits.grad != 0).tolist() == [[True, False], [False, True]]


def test_nothing_known_is_no_loss_and_no_gradient():
    logits = torch.randn(3, 2, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.full((3, 2), NAN))
    loss.backward()
    assert loss == 0
    assert logits.grad.equal(torch.zeros(3, 2))


@pytest.fixture
def union(make_cohort):
    """Two findings: one known of the first half, the other, of three stages, of the second."""
    cohort = make_cohort(n_subjects=12)
    half = np.arange(12) < 6
    finding = pd.Series(np.where(half, np.arange(12) % 2, NAN), index=cohort.subjects.index)
    stage = pd.Series([None] * 6 + ["i", "ii", "iii"] * 2, index=cohort.subjects.index, dtype="str")
    cohort = cohort.with_column(Column("finding", "binary", "target"), finding)
    return cohort.with_column(Column("stage", "categorical", "target", categories=("i", "ii", "iii")), stage)


def test_columns_become_labels_with_what_is_missing_as_it_is(union):
    told = LabelUnion(["finding", "stage"]).for_cohort(union)
    assert len(told.names) == 4
    table = pd.DataFrame(told.known, index=told.names).T
    assert table.iloc[:6, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert table.iloc[6:, 0].isna().all()
    assert table.iloc[:6, 1:].isna().all(axis=None)
    assert table.iloc[6:, 1:].sum(axis=1).tolist() == [1] * 6


def test_it_trains_an_encoder_and_forgets_no_label_when_made_anew(union, make_batch, make_encoder):
    encoder = make_encoder()
    objective = LabelUnion(["finding", "stage"]).for_cohort(union).fresh().prepare(encoder)
    batch = make_batch(n_rows=4)
    batch = type(batch)(**{**vars(batch), "subject_ids": (*union.ids[:1], *union.ids[-2:], "a stranger")})
    loss = objective(encoder, batch, torch.Generator().manual_seed(0))
    loss.total.backward()
    assert loss.total > 0
    assert 0 <= loss.parts["accuracy"] <= 1
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
    strangers = type(batch)(**{**vars(batch), "subject_ids": ("a", "b", "c", "d")})
    assert objective(encoder, strangers, torch.Generator()).total == 0


def test_labels_that_are_given_are_the_only_ones_it_reads(union):
    told = LabelUnion(["finding"]).with_labels({union.ids[0]: "0", union.ids[1]: "1"}).for_cohort(union)
    assert set(told.known) == set(union.ids[:2])
    with pytest.raises(DataError, match="two values or more of the subjects that were given"):
        LabelUnion().with_labels({"a": "1"})


def test_errors(union, make_encoder):
    with pytest.raises(ConfigError, match="found no 'colour'"):
        LabelUnion(["colour"]).for_cohort(union)
    with pytest.raises(ConfigError, match="Expected a LabelUnion that knows labels"):
        LabelUnion().prepare(make_encoder())
    with pytest.raises(DataError, match="Expected a label with two values or more"):
        LabelUnion(["finding"]).for_cohort(union.select(union.ids[6:]))
