"""How far patients are from one another in a population graph."""

import numpy as np
import torch
from jaxtyping import Int
from scipy import sparse
from torch import Tensor

from graphssl.data.population import PopulationGraph
from graphssl.errors import ConfigError


def hop_distances(graph: PopulationGraph, nodes: Int[Tensor, "S"] | None = None, *, max_hops: int = 8) -> Int[Tensor, "S N"]:
    """Fewest edges from each of some patients back to those they learn from, by a bounded breadth-first search of sparse products.

    A row depends on the patient, its neighbours, theirs, and so on: in an inductive graph on training patients only.

    Args:
        graph: The graph of `N` patients.
        nodes: Patients to start from `[S]`; all when left out. For more than a few thousand patients take some at a time: the result is dense.
        max_hops: Longest distance looked for.

    Returns:
        Distances, 0 for the patient itself and -1 where there is no path of at most `max_hops` edges.

    Raises:
        ConfigError: If `max_hops` is below 1.
    """
    if max_hops < 1:
        raise ConfigError(f"Expected max_hops of at least 1, found {max_hops}.")
    n = len(graph)
    starts = np.arange(n) if nodes is None else nodes.cpu().numpy()
    rows = (np.ones(len(graph.neighbors), dtype=np.float32), graph.neighbors.cpu().numpy(), graph.starts.cpu().numpy())
    steps = sparse.csr_array(rows, shape=(n, n))  # from a patient to its neighbours
    distance = np.full((len(starts), n), -1, dtype=np.int64)
    distance[np.arange(len(starts)), starts] = 0
    frontier = sparse.csr_array((np.ones(len(starts), dtype=np.float32), (np.arange(len(starts)), starts)), shape=distance.shape)
    for hop in range(1, max_hops + 1):
        reached = (frontier @ steps).tocoo()
        fresh = distance[reached.row, reached.col] < 0
        row, column = reached.row[fresh], reached.col[fresh]
        if not len(row):
            break
        distance[row, column] = hop
        frontier = sparse.csr_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=distance.shape)
    return torch.from_numpy(distance).to(graph.device)
