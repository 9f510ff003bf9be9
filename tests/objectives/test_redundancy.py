"""Barlow Twins against the pseudocode of the paper in loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import ConfigError
from graphssl.objectives import BarlowTwins
from graphssl.objectives.redundancy import barlow_twins


def slow_terms(first, second):
    """Algorithm 1 of the paper with numpy's correlation, one pair of numbers at a time, divided by the width."""
    width, agreement, repetition = first.shape[1], 0.0, 0.0
    for i in range(width):
        for j in range(width):
            correlation = np.corrcoef(first[:, i], second[:, j])[0, 1]
            if i == j:
                agreement += (1 - correlation) ** 2
            else:
                repetition += correlation**2
    return agreement / width, repetition / width


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 12), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_terms_are_those_of_the_paper(n, width, seed):
    first, second = 100 * torch.randn(2, n, width, generator=torch.Generator().manual_seed(seed))  # the ε beside the variance does not show
    found = [float(term) for term in barlow_twins(first, second)]
    assert found == pytest.approx(slow_terms(first.numpy(), second.numpy()), rel=1e-3, abs=1e-4)


def test_closed_forms():
    apart = 2 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    agreement, repetition = barlow_twins(apart, apart)
    assert float(agreement) == pytest.approx(0, abs=1e-6)
    assert float(repetition) == 0
    twice = apart[:, [0, 0]]
    assert [float(term) for term in barlow_twins(twice, twice)] == pytest.approx([0, 1], abs=1e-4)
    assert [float(term) for term in barlow_twins(twice, -twice)] == pytest.approx([4, 1], abs=1e-4)


def test_constant_numbers_give_a_finite_loss_and_gradient():
    first = torch.ones(5, 3, requires_grad=True)
    agreement, repetition = barlow_twins(first, torch.randn(5, 3))
    (agreement + repetition).backward()
    assert agreement.item() == pytest.approx(1)
    assert torch.isfinite(first.grad).all()


def test_the_order_of_the_rows_does_not_matter():
    first, second = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(barlow_twins(first[order], second[order]), barlow_twins(first, second))


def test_the_objective_is_the_weighted_sum_of_its_terms(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(8, 8)
    objective = BarlowTwins(redundancy=0.3, width=4, hidden=7).prepare(encoder)
    with torch.no_grad():
        loss = objective(encoder, batch, torch.Generator().manual_seed(2))
        source = torch.Generator().manual_seed(2)
        first, second = (objective.projector(encoder(objective.view(batch, source)).pooled).numpy() for _ in range(2))
    agreement, repetition = slow_terms(first, second)
    assert float(loss.parts["agreement_error"]) == pytest.approx(agreement, rel=1e-2)
    assert float(loss.parts["redundancy_error"]) == pytest.approx(repetition, rel=1e-2)
    assert float(loss.total) == pytest.approx(float(loss.parts["agreement_error"]) + 0.3 * float(loss.parts["redundancy_error"]))


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="weight of redundancy to be 0 or more, found -1"):
        BarlowTwins(redundancy=-1)
