"""Patients as one flat graph."""

import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.data import ColumnTokenizer
from graphssl.encoders.patient_messages import trees, whole_graph
from graphssl.graphs import PopulationBuilder, population_graph
from graphssl.graphs.batch_neighborhoods import batch_neighborhoods


def patients(n, prefix, seed):
    values = np.random.default_rng(seed).standard_normal((n, 3))
    return pd.DataFrame(values, columns=list("abc"), index=[f"{prefix}{i}" for i in range(n)])


@pytest.fixture(scope="module")
def builder():
    return PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=3).fit(patients(12, "p", 0))


def test_the_whole_graph_is_that_of_all_patients(builder):
    new = patients(3, "n", 1)
    made = whole_graph(builder.transform(pd.concat([patients(12, "p", 0).iloc[[4]], new])))
    graph = population_graph(builder.index_, new, symmetric=True)
    assert torch.equal(made.edge_index, graph.edge_index)
    assert torch.equal(made.similarity, graph.similarity)
    assert made.n_patients == 15


def test_trees_lead_to_the_patient_and_stay_apart(builder):
    batch = builder.transform(patients(3, "n", 1))
    found = batch_neighborhoods(batch, (2, 2), None)
    graph = trees(found)
    assert graph.n_patients == 3 * 7
    source, target = graph.edge_index
    assert torch.equal(source // 7, target // 7)
    assert sorted(source.tolist()) == [7 * b + place for b in range(3) for place in range(1, 7) if found.nodes[b, place] >= 0]
    for a, b, similarity in zip(source.tolist(), target.tolist(), graph.similarity, strict=True):
        assert found.parents[a % 7] == b % 7
        assert torch.equal(similarity, found.similarity[a // 7, a % 7])
