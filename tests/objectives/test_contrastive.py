"""NT-Xent against the pseudocode of SimCLR in loops, and against what it is for: windows of a subject come together."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from graphssl.objectives import NTXent
from graphssl.objectives.contrastive import nt_xent
from graphssl.views import TimeWindow


def slow_nt_xent(first, second, subjects, temperature):
    """Algorithm 1 of SimCLR, one anchor at a time; rows of an anchor's subject other than its view are left out."""
    vectors, owners = [*first.tolist(), *second.tolist()], [*subjects, *subjects]
    n, total = len(first), 0.0

    def similarity(i, j):
        return sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True)) / math.hypot(*vectors[i]) / math.hypot(*vectors[j])

    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k == partner or owners[k] != owners[i]]
        total -= similarity(i, partner) / temperature - math.log(sum(math.exp(similarity(i, k) / temperature) for k in others))
    return total / (2 * n)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 6), n_subjects=st.integers(1, 4), temperature=st.floats(0.1, 2.0), seed=st.integers(0, 99))
def test_the_loss_is_that_of_the_paper(n, n_subjects, temperature, seed):
    first, second = torch.randn(2, n, 5, generator=torch.Generator().manual_seed(seed))
    subjects = torch.arange(n) % n_subjects
    found = nt_xent(first, second, subjects, temperature)
    assert float(found) == pytest.approx(slow_nt_xent(first, second, subjects.tolist(), temperature), rel=1e-4, abs=1e-5)


def test_closed_forms():
    apart = torch.eye(4)
    n, temperature = 4, 0.5
    same = -1 / temperature + math.log(math.exp(1 / temperature) + 2 * (n - 1))
    assert float(nt_xent(apart, apart, torch.arange(4), temperature)) == pytest.approx(same, rel=1e-5)
    alike = torch.ones(4, 3)
    assert float(nt_xent(alike, alike, torch.arange(4), temperature)) == pytest.approx(math.log(2 * n - 1), rel=1e-5)


def test_the_order_of_the_rows_and_which_view_is_first_do_not_matter():
    first, second = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    subjects, order = torch.tensor([0, 1, 1, 2, 3, 4]), torch.tensor([3, 0, 5, 1, 4, 2])
    found = nt_xent(first, second, subjects)
    torch.testing.assert_close(nt_xent(first[order], second[order], subjects[order]), found)
    torch.testing.assert_close(nt_xent(second, first, subjects), found)


def test_the_objective_is_the_loss_of_its_projected_views(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(5, 8)
    objective = NTXent(temperature=0.3, width=6, hidden=7).prepare(encoder)
    with torch.no_grad():
        loss = objective(encoder, batch, torch.Generator().manual_seed(2))
        source = torch.Generator().manual_seed(2)
        first, second = (objective.projector(encoder(objective.view(batch, source)).pooled) for _ in range(2))
    assert float(loss.total) == pytest.approx(slow_nt_xent(first, second, range(5), 0.3), rel=1e-4)


def test_windows_of_a_subject_come_nearer_than_those_of_others(make_encoder, scans_of_individuals, train):
    batch = scans_of_individuals
    encoder = make_encoder(width=16, heads=2)
    torch.manual_seed(1)
    objective = NTXent(TimeWindow(0.5)).prepare(encoder)
    losses = train(objective, encoder, batch, 40, 3e-3)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    source = torch.Generator().manual_seed(1000)  # windows that no step has seen
    with torch.no_grad():
        first, second = (F.normalize(encoder(TimeWindow(0.5)(batch, source)).pooled, dim=1) for _ in range(2))
    cosine = first @ second.T
    own, others = cosine.diagonal(), cosine[~torch.eye(len(batch), dtype=torch.bool)]
    assert own.mean() > others.mean() + 0.2
    assert (cosine.argmax(dim=1) == torch.arange(len(batch))).double().mean() > 0.5  # chance is 1 / 16
