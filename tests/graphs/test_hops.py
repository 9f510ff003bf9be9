"""Hop distances, against NetworkX's shortest paths."""

import networkx as nx
import pytest
import torch

from graphssl.data import PopulationGraph
from graphssl.errors import ConfigError
from graphssl.graphs import hop_distances
from graphssl.graphs.population_interop import to_networkx


def random_graph(n, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    others = torch.rand(n, n, generator=generator).fill_diagonal_(-1.0)
    neighbors = others.topk(k, dim=1).indices.flatten()
    ids = tuple(f"p{i}" for i in range(n))
    return PopulationGraph(
        ids, torch.arange(n + 1) * k, neighbors, torch.rand(n * k, 1, generator=generator), ("g",), torch.ones(n, dtype=torch.bool)
    )


def chain(n):
    """Everybody learns from the one before; nobody from the last."""
    starts = torch.tensor([0, *range(n)])
    return PopulationGraph(tuple("abcdefgh"[:n]), starts, torch.arange(n - 1), torch.ones(n - 1, 1), ("g",), torch.ones(n, dtype=torch.bool))


@pytest.mark.parametrize("max_hops", [1, 3, 20])
def test_distances_are_those_of_networkx(max_hops):
    graph = random_graph(25, 2)
    reversed_ = to_networkx(graph).reverse()
    expected = torch.full((25, 25), -1)
    for row, subject in enumerate(graph.subject_ids):
        for other, hops in nx.single_source_shortest_path_length(reversed_, subject, cutoff=max_hops).items():
            expected[row, graph.subject_ids.index(other)] = hops
    assert torch.equal(hop_distances(graph, max_hops=max_hops), expected)
    some = torch.tensor([7, 0, 7])
    assert torch.equal(hop_distances(graph, some, max_hops=max_hops), expected[some])


def test_paths_through_the_first_patient_are_kept():
    """The reference marks 'no patient between' by 0, which is also the number of the first patient."""
    graph = PopulationGraph(("first", "b", "c"), torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0]), torch.ones(2, 1), ("g",), torch.ones(3).bool())
    assert hop_distances(graph).tolist() == [[0, 1, -1], [-1, 0, -1], [1, 2, 0]]


def test_chains_and_nobody_connected():
    assert hop_distances(chain(4), max_hops=2).tolist() == [[0, -1, -1, -1], [1, 0, -1, -1], [2, 1, 0, -1], [-1, 2, 1, 0]]
    assert hop_distances(chain(1)).tolist() == [[0]]


def test_no_hops_are_refused():
    with pytest.raises(ConfigError, match="max_hops of at least 1, found 0"):
        hop_distances(chain(3), max_hops=0)
