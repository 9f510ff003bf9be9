"""Sampled neighbourhoods of the patients of a batch, of those attached to the population too."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.population_batch import PopulationBatch
from graphssl.graphs.sampler import sample_neighborhoods


@dataclass(frozen=True, eq=False)
class BatchNeighborhoods:
    """Trees of neighbours, one for every patient of a batch, in one dense tensor; the patient itself comes first.

    Attributes:
        nodes: Places in the population `[B, T]`; -1 where there is none, and for an attached patient itself.
        parents: Place in the tree of the patient whose neighbour it is `[T]`; -1 for the first.
        similarity: Similarity to that patient in every group `[B, T, G]`; zero for the first and where there is none.
    """

    nodes: Int[Tensor, "B T"]
    parents: Int[Tensor, "T"]
    similarity: Float[Tensor, "B T G"]


def batch_neighborhoods(batch: PopulationBatch, fan_outs: Sequence[int], generator: torch.Generator | None) -> BatchNeighborhoods:
    """Draw neighbours of the patients of a batch, neighbours of those, and so on.

    Args:
        batch: The patients.
        fan_outs: How many neighbours to draw at each hop.
        generator: Source of randomness, on the CPU; None takes the first neighbours, each once, whoever else is in the batch.

    Raises:
        ConfigError: If a fan-out is below 1.
    """
    graph = batch.population.graph
    own = sample_neighborhoods(graph, batch.nodes, fan_outs[:1], generator)
    ranks = _ranks(batch, own.nodes.shape[1] - 1, generator)  # [B, F]
    first = torch.where(ranks < 0, own.nodes[:, 1:], _taken(batch.neighbors, ranks))
    similarity = torch.where((ranks < 0).unsqueeze(-1), _over(graph.similarity, own.edges[:, 1:]), _taken(batch.similarity, ranks))
    onward = sample_neighborhoods(graph, first.flatten(), fan_outs[1:], generator)
    b, f, t = len(batch), first.shape[1], onward.nodes.shape[1]
    further = _over(graph.similarity, onward.edges).view(b, f, t, -1)
    similarity = torch.cat([similarity.unsqueeze(2), further[:, :, 1:]], dim=2).flatten(1, 2)
    start = 1 + t * torch.arange(f, device=batch.device).unsqueeze(1)
    parents = torch.where(onward.parents < 0, 0, start + onward.parents).flatten()
    return BatchNeighborhoods(
        torch.cat([batch.nodes.unsqueeze(1), onward.nodes.view(b, f * t)], dim=1),
        torch.cat([parents.new_full((1,), -1), parents]),
        torch.cat([torch.zeros_like(similarity[:, :1]), similarity], dim=1),
    )


def _ranks(batch: PopulationBatch, fan_out: int, generator: torch.Generator | None) -> Int[Tensor, "B F"]:
    """Which of its neighbours an attached patient takes; -1 where there is none, and for patients of the population."""
    available = (batch.neighbors >= 0).sum(dim=1, keepdim=True)
    if generator is None:
        chosen = torch.arange(fan_out, device=batch.device).expand(len(batch), -1)
    else:
        chosen = (torch.rand(len(batch), fan_out, generator=generator, dtype=torch.float64).to(batch.device) * available).long()
    return torch.where(chosen < available, chosen, -1)


def _taken(values: Tensor, ranks: Int[Tensor, "B F"]) -> Tensor:
    """Values `[B, K, ...]` at some ranks; what is at -1 does not count."""
    if not values.shape[1]:
        return values.new_zeros(*ranks.shape, *values.shape[2:])
    rows = torch.arange(len(values), device=values.device).unsqueeze(1)
    return values[rows, ranks.clamp(min=0)]


def _over(similarity: Float[Tensor, "E G"], edges: Tensor) -> Tensor:
    """Similarity over some edges; zero where there is none."""
    if not len(similarity):
        return similarity.new_zeros(*edges.shape, similarity.shape[1])
    return torch.where((edges < 0).unsqueeze(-1), 0.0, similarity[edges.clamp(min=0)])
