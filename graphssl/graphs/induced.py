"""The graph among a few patients of a population, for many such sets at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from graphssl.data.population_batch import Population


@dataclass(frozen=True, eq=False)
class SortedEdges:
    """The edges of a population graph, to be found by their two ends.

    Attributes:
        ends: Number of the patient who learns, times the number of patients, plus that of the neighbour, rising `[E]`.
        edges: Edge with these ends `[E]`.
    """

    ends: Int[Tensor, "E"]
    edges: Int[Tensor, "E"]


def edges_among(population: Population, nodes: Int[Tensor, "B T"]) -> Int[Tensor, "B T T"]:
    """Edge by which each patient of a set learns from each other one of it; -1 where there is none.

    Args:
        population: The population; its edges are sorted once.
        nodes: Patients of every set, -1 for nobody.
    """
    known = population.keep("sorted edges", lambda: _sorted(population))
    if not len(known.ends):
        return nodes.new_full((*nodes.shape, nodes.shape[1]), -1)
    wanted = nodes.unsqueeze(2) * len(population) + nodes.unsqueeze(1)
    place = torch.searchsorted(known.ends, wanted).clamp(max=len(known.ends) - 1)
    there = (known.ends[place] == wanted) & (nodes >= 0).unsqueeze(2) & (nodes >= 0).unsqueeze(1)
    return torch.where(there, known.edges[place], -1)


def hops_among(edges: Bool[Tensor, "B T T"], max_hops: int) -> Int[Tensor, "B T T"]:
    """Fewest edges from each patient of a set back to each other, along edges within the set; -1 beyond `max_hops`."""
    reached = torch.eye(edges.shape[1], dtype=torch.bool, device=edges.device).expand_as(edges)
    hops = torch.where(reached, 0, -1)
    step = edges.float()
    for hop in range(1, max_hops + 1):
        reached = torch.bmm(reached.float(), step) > 0
        fresh = reached & (hops < 0)
        if not bool(fresh.any()):
            break
        hops = torch.where(fresh, hop, hops)
        reached = fresh
    return hops


def _sorted(population: Population) -> SortedEdges:
    source, target = population.graph.edge_index
    ends, edges = (target * len(population) + source).sort()
    return SortedEdges(ends, edges)
