"""Sampled neighbourhoods of a population graph, for graphs too large to be looked at whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from graphssl.data.population import PopulationGraph
from graphssl.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """Trees of sampled neighbours, one for every seed, in one dense tensor.

    Attributes:
        nodes: The seed, its sampled neighbours, theirs, and so on `[S, T]`, `T = 1 + f₁ + f₁·f₂ + …`; -1 where there is none.
        edges: Edge by which each was reached `[S, T]`; -1 for seeds and where there is none.
        parents: Place in the tree of the patient whose neighbour it is `[T]`; -1 for the seed.
    """

    nodes: Int[Tensor, "S T"]
    edges: Int[Tensor, "S T"]
    parents: Int[Tensor, "T"]

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def mask(self) -> Bool[Tensor, "S T"]:
        """Which places hold a patient."""
        return self.nodes >= 0


def sample_neighborhoods(
    graph: PopulationGraph,
    seeds: Int[Tensor, "S"],
    fan_outs: Sequence[int],
    generator: torch.Generator | None,
) -> Neighborhoods:
    """Draw neighbours of patients, neighbours of those, and so on: uniformly, independently, with replacement.

    It is a few tensor operations for any number of seeds. With replacement the mean over the draws is an unbiased estimate of the mean over all
    neighbours, as in GraphSAGE (Hamilton et al., *Inductive representation learning on large graphs*, NeurIPS 2017). Without a generator nothing is
    drawn: the first neighbours are taken, which `population_graph` puts the most alike ones.

    Args:
        graph: The graph.
        seeds: Patients to start from `[S]`; -1 for nobody.
        fan_outs: How many neighbours to draw at each hop; PyTorch Geometric's `num_neighbors` with `replace=True`.
        generator: Source of randomness, on the CPU; None takes the first neighbours, each once.

    Raises:
        ConfigError: If a fan-out is below 1.
    """
    if any(fan_out < 1 for fan_out in fan_outs):
        raise ConfigError(f"Expected fan-outs of at least 1, found {list(fan_outs)}.")
    starts, n_neighbors = graph.starts[:-1], graph.starts.diff()
    none = torch.full_like(seeds, -1).unsqueeze(1)
    nodes, edges, parents = [seeds.unsqueeze(1)], [none], [torch.tensor([-1], device=graph.device)]
    first = 0
    for fan_out in fan_outs:
        last = nodes[-1].repeat_interleave(fan_out, dim=1)  # [S, width · fan_out]
        available = torch.where(last >= 0, n_neighbors[last], 0)
        if generator is None:
            chosen = torch.arange(fan_out, device=graph.device).repeat(nodes[-1].shape[1]).expand_as(last)
        else:
            chosen = (torch.rand(last.shape, generator=generator, dtype=torch.float64).to(graph.device) * available).long()
        edge = torch.where(chosen < available, starts[last] + chosen, -1)
        width = nodes[-1].shape[1]
        nodes.append(torch.where(edge >= 0, graph.neighbors[edge], -1) if len(graph.neighbors) else torch.full_like(last, -1))
        edges.append(edge)
        parents.append(torch.arange(first, first + width, device=graph.device).repeat_interleave(fan_out))
        first += width
    return Neighborhoods(torch.cat(nodes, dim=1), torch.cat(edges, dim=1), torch.cat(parents))
