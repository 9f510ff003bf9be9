"""Population graphs in other libraries: the same nodes, edges and similarities."""

import pytest
import torch

from graphssl.data import PopulationGraph
from graphssl.errors import DataError, MissingExtraError
from graphssl.graphs.population_interop import to_dgl, to_networkx, to_pyg

GRAPH = PopulationGraph(
    ("a", "b", "c"),
    torch.tensor([0, 1, 3, 4]),
    torch.tensor([1, 0, 2, 0]),
    torch.tensor([[0.25, 0.5], [0.25, 0.5], [0.0, 1.0], [0.75, 0.125]]),
    ("age", "tests"),
    torch.tensor([True, True, False]),
    transductive=True,
)
FEATURES = torch.arange(6.0).reshape(3, 2)


def test_pyg():
    data = to_pyg(GRAPH, FEATURES)
    assert data.validate()
    assert torch.equal(data.x, FEATURES)
    assert data.edge_index.tolist() == [[1, 0, 2, 0], [0, 1, 1, 2]]
    assert torch.equal(data.edge_attr, GRAPH.similarity)
    assert (data.subject_id, data.groups, data.transductive) == ({0: "a", 1: "b", 2: "c"}, ["age", "tests"], True)
    assert data.training.tolist() == [True, True, False]
    assert to_pyg(GRAPH).num_nodes == 3
    assert not data.is_node_attr("subject_id"), "loaders that sample nodes can take no list"


def test_a_layer_of_pyg_sums_over_the_neighbours():
    from torch_geometric.nn import SimpleConv

    data = to_pyg(GRAPH, FEATURES)
    assert torch.equal(SimpleConv("sum")(data.x, data.edge_index), torch.stack([FEATURES[1], FEATURES[0] + FEATURES[2], FEATURES[0]]))


def test_dgl():
    pytest.importorskip("dgl", reason="the extra 'dgl' is not installed")
    made = to_dgl(GRAPH, FEATURES)
    source, target = made.edges()
    assert [source.tolist(), target.tolist()] == GRAPH.edge_index.tolist()
    assert torch.equal(made.edata["similarity"], GRAPH.similarity)
    assert torch.equal(made.ndata["x"], FEATURES)
    assert made.ndata["training"].tolist() == [True, True, False]
    assert (made.subject_id, made.groups, made.transductive) == (["a", "b", "c"], ["age", "tests"], True)
    assert "x" not in to_dgl(GRAPH).ndata


def test_without_dgl_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dgl", None)
    with pytest.raises(MissingExtraError, match=r"dgl is needed to .* pip install 'graphssl\[dgl\]'"):
        to_dgl(GRAPH)


def test_networkx():
    made = to_networkx(GRAPH)
    assert dict(made.nodes(data="training")) == {"a": True, "b": True, "c": False}
    assert set(made.edges) == {("b", "a"), ("a", "b"), ("c", "b"), ("a", "c")}
    assert made.edges["a", "c"] == {"age": 0.75, "tests": 0.125}
    assert made.graph == {"groups": ("age", "tests"), "transductive": True}


def test_features_of_other_patients_are_refused():
    for call in (to_pyg, to_dgl):
        if call is to_dgl:
            pytest.importorskip("dgl", reason="the extra 'dgl' is not installed")
        with pytest.raises(DataError, match=r"features \[N, F\] of 3 patients, found shape \(2, 2\)"):
            call(GRAPH, FEATURES[:2])
