"""Sampled neighbourhoods: what is drawn belongs together, and comes as often as it should."""

import pytest
import torch

from graphssl.data import PopulationGraph
from graphssl.errors import ConfigError
from graphssl.graphs import sample_neighborhoods

# a ← b c d, b ← a, c ← a b, d ← nobody
GRAPH = PopulationGraph(
    ("a", "b", "c", "d"),
    torch.tensor([0, 3, 4, 6, 6]),
    torch.tensor([1, 2, 3, 0, 0, 1]),
    torch.ones(6, 1),
    ("g",),
    torch.ones(4, dtype=torch.bool),
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_trees_follow_edges():
    found = sample_neighborhoods(GRAPH, torch.tensor([0, 2, 3, 0]), [3, 2], generator())
    assert len(found) == 4
    assert found.nodes.shape == found.edges.shape == (4, 1 + 3 + 6)
    assert found.parents.tolist() == [-1, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert found.nodes[:, 0].tolist() == [0, 2, 3, 0]
    source, target = GRAPH.edge_index
    for place in range(1, 10):
        parent, node, edge = found.nodes[:, found.parents[place]], found.nodes[:, place], found.edges[:, place]
        there = edge >= 0
        assert torch.equal(source[edge[there]], node[there])
        assert torch.equal(target[edge[there]], parent[there])
        assert torch.equal(there, (parent >= 0) & (parent != 3))  # d has no neighbours
    assert torch.equal(found.mask[:, 1:], found.edges[:, 1:] >= 0)
    assert found.mask[2].tolist() == [True] + [False] * 9


def test_neighbours_come_equally_often():
    """χ² of 30,000 draws at each hop: above 13.8 once in a thousand with two degrees of freedom; of the two hops two more."""
    n = 10_000
    found = sample_neighborhoods(GRAPH, torch.zeros(n, dtype=torch.long), [3, 1], generator(1))
    first = found.nodes[:, 1:4].flatten()
    count = torch.bincount(first, minlength=4)[1:].double()
    assert ((count - n) ** 2 / n).sum() < 13.8
    # Theory of the second hop: b leads to a; c to a or b, evenly; d nowhere.
    second = found.nodes[:, 4:].flatten()
    assert (second[first == 1] == 0).all()
    assert (second[first == 3] == -1).all()
    of_c = torch.bincount(second[first == 2], minlength=2).double()
    half = of_c.sum() / 2
    assert ((of_c - half) ** 2 / half).sum() < 10.8


def test_draws_are_independent():
    """With replacement all three draws of one seed are the same neighbour once in nine, and pairs of draws agree once in three."""
    drawn = sample_neighborhoods(GRAPH, torch.zeros(20_000, dtype=torch.long), [3], generator(2)).nodes[:, 1:]
    assert (drawn == drawn[:, :1]).all(dim=1).double().mean().item() == pytest.approx(1 / 9, abs=0.01)
    assert (drawn[:, 0] == drawn[:, 1]).double().mean().item() == pytest.approx(1 / 3, abs=0.015)


def test_the_generator_says_everything():
    seeds = torch.tensor([0, 1, 2])
    one, same, other = (sample_neighborhoods(GRAPH, seeds, [4, 4], generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.nodes, same.nodes)
    assert not torch.equal(one.nodes, other.nodes)


def test_no_seeds_no_hops_no_edges():
    none = torch.zeros(0, dtype=torch.long)
    assert sample_neighborhoods(GRAPH, none, [2, 2], generator()).nodes.shape == (0, 7)
    assert sample_neighborhoods(GRAPH, torch.tensor([1]), [], generator()).nodes.tolist() == [[1]]
    alone = PopulationGraph(("a",), torch.tensor([0, 0]), none, torch.zeros(0, 1), ("g",), torch.ones(1, dtype=torch.bool))
    assert sample_neighborhoods(alone, torch.tensor([0]), [2], generator()).nodes.tolist() == [[0, -1, -1]]


def test_fan_outs_below_one_are_refused():
    with pytest.raises(ConfigError, match=r"fan-outs of at least 1, found \[3, 0\]"):
        sample_neighborhoods(GRAPH, torch.tensor([0]), [3, 0], generator())


def test_without_a_generator_the_first_neighbours_are_taken_each_once():
    found = sample_neighborhoods(GRAPH, torch.tensor([0, 2, 3, -1]), [2, 2], None)
    assert found.nodes[0].tolist() == [0, 1, 2, 0, -1, 0, 1]
    assert found.nodes[1].tolist() == [2, 0, 1, 1, 2, 0, -1]
    assert found.nodes[2].tolist() == [3] + [-1] * 6
    assert found.nodes[3].tolist() == [-1] * 7
