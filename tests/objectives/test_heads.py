"""Heads: cosines to prototypes, and a measure of collapse with known values."""

import math

import pytest
import torch

from graphssl.objectives.heads import Prototypes, projector, spread, used_share


def test_a_projector_maps_widths_and_normalises_between():
    head = projector(6, 10, 4)
    assert head(torch.randn(5, 6)).shape == (5, 4)
    inner = head[1](head[0](torch.randn(50, 6)))
    torch.testing.assert_close(inner.mean(dim=0), torch.zeros(10), atol=1e-5, rtol=0)


def test_prototypes_give_cosines_whatever_the_lengths():
    prototypes, vectors = Prototypes(4, 3), torch.randn(5, 4)
    found = prototypes(vectors)
    for row in range(5):
        for k in range(3):
            one, other = vectors[row].tolist(), prototypes.directions[k].tolist()
            cosine = sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
            assert float(found[row, k].detach()) == pytest.approx(cosine, abs=1e-6)
    with torch.no_grad():
        prototypes.directions *= 7
    torch.testing.assert_close(prototypes(3 * vectors), found)


def test_spread_is_zero_for_one_direction_and_one_for_all():
    one = torch.randn(1, 8)
    assert spread(one * torch.tensor([[1.0], [2.0], [5.0]])) == pytest.approx(0, abs=1e-6)
    assert float(spread(torch.cat([one, -one]))) == pytest.approx(1)
    assert float(spread(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)))) == pytest.approx(1, abs=0.01)
    assert spread(one) == 0


def test_prototypes_are_used_alike_or_one_for_all():
    assert float(used_share(torch.eye(4))) == pytest.approx(1)
    assert float(used_share(torch.tensor([[1.0, 0.0, 0.0]] * 3))) == 0
    assert float(used_share(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))) == pytest.approx(0.5)
    assert float(used_share(torch.ones(3, 1))) == 0
