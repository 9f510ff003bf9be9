"""Entropic optimal transport: Sinkhorn's algorithm for many problems at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.errors import ConfigError, DataError


@dataclass(frozen=True)
class Transport:
    """Solved problems of transport.

    Args:
        plans: How much is carried from each source to each target `[P, S, T]`.
        marginal_error: Sum of the absolute differences between what the plan takes and brings and what it should `[P]`; of sources whose mass
            has a price, what they should give at the potentials found.
        n_iterations: Iterations each problem took `[P]`.
    """

    plans: Float[Tensor, "P S T"]
    marginal_error: Float[Tensor, "P"]
    n_iterations: Int[Tensor, "P"]


@torch.no_grad()
def sinkhorn(
    cost: Float[Tensor, "P S T"],
    source_mass: Float[Tensor, "P S"],
    target_mass: Float[Tensor, "P T"],
    *,
    entropy: float,
    source_price: float | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 20_000,
) -> Transport:
    """Plans that carry the source's mass to the target's at the least cost minus entropy, for every problem of a batch.

    Problems of different sizes are padded with mass zero. Potentials are kept as logarithms, into which the scalings of every few iterations
    are absorbed, so that no entropy is too small for the exponential (Schmitzer, *Stabilized Sparse Scaling Algorithms for Entropy Regularized
    Transport Problems*, SIAM Journal on Scientific Computing 2019). Steps are lengthened as far as the speed seen so far allows, and taken back
    where the error grows (Lehmann, von Renesse, Sambale & Uschmajew, *A note on overrelaxation in the Sinkhorn algorithm*, Optimization Letters
    2022). A problem that is solved leaves the batch. Nothing is differentiated.

    Args:
        cost: Cost of carrying one unit of mass from each source to each target.
        source_mass: Mass at each source, summing to one; zero where there is none.
        target_mass: Mass at each target, summing to one; zero where there is none.
        entropy: Weight of the plan's entropy relative to the masses, in units of the cost: the smaller, the sharper the plan and the more iterations.
        source_price: Weight of the divergence (Kullback & Leibler) between what is taken from the sources and their mass, in units of the cost, as in
            unbalanced transport (Chizat, Peyré, Schmitzer & Vialard, Mathematics of Computation 2018): the less, the more mass that nobody near
            wants stays where it is. None takes all mass.
        tolerance: Largest sum of absolute differences between the plan's marginals and the masses.
        max_iterations: Most iterations.

    Raises:
        ConfigError: If the entropy, the price or the tolerance is not above zero.
        DataError: If shapes do not fit, masses are negative or do not sum to one, a cost is not finite, or the tolerance is not reached.
    """
    _check(cost, source_mass, target_mass)
    _check_above_zero(entropy, source_price, tolerance)
    looseness = 0.0 if source_price is None else entropy / source_price
    found = Transport(
        torch.zeros_like(cost), cost.new_zeros(len(cost)), torch.full((len(cost),), max_iterations, dtype=torch.long, device=cost.device)
    )
    for rows, n_sources, n_targets in _alike(source_mass, target_mass):
        scaled = cost[rows, :n_sources, :n_targets] / entropy
        problem = _Problems(rows, scaled, source_mass[rows, :n_sources], target_mass[rows, :n_targets], looseness)
        _solve(problem, found, tolerance, max_iterations)
    worst = float(found.marginal_error.max()) if len(cost) else 0.0
    if not worst <= tolerance:
        late = int((~(found.marginal_error <= tolerance)).sum())
        raise DataError(
            f"Expected plans whose marginals are off by at most {tolerance:g} after {max_iterations} iterations, found {worst:.3g} "
            f"({late} of {len(cost)} problems). Raise the entropy ({entropy:g}), the tolerance or the iterations."
        )
    return found


# Iterations between two looks at the error.
_ROUND = 20
_LARGEST_RATE = 1 - 1e-4
# Elements of the costs that are worked on together: on a CPU as many as its cache holds.
_TOGETHER = {"cpu": 2**18}
_TOGETHER_ELSEWHERE = 2**26


class _Problems:
    """Problems that are not solved yet, with their potentials; `looseness` is the entropy over the price of the sources' mass."""

    def __init__(self, rows: Tensor, cost: Tensor, source_mass: Tensor, target_mass: Tensor, looseness: float) -> None:
        self.rows, self.cost, self.source_mass, self.target_mass = rows, cost, source_mass, target_mass
        self.looseness = looseness
        self.f = source_mass.log() - torch.logsumexp(-cost, dim=2)
        self.g = target_mass.log() - torch.logsumexp(self.f[:, :, None] - cost, dim=1)
        self.step = cost.new_ones(len(cost), 1)
        self.error = cost.new_full((len(cost),), torch.inf)

    def plans(self) -> Tensor:
        return (self.f[:, :, None] + self.g[:, None, :] - self.cost).exp_()

    def pull(self) -> Tensor:
        """How far, in logarithms, the price pulls the sources' part to their mass."""
        return torch.where(self.source_mass > 0, self.looseness * (self.source_mass.log() - self.f), 0.0)

    def errors(self, plans: Tensor) -> Tensor:
        wanted = self.source_mass * self.pull().exp() if self.looseness else self.source_mass
        return (plans.sum(dim=2) - wanted).abs().sum(dim=1) + (plans.sum(dim=1) - self.target_mass).abs().sum(dim=1)

    def keep(self, which: Tensor) -> None:
        for name in ("rows", "cost", "source_mass", "target_mass", "f", "g", "step", "error"):
            setattr(self, name, getattr(self, name)[which])


def _solve(problem: _Problems, found: Transport, tolerance: float, max_iterations: int) -> None:
    for n_done in range(0, max_iterations + _ROUND, _ROUND):
        plans = problem.plans()
        error = problem.errors(plans)
        n_sources, n_targets = plans.shape[1:]
        done = error <= tolerance if n_done < max_iterations else torch.ones_like(error, dtype=torch.bool)
        if done.any():
            solved = problem.rows[done]
            found.plans[solved, :n_sources, :n_targets] = plans[done]
            found.marginal_error[solved], found.n_iterations[solved] = error[done], n_done
            problem.keep(~done)
            plans, error = plans[~done], error[~done]
        if not len(error):
            return
        # The first round says nothing of the later ones, nor does the first with another step: the error grows at first and falls faster then.
        if n_done and n_done % (2 * _ROUND) == 0:
            problem.step = _longer_step(problem.step, error / problem.error)
        problem.error = error
        _iterate(problem, plans)


def _iterate(problem: _Problems, plans: Tensor) -> None:
    """A round of scalings of the plans' rows and columns, absorbed into the potentials."""
    rows, columns = torch.ones_like(problem.source_mass), torch.ones_like(problem.target_mass)
    across = plans.transpose(1, 2)
    plain = bool((problem.step == 1).all())
    pull = problem.pull()
    for _ in range(_ROUND):
        wanted = _share(problem.source_mass, _times(plans, columns))
        if problem.looseness:
            wanted = ((wanted.log() + pull) / (1 + problem.looseness)).exp()
        rows = wanted if plain else rows * (wanted / rows) ** problem.step
        wanted = _share(problem.target_mass, _times(across, rows))
        columns = wanted if plain else columns * (wanted / columns) ** problem.step
    problem.f, problem.g = problem.f + rows.log(), problem.g + columns.log()


def _share(mass: Tensor, carried: Tensor) -> Tensor:
    return torch.where(mass > 0, mass / carried, 1.0)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices `[P, n, m]` times vectors `[P, m]`."""
    if matrices.device.type == "cpu":  # where NumPy is seven times faster at this than torch
        return torch.from_numpy(np.matmul(matrices.numpy(), vectors.numpy()[:, :, None])[:, :, 0])
    return torch.bmm(matrices, vectors[:, :, None])[:, :, 0]


def _longer_step(step: Tensor, shrunk: Tensor) -> Tensor:
    """Exponents `ω` of the next round, from those of the last `[P, 1]` and the ratio by which the error changed in it `[P]`.

    Plain iterations shrink the error by `η` each, those with `ω` by `λ`, where `(λ + ω - 1)² = λ ω² η`; it falls fastest with
    `ω = 2 / (1 + √(1 - η))`.
    """
    rate, last = shrunk ** (1 / _ROUND), step[:, 0]
    plain_rate = ((rate + last - 1) ** 2 / (rate * last**2)).clamp(max=_LARGEST_RATE)
    best = 2 / (1 + (1 - plain_rate).sqrt())
    chosen = torch.where(rate >= 1, 1.0, torch.where(rate > last - 1, best, last))
    return chosen[:, None]


def _alike(source_mass: Tensor, target_mass: Tensor) -> Iterator[tuple[Tensor, int, int]]:
    """Rows of problems of like size, and how many sources and targets they have at most."""
    n_sources, n_targets = (_size(mass) for mass in (source_mass, target_mass))
    order = np.lexsort((n_targets, n_sources))
    largest = _TOGETHER.get(source_mass.device.type, _TOGETHER_ELSEWHERE)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and _elements(n_sources[order[start : stop + 1]], n_targets[order[start : stop + 1]]) <= largest:
            stop += 1
        rows = order[start:stop]
        yield torch.from_numpy(rows).to(source_mass.device), int(n_sources[rows].max()), int(n_targets[rows].max())
        start = stop


def _size(mass: Tensor) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Place after the last mass of each problem."""
    places = torch.arange(1, mass.shape[1] + 1, device=mass.device)
    return np.asarray((places * (mass > 0)).amax(dim=1).cpu())


def _elements(n_sources: np.ndarray[tuple[int], np.dtype[np.int64]], n_targets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    return int(len(n_sources) * n_sources.max() * n_targets.max())


def _check_above_zero(entropy: float, source_price: float | None, tolerance: float) -> None:
    if not entropy > 0:
        raise ConfigError(f"Expected an entropy above 0, found {entropy:g}. It is in units of the cost: 0.01 of its mean is sharp, 0.1 smooth.")
    if source_price is not None and not source_price > 0:
        raise ConfigError(f"Expected a price of the sources' mass above 0, found {source_price:g}. It is in units of the cost; None takes all mass.")
    if not tolerance > 0:
        raise ConfigError(f"Expected a tolerance above 0, found {tolerance:g}. Marginals are sums of many numbers: 1e-6 is exact enough.")


def _check(cost: Tensor, source_mass: Tensor, target_mass: Tensor) -> None:
    if cost.ndim != 3 or source_mass.shape != cost.shape[:2] or target_mass.shape != (cost.shape[0], cost.shape[2]):
        raise DataError(
            f"Expected costs [P, S, T] with masses [P, S] and [P, T], found {tuple(cost.shape)}, {tuple(source_mass.shape)} and "
            f"{tuple(target_mass.shape)}. Pad smaller problems with mass zero."
        )
    for what, mass in (("source", source_mass), ("target", target_mass)):
        off = (mass.sum(dim=1) - 1).abs()
        if (mass < 0).any() or not (off < _MASS_ROUNDING).all():
            raise DataError(
                f"Expected masses of the {what} that are not negative and sum to one, found a smallest of {float(mass.min()):.3g} and sums "
                f"off by {float(off.max()):.3g}. Divide them by their sum."
            )
    if not torch.isfinite(cost).all():
        raise DataError("Expected finite costs, found NaN or infinite ones. Give pairs that must not meet mass zero, or a high cost.")


_MASS_ROUNDING = 1e-5
