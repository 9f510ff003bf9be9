"""The contrast of two modalities against loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from graphssl.objectives.cross_modal_loss import cosines, found_share, soft_contrast


def vectors(n, seed, width=5):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def slow(first, second, forth, back, temperature):
    """One pair after another."""

    def cosine(u, v):
        return (u @ v) / (u.norm() * v.norm())

    def one_way(anchors, others, shares):
        total = 0.0
        for i, anchor in enumerate(anchors):
            scaled = [cosine(anchor, other) / temperature for other in others]
            normaliser = torch.stack(scaled).exp().sum().log()
            total = total - sum(shares[i, j] * (scaled[j] - normaliser) for j in range(len(others)))
        return total / len(anchors)

    return 0.5 * (one_way(first, second, forth) + one_way(second, first, back))


@pytest.mark.parametrize(("n_first", "n_second"), [(4, 4), (3, 6), (1, 2)])
def test_loss_and_gradient_are_those_of_a_loop(n_first, n_second):
    first, second = vectors(n_first, 0), vectors(n_second, 1)
    shares = torch.randn(n_first, n_second, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    forth, back = shares.softmax(dim=1), shares.T.softmax(dim=1)
    fast = soft_contrast(cosines(first, second) / 0.3, forth, back)
    expected = slow(first, second, forth, back, 0.3)
    assert fast.item() == pytest.approx(expected.item(), rel=1e-9)
    for mine, theirs in zip(torch.autograd.grad(fast, (first, second)), torch.autograd.grad(expected, (first, second)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_the_identity_as_soft_target_is_the_hard_contrast():
    first, second = vectors(6, 3), vectors(6, 4)
    logits, own = cosines(first, second) / 0.1, torch.eye(6, dtype=torch.float64)
    row = torch.arange(6)
    assert soft_contrast(logits, own, own).item() == pytest.approx((F.cross_entropy(logits, row) + F.cross_entropy(logits.T, row)).item() / 2)


def test_it_is_symmetric_and_knows_no_order_of_patients():
    first, second = vectors(5, 5), vectors(5, 6)
    shares = torch.rand(5, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    forth, back = shares.softmax(dim=1), shares.T.softmax(dim=1)
    loss = soft_contrast(cosines(first, second), forth, back)
    order = torch.tensor([3, 1, 4, 0, 2])
    moved = soft_contrast(cosines(first[order], second[order]), forth[order][:, order], back[order][:, order])
    assert loss.item() == pytest.approx(moved.item()) == pytest.approx(soft_contrast(cosines(second, first), back, forth).item())


def test_vectors_without_direction_cost_what_guessing_costs():
    logits, own = cosines(torch.zeros(4, 3), torch.zeros(4, 3)), torch.eye(4)
    assert float(soft_contrast(logits, own, own)) == pytest.approx(math.log(4))


def test_who_is_found():
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 5.0, 1.0]])
    assert float(found_share(logits, torch.eye(3))) == pytest.approx(1 / 3)
    both = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    assert float(found_share(logits, both)) == pytest.approx(2 / 3)
    half = cosines(torch.zeros(2, 3, dtype=torch.float16), torch.ones(2, 3, dtype=torch.float16))
    assert half.dtype == torch.float32
