"""Second-order MAML over eight tasks: all tasks at once, against one after the other and against learn2learn on the same model, in alternation.

    python benchmarks/maml.py [--json]

Three inner steps are taken, and the gradient of the sum of the queries' losses is found. `sinusoids` is the regression of the method's paper (Finn et
al., 2017): ten points a task, a network of 1-40-40-1. The others have 5 subjects a class to adapt on and 5 to be good at, as the small cohorts of the
field allow; each is embedded by an encoder as it is by default, with a linear head. `tables` have twelve columns; `connectomes` are of 84 regions.

CPU seconds of one thread of a later meta-step, in a process of its own; the median of the repeats counts. `equal` says that all three find the same
losses and gradients. learn2learn is built by `make learn2learn`; without it only our own two ways are compared.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import torch
from measure.forked import measure
from measure.records import record, report
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data import ConnectomeBatch, TableBatch
from graphssl.encoders import MLP, AbstractEncoder, GraphTransformer, TableMLP, TableTransformer
from graphssl.errors import MissingExtraError
from graphssl.training.meta import GradientStep, InnerLoop, as_function, load_learn2learn, query_losses
from graphssl.training.meta.inner import twice_differentiable

N_TASKS, N_ROWS, N_STEPS, RATE = 8, 10, 3, 0.05
TOLERANCE = 1e-3  # of single precision after three steps and their derivatives
Labelled = tuple[Any, Tensor]


class CurveLoss(nn.Module):
    """Squared error of a network on points of a curve; the network of the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))

    def forward(self, points: Labelled) -> Tensor:
        return F.mse_loss(self.network(points[0]), points[1])


class HeadLoss(nn.Module):
    """Cross-entropy of a linear head on an encoder."""

    def __init__(self, encoder: AbstractEncoder) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.pooled_width, 2)

    def forward(self, labelled: Labelled) -> Tensor:
        return F.cross_entropy(self.head(self.encoder(labelled[0]).pooled), labelled[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides = dict(SIDES)
    try:
        load_learn2learn()
    except MissingExtraError as error:
        sides.pop("learn2learn")
        print(f"without learn2learn: {error}")
    measured = {(case, side): [] for case in CASES for side in sides}
    for case in CASES:
        for _ in range(arguments.repeats):
            for side in sides:
                cpu, _, mib = measure(partial(later_step, case, side))
                measured[case, side].append((cpu, mib))
    parts = []
    for case in CASES:  # after the forks: a process that has run autograd must not be forked
        gaps = differences(case, list(sides))
        print(f"{case}: largest relative difference " + ", ".join(f"{side} {gap:.1e}" for side, gap in gaps.items()))
        parts += [record(case, peer, measured[case, "ours"], measured[case, peer], gaps[peer] <= TOLERANCE) for peer in gaps]
    for part in parts:
        report(part)
    if arguments.json:
        worst = min(parts, key=lambda part: float(str(part["ratio"])))
        print(json.dumps({**worst, "name": "maml", "parts": parts}))


def connectomes(generator: torch.Generator) -> ConnectomeBatch:
    """Connectomes of independent weights of 84 regions."""
    weights = torch.randn(N_ROWS, 84, 84, generator=generator).triu(diagonal=1)
    visible = ~torch.eye(84, dtype=torch.bool).expand(N_ROWS, -1, -1)
    centroids = torch.tensor([0.0, -17.0, 12.0]) + 35 * torch.randn(84, 3, generator=torch.Generator().manual_seed(0))
    return ConnectomeBatch(
        tuple(map(str, range(N_ROWS))),
        weights + weights.mT,
        visible.contiguous(),
        torch.ones(N_ROWS, 84, dtype=torch.bool),
        centroids.expand(N_ROWS, -1, -1).contiguous(),
        torch.full((N_ROWS, 84), -1),
        ("random",) * N_ROWS,
    )


def tables(generator: torch.Generator) -> TableBatch:
    """Patients of nine numbers and three categories."""
    numbers = torch.randn(N_ROWS, 9, generator=generator)
    codes = torch.randint(0, 3, (N_ROWS, 3), generator=generator)
    pieces = torch.sigmoid(numbers.unsqueeze(2) + torch.arange(4.0))
    return TableBatch(tuple(map(str, range(N_ROWS))), numbers, pieces, codes, torch.rand(N_ROWS, 12, generator=generator) > 0.1)


def points(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points of a curve, whose height and phase differ by task."""
    x = 10 * torch.rand(N_ROWS, 1, generator=generator) - 5
    height, phase = torch.rand(2, generator=generator)
    return x, (0.1 + 4.9 * height) * torch.sin(x + torch.pi * phase)


def labelled(batch: Callable[[torch.Generator], Any]) -> Callable[[torch.Generator], Labelled]:
    return lambda generator: (batch(generator), torch.arange(N_ROWS) % 2)


COLUMNS: dict[str, Any] = {"numbers": [f"n{k}" for k in range(9)], "categories": {f"c{k}": "abc" for k in range(3)}, "n_pieces": 4}
CASES: dict[str, tuple[Callable[[torch.Generator], Labelled], Callable[[], nn.Module]]] = {
    "sinusoids": (points, CurveLoss),
    "tables, transformer": (labelled(tables), lambda: HeadLoss(TableTransformer(dropout=0.0, **COLUMNS))),
    "tables, feed-forward": (labelled(tables), lambda: HeadLoss(TableMLP(dropout=0.0, **COLUMNS))),
    "connectomes, feed-forward": (labelled(connectomes), lambda: HeadLoss(MLP(dropout=0.0))),
    "connectomes, transformer": (labelled(connectomes), lambda: HeadLoss(GraphTransformer(dropout=0.0))),
}


def tasks_of(case: str) -> tuple[list[Labelled], list[Labelled]]:
    """Support and query of each task."""
    generator = torch.Generator().manual_seed(1)
    support, query = ([CASES[case][0](generator) for _ in range(N_TASKS)] for _ in range(2))
    return support, query


def model_of(case: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[case][1]()


def functional(model: nn.Module, support: list[Labelled], query: list[Labelled], path: Any) -> Tensor:
    loss, parameters = as_function(model)
    losses = query_losses(loss, parameters, support, query, InnerLoop(GradientStep(RATE), n_steps=N_STEPS), path=path)
    losses.sum().backward()
    return losses.detach()


def learn2learn(model: nn.Module, support: list[Labelled], query: list[Labelled]) -> Tensor:
    maml, losses = load_learn2learn().algorithms.MAML(model, lr=RATE, allow_unused=True), []
    with twice_differentiable():
        for near, asked in zip(support, query, strict=True):
            learner = maml.clone()
            for _ in range(N_STEPS):
                learner.adapt(learner(near))
            losses.append(learner(asked))
        torch.stack(losses).sum().backward()
    return torch.stack(losses).detach()


SIDES: dict[str, Callable[[nn.Module, list[Labelled], list[Labelled]], Tensor]] = {
    "ours": partial(functional, path="vmap"),
    "one after the other": partial(functional, path="sequential"),
    "learn2learn": learn2learn,
}


def later_step(case: str, side: str) -> float:
    """CPU seconds of a step after the first: the mean of as many as take a tenth of a second."""
    model, (support, query) = model_of(case), tasks_of(case)
    SIDES[side](model, support, query)
    start, n_steps = time.process_time(), 0
    while n_steps == 0 or time.process_time() - start < 0.1:
        SIDES[side](model, support, query)
        n_steps += 1
    return (time.process_time() - start) / n_steps


def differences(case: str, sides: list[str]) -> dict[str, float]:
    """Largest difference of losses and gradients from ours, relative to the largest value."""
    found = {}
    for side in sides:
        model, (support, query) = model_of(case), tasks_of(case)
        losses = SIDES[side](model, support, query)
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in model.parameters()]
        found[side] = losses, torch.cat([gradient.flatten() for gradient in gradients])
    mine = found.pop("ours")
    return {side: max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(theirs, mine, strict=True)) for side, theirs in found.items()}


if __name__ == "__main__":
    main()
