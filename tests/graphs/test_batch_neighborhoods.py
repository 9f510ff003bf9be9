"""Neighbourhoods of the patients of a batch: trees that follow the edges, of attached patients too."""

import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.data import ColumnTokenizer
from graphssl.graphs import PopulationBuilder
from graphssl.graphs.batch_neighborhoods import batch_neighborhoods


def patients(n, prefix, seed):
    values = np.random.default_rng(seed).standard_normal((n, 3))
    return pd.DataFrame(values, columns=list("abc"), index=[f"{prefix}{i}" for i in range(n)])


@pytest.fixture(scope="module")
def batch():
    """Two training patients between three new ones, who have four neighbours each."""
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=4).fit(patients(20, "p", 0))
    new = patients(3, "n", 1)
    return builder.transform(pd.concat([new.iloc[:1], patients(20, "p", 0).iloc[[7, 2]], new.iloc[1:]]))


def links(batch):
    """Similarities by patient of the batch or place in the population, and place of its neighbour."""
    graph = batch.population.graph
    source, target = graph.edge_index.tolist()
    known = {(t, s): value for s, t, value in zip(source, target, graph.similarity.tolist(), strict=True)}
    for row, places in enumerate(batch.neighbors.tolist()):
        known.update({(f"row {row}", p): batch.similarity[row, k].tolist() for k, p in enumerate(places) if p >= 0})
    return known


@pytest.mark.parametrize("fan_outs", [(3,), (6, 2), (2, 2, 2)])
@pytest.mark.parametrize("seed", [None, 0])
def test_trees_follow_edges(batch, fan_outs, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    found = batch_neighborhoods(batch, fan_outs, generator)
    known = links(batch)
    for row in range(5):
        tree = found.nodes[row].tolist()
        assert tree[0] == batch.nodes[row]
        for place in range(1, len(tree)):
            parent = found.parents[place]
            above = f"row {row}" if parent == 0 and batch.nodes[row] < 0 else tree[parent]
            if tree[place] < 0:
                assert not found.similarity[row, place].any()
            else:
                assert found.similarity[row, place].tolist() == known[above, tree[place]]


def test_without_a_generator_the_most_alike_are_taken(batch):
    found = batch_neighborhoods(batch, (3,), None)
    assert found.nodes[[0, 3, 4], 1:].tolist() == batch.neighbors[[0, 3, 4], :3].tolist()
    graph = batch.population.graph
    assert found.nodes[1, 1:].tolist() == graph.neighbors[graph.starts[7] : graph.starts[7] + 3].tolist()
    many = batch_neighborhoods(batch, (9,), None).nodes[0, 1:].tolist()
    assert many == [*batch.neighbors[0].tolist(), *[-1] * 5], "each once"


def test_whoever_else_is_in_the_batch(batch):
    whole = batch_neighborhoods(batch, (3, 2), None)
    part = batch_neighborhoods(batch[[4, 1]], (3, 2), None)
    assert torch.equal(part.nodes, whole.nodes[[4, 1]])
    assert torch.equal(part.similarity, whole.similarity[[4, 1]])
    assert torch.equal(batch_neighborhoods(batch[[1]], (3, 2), None).nodes, whole.nodes[[1]])


def test_all_neighbours_are_drawn(batch):
    drawn = batch_neighborhoods(batch, (400,), torch.Generator().manual_seed(0)).nodes[:, 1:]
    assert set(drawn[0].tolist()) == set(batch.neighbors[0].tolist())
    counts = torch.bincount(drawn[0], minlength=20)[batch.neighbors[0]].double()
    assert ((counts - 100) ** 2 / 100).sum() < 16.3, "χ² with three degrees of freedom, once in a thousand"
