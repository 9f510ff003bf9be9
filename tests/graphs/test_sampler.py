"""Sampled neighbourhoods: what is drawn belongs together, and comes as often as it should."""

from collections import Counter
from fractions import Fraction
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare

from graphssl.data import PopulationGraph
from graphssl.errors import ConfigError
from graphssl.graphs import sample_neighborhoods
from graphssl.graphs.population_interop import to_pyg

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


def trees(seed, fan_outs):
    """Every tree that can be drawn from a patient, with its probability: a loop over all draws of neighbours, and of theirs."""
    if not fan_outs:
        return {(seed,): Fraction(1)}
    neighbors = GRAPH.neighbors[GRAPH.starts[seed] : GRAPH.starts[seed + 1]].tolist()
    found = Counter()
    for drawn in product(neighbors, repeat=fan_outs[0]):
        for below in product(*(trees(neighbor, fan_outs[1:]).items() for neighbor in drawn)):
            chance = Fraction(1, len(neighbors) ** fan_outs[0])
            for _, each in below:
                chance *= each
            found[(seed, *(tree for tree, _ in below))] += chance
    return found or {(seed,): Fraction(1)}


def tree_of(nodes, parents, place):
    below = [tree_of(nodes, parents, k) for k in range(len(nodes)) if parents[k] == place and nodes[k] >= 0]
    return (nodes[place], *below)


@pytest.mark.parametrize(("seed", "fan_outs", "n_trees"), [(0, (2, 2), 36), (2, (2, 1), 16), (2, (1, 1, 1), 7), (3, (2,), 1)])
def test_whole_trees_come_as_often_as_an_enumeration_says(seed, fan_outs, n_trees):
    """Of 20,000 trees of each kind, against exact probabilities: a p below 1e-3 comes once in a thousand draws, and the draw is fixed."""
    n, chances = 20_000, trees(seed, fan_outs)
    assert len(chances) == n_trees
    assert sum(chances.values()) == 1
    found = sample_neighborhoods(GRAPH, torch.full((n,), seed), fan_outs, generator(5))
    rows, counts = np.unique(found.nodes.numpy(), axis=0, return_counts=True)
    counted = Counter()
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        counted[tree_of(row, found.parents.tolist(), 0)] += count
    assert set(counted) == set(chances), "all that can be drawn, and nothing else"
    if n_trees > 1:
        assert chisquare([counted[tree] for tree in chances], [float(n * chance) for chance in chances.values()]).pvalue > 1e-3


@pytest.mark.skipif(find_spec("pyg_lib") is None, reason="pyg-lib is not installed, which PyTorch Geometric's NeighborLoader draws with")
def test_neighbours_are_drawn_as_neighbor_loader_draws_them():
    """Both with replacement. NeighborLoader keeps a patient once a tree, so what is compared are the draws at each patient, by hop."""
    n, fan_outs = 4_000, [3, 2]
    ours = draws(sample_neighborhoods(GRAPH, torch.zeros(n, dtype=torch.long), fan_outs, generator(6)), fan_outs)
    theirs, without = (loader_draws(n, fan_outs, replace) for replace in (True, False))
    for hop in range(2):
        assert p_value(ours[hop], theirs[hop]) > 1e-3
    assert p_value(ours[0], without[0]) < 1e-6, "it would be seen if they were drawn in another way"


def draws(found, fan_outs):
    """How often a patient drew which edges, by hop."""
    counted, first, width = [], 0, 1
    for fan_out in fan_outs:
        behind = first + width
        edges = found.edges[:, behind : behind + width * fan_out].reshape(-1, fan_out).sort(dim=1).values.tolist()
        patients = found.nodes[:, first:behind].flatten().tolist()
        pairs = zip(patients, edges, strict=True)
        counted.append(Counter((patient, tuple(drawn)) for patient, drawn in pairs if drawn[0] >= 0))
        first, width = behind, width * fan_out
    return counted


def loader_draws(n, fan_outs, replace):
    """The same of PyTorch Geometric."""
    from torch_geometric.loader import NeighborLoader

    torch.manual_seed(0)
    seeds = torch.zeros(n, dtype=torch.long)
    (batch,) = NeighborLoader(to_pyg(GRAPH), fan_outs, seeds, replace=replace, disjoint=True, batch_size=n)
    hops = torch.arange(len(fan_outs)).repeat_interleave(torch.tensor(batch.num_sampled_edges))
    counted = []
    for hop in range(len(fan_outs)):
        drawn = {}
        here = hops == hop
        for target, edge in zip(batch.edge_index[1, here].tolist(), batch.e_id[here].tolist(), strict=True):
            drawn.setdefault(target, []).append(edge)
        counted.append(Counter((int(batch.n_id[target]), tuple(sorted(edges))) for target, edges in drawn.items()))
    return counted


def p_value(first, second):
    """Of the hypothesis that draws at each patient come from one distribution, the smallest over patients; 1 where there is one draw only."""
    found = [1.0]
    for patient in {patient for patient, _ in first} | {patient for patient, _ in second}:
        drawn = sorted({key for key in (*first, *second) if key[0] == patient})
        if len(drawn) > 1:
            found.append(float(chi2_contingency([[counted[key] for key in drawn] for counted in (first, second)]).pvalue))
    return min(found)


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
