"""One meta-step over three sources of connectomes: ours against the published way.

Three tasks of 20 support and 20 query graphs each, of 84 regions (density 0.2) and of 116 (density 0.1); a GCN of four layers (64-32-32-32-8), whose
steps are signs of gradients times rates that a network makes of the means of weights and gradients; the Jensen–Shannon loss over all pairs of graphs
of a task. A step ends with the gradients of the GCN and of the network of rates, summed over the tasks.

The peer is written after a description of the published code, of which nothing is copied: PyTorch Geometric's `GCNConv` over edges, a loop over pairs
of graphs with both halves of the estimator over every pair of regions, and, for the rates, a second forward by hand with a dense Laplacian of all
graphs of a batch. `anomaly mode` is the same as it was published, inside of autograd's anomaly mode. `no second forward` leaves the second forward
out, and `pairs in one product` also the loop over graphs. Two figures of the published code itself were recorded once, at 84 regions.

Losses and the gradients of the GCN are compared in double precision. Gradients of the rates are not: the peer's second forward is not the one whose
rates it sets. The floor is the products of all pairs of graphs and their logarithms, forward and backward, for support and query.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from graphssl.objectives.jensen_shannon import jensen_shannon, within_two_hops
from graphssl.training.meta import InnerLoop, as_function, query_losses

WIDTHS = (64, 32, 32, 32, 8)
N_TASKS, N_GRAPHS = 3, 20
DENSITY = {84: 0.2, 116: 0.1}
HIGHEST_RATE, DECAY = 1 / 1200, 1e-4
TOLERANCE = 1e-8


class Graphs(NamedTuple):
    """Graphs of one size: weights `[B, R, R]`, symmetric and positive, and features `[B, R, F]`."""

    weights: Tensor
    features: Tensor


Tasks = list[tuple[Graphs, Graphs]]


def random_tasks(density: float, n_regions: int) -> Tasks:
    """Support and query of each task."""
    generator = torch.Generator().manual_seed(0)

    def graphs() -> Graphs:
        weights = torch.rand(N_GRAPHS, n_regions, n_regions, generator=generator).triu(diagonal=1)
        chain = torch.eye(n_regions, dtype=torch.bool).roll(1, dims=1)  # no region is without an edge, however few there are
        weights = weights * (chain | (torch.rand(weights.shape, generator=generator) < density))
        return Graphs(weights + weights.mT, torch.rand(N_GRAPHS, n_regions, WIDTHS[0], generator=generator))

    return [(graphs(), graphs()) for _ in range(N_TASKS)]


# Ours: dense graphs, all pairs of graphs at once, rates trained by autograd.


class DenseGCN(nn.Module):
    """Graph convolutions on dense weights, and the loss of their vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(WIDTHS))

    def forward(self, graphs: Graphs) -> Tensor:
        weights = graphs.weights + torch.eye(graphs.weights.shape[-1], dtype=graphs.weights.dtype)
        root = weights.sum(dim=-1).rsqrt()
        messages = root.unsqueeze(-1) * weights * root.unsqueeze(-2)
        vectors = graphs.features
        for layer in self.layers:
            vectors = torch.relu(messages @ (vectors @ layer.weight.T) + layer.bias)
        return all_pairs_loss(F.normalize(vectors, dim=-1), within_two_hops(graphs.weights != 0))


def all_pairs_loss(vectors: Tensor, near: Tensor) -> Tensor:
    """Inside of graphs, and the sum over shifts of the batch of the means between them; a shift and its opposite hold the same pairs."""
    n_graphs, n_regions = vectors.shape[:2]
    each = torch.arange(n_graphs)
    inside = jensen_shannon(vectors, near, each, each)
    first, second = torch.triu_indices(n_graphs, n_graphs, offset=1)
    shift = torch.minimum(second - first, n_graphs - (second - first)) - 1
    halves = jensen_shannon(vectors, near, first, second, group=shift, n_groups=n_graphs // 2)
    last = shift == n_graphs // 2 - 1  # the shift that is its own opposite
    doubled = 2 * halves - jensen_shannon(vectors, near, first[last], second[last])
    return (inside + doubled) / n_regions


class Rates(nn.Module):
    """The published network of rates, and its step: signs of gradients, for Adam without a memory is no more."""

    def __init__(self, n_tensors: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2 * n_tensors, 2 * n_tensors), nn.ReLU(), nn.Linear(2 * n_tensors, n_tensors))

    def forward(self, parameters: dict[str, Tensor], gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        rates = self.rates([tensor.detach() for tensor in parameters.values()], list(gradients.values()))
        return {name: parameters[name] - rate * sign(gradients[name]) for name, rate in zip(parameters, rates, strict=True)}

    def rates(self, parameters: list[Tensor], gradients: list[Tensor]) -> Tensor:
        means = torch.stack([tensor.mean() for tensor in (*parameters, *gradients)])
        share = torch.softmax(self.network(means), dim=0)
        return share / share.max() * HIGHEST_RATE


def sign(gradient: Tensor) -> Tensor:
    """Signs, zero where a gradient is: on two ways of adding up, zeros come out as rounding errors of either sign."""
    return gradient.sign() * (gradient.abs() > 1e-12)


def models(dtype: torch.dtype) -> tuple[DenseGCN, Rates]:
    torch.manual_seed(0)
    gcn = DenseGCN()
    return gcn.to(dtype), Rates(2 * len(gcn.layers)).to(dtype)


def ours(tasks: Tasks, gcn: DenseGCN, rates: Rates) -> Tensor:
    loss, parameters = as_function(gcn, first_order=True)
    support, query = zip(*tasks, strict=True)
    # A task fills the processor's cache by itself, so there is nothing to gain from all tasks at once.
    losses = query_losses(loss, parameters, support, query, InnerLoop(rates, first_order=True), path="sequential")
    losses.sum().backward()
    return losses.detach()


# The published way.


class SparseGCN(nn.Module):
    """Convolutions over edges."""

    def __init__(self, gcn: DenseGCN) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(GCNConv(before, after) for before, after in pairwise(WIDTHS))
        for convolution, layer in zip(self.convolutions, gcn.layers, strict=True):  # the same tensors, in the same order of their gradients
            convolution.lin.weight, convolution.bias = layer.weight, layer.bias

    def forward(self, features: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        for convolution in self.convolutions:
            features = torch.relu(convolution(features, edge_index, edge_weight))
        return F.normalize(features, dim=-1)


class Published(NamedTuple):
    """What the published step does, and what of it is left out."""

    rates: bool = True
    loop: bool = True
    anomaly: bool = False

    def __call__(self, tasks: Tasks, gcn: DenseGCN, rates: Rates) -> Tensor:
        sparse = SparseGCN(gcn)
        names = [f"convolutions.{layer}.{part}" for layer in range(len(WIDTHS) - 1) for part in ("lin.weight", "bias")]
        values = [sparse.get_parameter(name) for name in names]
        losses = []
        with torch.autograd.set_detect_anomaly(True) if self.anomaly else nullcontext():
            for support, query in tasks:
                found = self.loss(functional_call(sparse, dict(zip(names, values, strict=True)), edges_of(support)), support)
                gradients = torch.autograd.grad(found, values)
                speed = rates.rates([value.detach() for value in values], list(gradients))
                fast = [value - rate.detach() * sign(gradient) for value, rate, gradient in zip(values, speed, gradients, strict=True)]
                loss = self.loss(functional_call(sparse, dict(zip(names, fast, strict=True)), edges_of(query)), query)
                loss.backward()
                if self.rates:
                    held = [value.detach() - rate * (g + DECAY * value.detach()) for value, rate, g in zip(values, speed, gradients, strict=True)]
                    self.loss(by_hand(query, names, held), query).backward()
                losses.append(loss.detach())
        return torch.stack(losses)

    def loss(self, vectors: Tensor, graphs: Graphs) -> Tensor:
        n_graphs, n_regions = graphs.weights.shape[:2]
        adjacency = (graphs.weights != 0).to(vectors.dtype)
        near = (adjacency + adjacency @ adjacency) != 0
        z = vectors.view(n_graphs, n_regions, -1)
        total = divergence([z[g] @ z[g].T for g in range(n_graphs)], list(near))
        for shift in range(1, n_graphs):
            if self.loop:
                others = [(g - shift) % n_graphs for g in range(n_graphs)]
                products = [z[g] @ z[h].T for g, h in enumerate(others)]
                masks = [near[g] | near[h] for g, h in enumerate(others)]
                total = total + divergence(products, masks)
            else:
                total = total + divergence([torch.bmm(z, z.roll(shift, 0).mT)], [near | near.roll(shift, 0)])
        return total / n_regions


def divergence(products: list[Tensor], near: list[Tensor]) -> Tensor:
    """Both halves of the estimator over every pair of regions, of which each keeps its own."""
    s, positive = torch.stack(products), torch.stack(near)
    log2 = 0.6931471805599453
    attracted = ((log2 - F.softplus(-s)) * positive).sum() / positive.sum()
    repelled = ((F.softplus(-s) + s - log2) * ~positive).sum() / (~positive).sum()
    return repelled - attracted


def edges_of(graphs: Graphs) -> tuple[Tensor, Tensor, Tensor]:
    """All graphs of a batch as one graph of edges."""
    graph, source, target = graphs.weights.nonzero().unbind(dim=1)
    first = graph * graphs.weights.shape[1]
    return graphs.features.flatten(end_dim=1), torch.stack([first + source, first + target]), graphs.weights[graph, source, target]


def by_hand(graphs: Graphs, names: list[str], values: list[Tensor]) -> Tensor:
    """The second forward: products with a dense Laplacian of all graphs of the batch."""
    weights = torch.block_diag(*graphs.weights)
    root = weights.sum(dim=1).rsqrt()
    laplacian = torch.eye(len(weights), dtype=weights.dtype) - root.unsqueeze(1) * weights * root.unsqueeze(0)
    vectors = graphs.features.flatten(end_dim=1)
    parameters = dict(zip(names, values, strict=True))
    for layer in range(len(WIDTHS) - 1):
        weight, bias = parameters[f"convolutions.{layer}.lin.weight"], parameters[f"convolutions.{layer}.bias"]
        vectors = torch.relu(laplacian @ (vectors @ weight.T) + bias)
    return F.normalize(vectors, dim=-1)


STEPS: dict[str, Callable[[Tasks, DenseGCN, Rates], Tensor]] = {
    "published": Published(),
    "published, anomaly mode": Published(anomaly=True),
    "published, no second forward": Published(rates=False),
    "that, pairs in one product": Published(rates=False, loop=False),
}
# Those that leave nothing out.
WHOLE = ("published", "published, anomaly mode")
# Of the published code itself.
RECORDED = {"recorded once": (1.30, 0.0), "recorded once, anomaly mode": (2.60, 0.0)}


def ready(step: Callable[[Tasks, DenseGCN, Rates], Tensor], tasks: Tasks) -> Callable[[], Tensor]:
    return partial(step, tasks, *models(torch.float32))


def pairs_of_graphs(tasks: Tasks, device: str) -> Callable[[], object]:
    """Products of all pairs of graphs of a batch and a logarithm of each number, forward and backward, for support and query of each task."""
    n_graphs, n_regions = tasks[0][0].weights.shape[:2]
    first, second = torch.triu_indices(n_graphs, n_graphs, device=device)
    vectors = torch.randn(n_graphs, n_regions, WIDTHS[-1], device=device, requires_grad=True)

    def work() -> None:
        for _ in range(2 * len(tasks)):
            F.softplus(vectors[first] @ vectors[second].mT).sum().backward()

    return work


def check(tasks: Tasks) -> dict[str, Agreement]:
    """Losses and gradients of the GCN in double precision, relative to the largest value, by peer."""
    tasks = [tuple(Graphs(*(part.double() for part in graphs)) for graphs in pair) for pair in tasks]
    found = {}
    for name, step in {"ours": ours, **STEPS}.items():
        gcn, rates = models(torch.float64)
        losses = step(tasks, gcn, rates)
        found[name] = losses, torch.cat([parameter.grad.flatten() for layer in gcn.layers for parameter in (layer.weight, layer.bias)])
    mine = found.pop("ours")
    gaps = {name: max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(mine, theirs, strict=True)) for name, theirs in found.items()}
    return {name: Agreement("losses and gradients, double precision", gap, TOLERANCE) for name, gap in gaps.items()}


def case(n_regions: int, density: float) -> Case:
    peers = [Peer(name, partial(ready, step), Goal(ratio=10) if name in WHOLE else None) for name, step in STEPS.items()]
    if n_regions == 84:
        peers += [Peer(name, recorded=costs, goal=Goal(ratio=10), differs="another machine") for name, costs in RECORDED.items()]
    return Case(
        f"meta-step of {N_TASKS} tasks × {N_GRAPHS} + {N_GRAPHS} graphs of {{}} regions",
        sizes=(n_regions // 4, n_regions // 2, n_regions),
        smoke=(16, 24),
        inputs=partial(random_tasks, density),
        ours=partial(ready, ours),
        peers=peers,
        check=check,
        floor=Bare("products and logarithms of all pairs", pairs_of_graphs),
        unit="regions",
    )


CASES = [case(n_regions, density) for n_regions, density in DENSITY.items()]

if __name__ == "__main__":
    main(__doc__, CASES)
