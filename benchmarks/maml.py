"""Second-order MAML over eight tasks: all tasks at once, against one after the other and against learn2learn on the same model.

Three inner steps are taken, and the gradient of the sum of the queries' losses is found. `sinusoids` is the regression of the method's paper (Finn et
al., 2017): ten points a task, a network of 1-40-40-1. The others have 5 subjects a class to adapt on and 5 to be good at, as the small cohorts of the
field allow; each is embedded by an encoder as it is by default, with a linear head. Tables have twelve columns; connectomes are of 84 regions.

The floor is the forward and backward of the same points through the same model, as often as three inner steps and a query ask for, without any
derivative of a derivative. learn2learn is built by `make learn2learn`; without it only our own two ways are compared.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data import ConnectomeBatch, TableBatch
from graphssl.encoders import MLP, AbstractEncoder, GraphTransformer, TableMLP, TableTransformer
from graphssl.errors import MissingExtraError
from graphssl.training.meta import GradientStep, InnerLoop, as_function, load_learn2learn, query_losses
from graphssl.training.meta.inner import twice_differentiable

N_ROWS, N_STEPS, RATE = 10, 3, 0.05
TOLERANCE = 1e-3  # of single precision after three steps and their derivatives
Labelled = tuple[Any, Tensor]


class Tasks(NamedTuple):
    """Support and query of each task."""

    support: list[Labelled]
    query: list[Labelled]


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


Step = Callable[[nn.Module, Tasks], Tensor]


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
MODELS: dict[str, tuple[Callable[[torch.Generator], Labelled], Callable[[], nn.Module]]] = {
    "sinusoids, 1-40-40-1": (points, CurveLoss),
    "`TableTransformer`, 12 columns": (labelled(tables), lambda: HeadLoss(TableTransformer(dropout=0.0, **COLUMNS))),
    "`TableMLP`, 12 columns": (labelled(tables), lambda: HeadLoss(TableMLP(dropout=0.0, **COLUMNS))),
    "`MLP`, 84 regions": (labelled(connectomes), lambda: HeadLoss(MLP(dropout=0.0))),
    "`GraphTransformer`, 84 regions": (labelled(connectomes), lambda: HeadLoss(GraphTransformer(dropout=0.0))),
}


def tasks_of(model: str, n_tasks: int) -> Tasks:
    generator = torch.Generator().manual_seed(1)
    return Tasks(*([MODELS[model][0](generator) for _ in range(n_tasks)] for _ in range(2)))


def ready(model: str, step: Step, tasks: Tasks) -> Callable[[], Tensor]:
    """A meta-step of a model that is made."""
    torch.manual_seed(0)
    return partial(step, MODELS[model][1](), tasks)


def functional(path: Any, model: nn.Module, tasks: Tasks) -> Tensor:
    loss, parameters = as_function(model)
    losses = query_losses(loss, parameters, tasks.support, tasks.query, InnerLoop(GradientStep(RATE), n_steps=N_STEPS), path=path)
    losses.sum().backward()
    return losses.detach()


def learn2learn(model: nn.Module, tasks: Tasks) -> Tensor:
    maml, losses = load_learn2learn().algorithms.MAML(model, lr=RATE, allow_unused=True), []
    with twice_differentiable():
        for near, asked in zip(*tasks, strict=True):
            learner = maml.clone()
            for _ in range(N_STEPS):
                learner.adapt(learner(near))
            losses.append(learner(asked))
        torch.stack(losses).sum().backward()
    return torch.stack(losses).detach()


def plain_passes(model: str, tasks: Tasks, device: str) -> Callable[[], object]:
    """Forward and backward of each task's support three times and of its query once, one after the other."""
    torch.manual_seed(0)
    loss = MODELS[model][1]().to(device)
    given = [(points[0].to(device), points[1].to(device)) for points in (*tasks.support * N_STEPS, *tasks.query)]

    def work() -> None:
        for points in given:
            loss(points).backward()

    return work


def check(model: str, tasks: Tasks) -> dict[str, Agreement]:
    """Losses and gradients, relative to the largest value."""
    found = {name: losses_and_gradients(model, step, tasks) for name, step in STEPS.items()}
    mine = found.pop("all at once")
    how = f"losses and gradients of {len(tasks.query)} tasks"
    gaps = {name: max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(theirs, mine, strict=True)) for name, theirs in found.items()}
    return {name: Agreement(how, gap, TOLERANCE) for name, gap in gaps.items()}


def losses_and_gradients(model: str, step: Step, tasks: Tasks) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    loss = MODELS[model][1]()
    losses = step(loss, tasks)
    gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in loss.parameters()]
    return losses, torch.cat([gradient.flatten() for gradient in gradients])


def has_learn2learn() -> bool:
    try:
        load_learn2learn()
    except MissingExtraError as error:
        print(f"without learn2learn: {error}")
        return False
    return True


STEPS: dict[str, Step] = {"all at once": partial(functional, "vmap"), "one after the other": partial(functional, "sequential")}
if has_learn2learn():
    STEPS["learn2learn"] = learn2learn
CASES = [
    Case(
        f"second-order MAML over {{}} tasks, {model}",
        sizes=(2, 4, 8),
        smoke=(1, 2),
        inputs=partial(tasks_of, model),
        ours=partial(ready, model, STEPS["all at once"]),
        peers=[Peer(name, partial(ready, model, step), Goal(ratio=3)) for name, step in STEPS.items() if name != "all at once"],
        check=partial(check, model),
        floor=Bare("first-order passes", partial(plain_passes, model)),
        unit="tasks",
    )
    for model in MODELS
]

if __name__ == "__main__":
    main(__doc__, CASES)
