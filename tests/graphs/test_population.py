"""Population graphs of neighbours: inductive by default, transductive when told so."""

import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.errors import ConfigError, DataError, LeakageError
from graphssl.graphs import FeatureGroup, NeighborIndex, population_graph

GROUPS = [FeatureGroup("blood", ["a", "b"], "rbf"), FeatureGroup("ward", ["ward"], "agreement")]


def patients(n, *, seed=0, prefix="p"):
    rng = np.random.default_rng(seed)
    table = {"a": rng.standard_normal(n), "b": rng.standard_normal(n), "ward": rng.choice(["x", "y"], n)}
    return pd.DataFrame(table, index=[f"{prefix}{i}" for i in range(n)])


@pytest.fixture(scope="module")
def index():
    return NeighborIndex(GROUPS, n_neighbors=3).fit(patients(30))


def edges(graph):
    """Similarities by the two ends."""
    source, target = graph.edge_index.tolist()
    ends = [(graph.subject_ids[a], graph.subject_ids[b]) for a, b in zip(source, target, strict=True)]
    assert len(set(ends)) == len(ends)
    return dict(zip(ends, graph.similarity.tolist(), strict=True))


def test_everybody_receives_from_its_neighbours(index):
    graph, found = population_graph(index), index.query()
    assert graph.neighbors.reshape(30, 3).tolist() == found.indices.tolist()
    assert torch.equal(graph.similarity.reshape(30, 3, 2), torch.from_numpy(found.by_group).float())
    assert graph.groups == ("blood", "ward")
    assert graph.training.all()
    assert not graph.transductive


def test_attached_patients_change_nothing(index):
    new = patients(8, seed=1, prefix="n")
    alone, together = population_graph(index, new.iloc[:1]), population_graph(index, new)
    base, one, many = edges(population_graph(index)), edges(alone), edges(together)
    assert base.items() <= one.items() <= many.items()
    assert all(source.startswith("p") for source, _ in many)
    assert torch.equal(together.in_links[:30], population_graph(index).in_links)
    assert together.training.tolist() == [True] * 30 + [False] * 8


@pytest.mark.parametrize("attached", [False, True])
def test_symmetric_graphs(index, attached):
    new = patients(4, seed=1, prefix="n") if attached else None
    directed, symmetric = edges(population_graph(index, new)), edges(population_graph(index, new, symmetric=True))
    among = {ends for ends in directed if ends[1].startswith("p")}
    wanted = among | {(b, a) for a, b in among} | set(directed)
    assert set(symmetric) == wanted
    for (a, b), similarity in symmetric.items():
        assert similarity == directed.get((a, b), directed.get((b, a)))


def test_in_links_differ_where_neighbours_do_not(index):
    graph = population_graph(index)
    assert set(graph.starts.diff().tolist()) == {3}
    assert len(graph.in_links.unique()) > 1
    assert graph.in_links.sum() == 90


def test_transductive_graphs_say_so(index):
    new = patients(30, seed=0, prefix="n")  # twins of the training patients
    graph = population_graph(index, new, transductive=True)
    assert graph.transductive
    assert graph.training.sum() == 30
    assert graph.neighbors.reshape(60, 3)[:30, 0].tolist() == list(range(30, 60))
    assert edges(graph) != edges(population_graph(index, new))
    both = edges(population_graph(index, new, transductive=True, symmetric=True))
    assert all((b, a) in both for a, b in both)


def test_smallest_cohorts():
    index = NeighborIndex(GROUPS, n_neighbors=1).fit(patients(2))
    assert population_graph(index).edge_index.tolist() == [[1, 0], [0, 1]]
    assert population_graph(index, patients(1, seed=1, prefix="n"), symmetric=True).edge_index.shape == (2, 3)
    with pytest.raises(DataError, match="at least one subject, found an empty cohort"):
        population_graph(index, patients(0, prefix="n"))


def test_what_is_refused(index):
    with pytest.raises(LeakageError, match=r"Expected new patients, found 2 of the training patients among them: \['p0', 'p1'\]"):
        population_graph(index, pd.concat([patients(2), patients(2, prefix="n")]))
    with pytest.raises(ConfigError, match="Expected new patients for a transductive graph, found none"):
        population_graph(index, transductive=True)
    with pytest.raises(ConfigError, match="at least one neighbour of a patient, found 0"):
        population_graph(index, k=0)
    with pytest.raises(DataError, match="more training patients than neighbours"):
        population_graph(index, k=30)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_most_alike_come_first(index, symmetric):
    graph = population_graph(index, symmetric=symmetric)
    similarity = graph.similarity.double() @ torch.from_numpy(index.weights_)
    for start, end in zip(graph.starts[:-1], graph.starts[1:], strict=True):
        assert bool((similarity[start:end].diff() <= 1e-7).all())
