"""The graph among a few patients, against NetworkX."""

import networkx as nx
import pytest
import torch

from graphssl.data import Population, PopulationGraph, TableBatch
from graphssl.graphs.induced import edges_among, hops_among


@pytest.fixture
def population():
    """Fourteen patients with two or no neighbours each, in no order."""
    generator = torch.Generator().manual_seed(0)
    chosen = [torch.randperm(13, generator=generator)[: 2 * (i % 5 > 0)] for i in range(14)]
    neighbors = torch.cat([part + (part >= i) for i, part in enumerate(chosen)])
    starts = torch.tensor([0, *map(len, chosen)]).cumsum(0)
    ids = tuple(f"p{i}" for i in range(14))
    graph = PopulationGraph(ids, starts, neighbors, torch.rand(len(neighbors), 1), ("g",), torch.ones(14, dtype=torch.bool))
    none = torch.zeros(14, 0)
    return Population(TableBatch(ids, none, none.unsqueeze(-1), none.long(), none.bool()), graph)


def test_edges_are_found_by_their_ends(population):
    graph = population.graph
    source, target = graph.edge_index
    nodes = torch.tensor([[3, 7, -1, 1, 12], [0, 1, 2, 3, 4]])
    edges = edges_among(population, nodes)
    by_ends = {(a, b): e for e, (a, b) in enumerate(zip(target.tolist(), source.tolist(), strict=True))}
    for b in range(2):
        for i in range(5):
            for j in range(5):
                assert edges[b, i, j] == by_ends.get((int(nodes[b, i]), int(nodes[b, j])), -1)


def test_distances_stay_within_the_set(population):
    nodes = torch.arange(14).view(2, 7)
    links = edges_among(population, nodes) >= 0
    hops = hops_among(links, max_hops=3)
    for b in range(2):
        expected = dict(nx.all_pairs_shortest_path_length(nx.from_numpy_array(links[b].numpy(), create_using=nx.DiGraph), cutoff=3))
        assert hops[b].tolist() == [[expected[i].get(j, -1) for j in range(7)] for i in range(7)]


def test_a_population_without_edges():
    ids = ("a", "b")
    graph = PopulationGraph(ids, torch.zeros(3, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 1), ("g",), torch.ones(2).bool())
    none = torch.zeros(2, 0)
    population = Population(TableBatch(ids, none, none.unsqueeze(-1), none.long(), none.bool()), graph)
    edges = edges_among(population, torch.tensor([[0, 1]]))
    assert (edges == -1).all()
    assert hops_among(edges >= 0, 4).tolist() == [[[0, -1], [-1, 0]]]
