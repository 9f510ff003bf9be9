"""Sinkhorn for many problems at once: against loops, against a linear program and against POT, padded and one at a time."""

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from torch import Tensor

from graphssl.atlases.sinkhorn import sinkhorn
from graphssl.errors import ConfigError, DataError


def problems(sizes: list[tuple[int, int]], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Points of random mass, costs divided by their mean, padded to the largest."""
    rng = np.random.default_rng(seed)
    n, m = max(size[0] for size in sizes), max(size[1] for size in sizes)
    cost, source, target = torch.zeros(len(sizes), n, m).double(), torch.zeros(len(sizes), n).double(), torch.zeros(len(sizes), m).double()
    for place, (k, q) in enumerate(sizes):
        apart = ((rng.random((k, 1, 3)) - rng.random((1, q, 3))) ** 2).sum(axis=2)
        cost[place, :k, :q] = torch.from_numpy(apart / apart.mean())
        source[place, :k] = torch.from_numpy(rng.dirichlet(np.full(k, 3.0)))
        target[place, :q] = torch.from_numpy(rng.dirichlet(np.full(q, 3.0)))
    return cost, source, target


def looped(cost: np.ndarray, source: np.ndarray, target: np.ndarray, entropy: float, price: float = np.inf) -> np.ndarray:
    """The textbook's iterations on dual potentials, relative to the product of the masses."""
    u, v = np.zeros(len(source)), np.zeros(len(target))
    for _ in range(5000):
        before = v
        u = -entropy / (1 + entropy / price) * logsumexp((v - cost) / entropy + np.log(target), axis=1)
        v = -entropy * logsumexp((u[:, None] - cost) / entropy + np.log(source)[:, None], axis=0)
        if np.abs(v - before).max() < 1e-14:
            break
    return np.exp((u[:, None] + v - cost) / entropy) * np.outer(source, target)


@pytest.mark.parametrize("price", [None, 0.05, 1.0])
@pytest.mark.parametrize("entropy", [0.05, 0.3])
def test_padded_problems_of_different_sizes_have_the_plans_of_a_loop(entropy: float, price: float | None) -> None:
    sizes = [(5, 9), (12, 7), (1, 4), (6, 1), (12, 9)]
    cost, source, target = problems(sizes)
    found = sinkhorn(cost, source, target, entropy=entropy, source_price=price, tolerance=1e-11)
    for place, (n, m) in enumerate(sizes):
        slow = looped(cost[place, :n, :m].numpy(), source[place, :n].numpy(), target[place, :m].numpy(), entropy, price or np.inf)
        np.testing.assert_allclose(found.plans[place, :n, :m], slow, atol=1e-9)
        assert float(found.plans[place].sum()) == pytest.approx(1, abs=1e-9)  # nothing in the padding
    assert float(found.marginal_error.max()) <= 1e-11


def test_plans_are_those_of_pot() -> None:
    cost, source, target = problems([(30, 40), (40, 25)], seed=1)
    found = sinkhorn(cost, source, target, entropy=0.02, tolerance=1e-10).plans
    for place, (n, m) in enumerate([(30, 40), (40, 25)]):
        theirs = ot.sinkhorn(
            source[place, :n].numpy(), target[place, :m].numpy(), cost[place, :n, :m].numpy(), 0.02, stopThr=1e-11, numItermax=20_000
        )
        np.testing.assert_allclose(found[place, :n, :m], theirs, atol=1e-9)


def test_a_problem_alone_has_the_plan_it_has_in_a_batch() -> None:
    cost, source, target = problems([(8, 8), (3, 8), (8, 2)], seed=2)
    together = sinkhorn(cost, source, target, entropy=0.05, tolerance=1e-10)
    for place in range(3):
        one = slice(place, place + 1)
        alone = sinkhorn(cost[one], source[one], target[one], entropy=0.05, tolerance=1e-10)
        torch.testing.assert_close(alone.plans[0], together.plans[place], atol=1e-9, rtol=0)
    assert sinkhorn(cost[:0], source[:0], target[:0], entropy=0.05).plans.shape == (0, 8, 8)


def test_the_smaller_the_entropy_the_nearer_to_the_best_assignment() -> None:
    rng = np.random.default_rng(3)
    apart = rng.random((15, 15))
    best = apart[linear_sum_assignment(apart)].mean()
    cost, mass = torch.from_numpy(apart)[None], torch.full((1, 15), 1 / 15).double()
    above = [float((sinkhorn(cost, mass, mass, entropy=entropy, tolerance=1e-7).plans * cost).sum()) - best for entropy in (0.1, 0.05, 0.02)]
    assert above[0] > above[1] > above[2] > -1e-6
    assert above[2] < 5e-3


def test_much_entropy_leaves_the_product_of_the_masses() -> None:
    cost, source, target = problems([(6, 9)])
    torch.testing.assert_close(sinkhorn(cost, source, target, entropy=1e6).plans[0], torch.outer(source[0], target[0]), atol=1e-6, rtol=0)


def test_costs_far_beyond_the_exponential_are_no_matter() -> None:
    """exp(-1000 / 0.01) is zero in any precision; adding a constant to costs changes no plan."""
    cost, source, target = problems([(7, 9)], seed=4)
    plain = sinkhorn(cost, source, target, entropy=0.02, tolerance=1e-9)
    torch.testing.assert_close(sinkhorn(cost + 1000, source, target, entropy=0.02, tolerance=1e-9).plans, plain.plans, atol=1e-8, rtol=0)


def test_a_source_far_from_every_target_keeps_its_mass_where_that_has_a_price() -> None:
    cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [50.0, 50.0]]]).double()
    source, target = torch.full((1, 3), 1 / 3).double(), torch.full((1, 2), 0.5).double()
    forced, free = (sinkhorn(cost, source, target, entropy=0.05, source_price=price).plans[0] for price in (None, 0.5))
    assert float(forced[2].sum()) == pytest.approx(1 / 3, abs=1e-5)
    assert float(free[2].sum()) < 1e-9
    torch.testing.assert_close(free.sum(dim=0), target[0], atol=1e-5, rtol=0)


def test_single_precision_reaches_a_looser_tolerance() -> None:
    cost, source, target = problems([(30, 40)], seed=1)
    single = sinkhorn(cost.float(), source.float(), target.float(), entropy=0.02, tolerance=1e-4).plans
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), sinkhorn(cost, source, target, entropy=0.02).plans, atol=1e-4, rtol=0)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_plans() -> None:
    cost, source, target = problems([(30, 40), (12, 7)], seed=1)
    there = sinkhorn(cost.cuda(), source.cuda(), target.cuda(), entropy=0.02, tolerance=1e-10).plans
    torch.testing.assert_close(there.cpu(), sinkhorn(cost, source, target, entropy=0.02, tolerance=1e-10).plans, atol=1e-9, rtol=0)


def test_no_convergence_says_how_far_off_the_marginals_are() -> None:
    cost, source, target = problems([(30, 40), (1, 2)])
    with pytest.raises(DataError, match=r"off by at most 1e-06 after 40 iterations, found 0\.\d+ \(1 of 2 problems\)\. Raise the entropy \(0\.001\)"):
        sinkhorn(cost, source, target, entropy=0.001, max_iterations=40)


@pytest.mark.parametrize("entropy", [0.0, -1.0, float("nan")])
def test_entropy_must_be_above_zero(entropy: float) -> None:
    with pytest.raises(ConfigError, match=r"Expected an entropy above 0, found"):
        sinkhorn(*problems([(3, 3)]), entropy=entropy)


def test_price_and_tolerance_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match=r"Expected a price of the sources' mass above 0, found 0\."):
        sinkhorn(*problems([(3, 3)]), entropy=1.0, source_price=0.0)
    with pytest.raises(ConfigError, match=r"Expected a tolerance above 0, found -1\."):
        sinkhorn(*problems([(3, 3)]), entropy=1.0, tolerance=-1.0)


def test_wrong_shapes_masses_and_costs_are_told() -> None:
    cost, source, target = problems([(3, 4)])
    with pytest.raises(DataError, match=r"Expected costs \[P, S, T\] with masses \[P, S\] and \[P, T\], found \(1, 3, 4\), \(1, 4\) and \(1, 3\)"):
        sinkhorn(cost, target, source, entropy=1.0)
    with pytest.raises(DataError, match=r"masses of the target that are not negative and sum to one, found a smallest of .* off by 1\."):
        sinkhorn(cost, source, 2 * target, entropy=1.0)
    with pytest.raises(DataError, match=r"masses of the source that are not negative"):
        sinkhorn(cost, torch.tensor([[1.5, -0.5, 0.0]]).double(), target, entropy=1.0)
    with pytest.raises(DataError, match=r"Expected finite costs, found NaN or infinite ones"):
        sinkhorn(cost * torch.nan, source, target, entropy=1.0)
