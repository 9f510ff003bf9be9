"""Graphs with named nodes, against networkx and by hand."""

import networkx as nx
import numpy as np
import pytest

from graphssl.data import Atlas, Provenance
from graphssl.datasets.arrays import read_labelled
from graphssl.datasets.graph_files import read_edge_list, read_graphml
from graphssl.datasets.regions import FileFormat
from graphssl.errors import AtlasError, DataError

EDGES = [("B", "A", 2.0), ("B", "C", 5.0)]
EXPECTED = {("A", "B"): 2.0, ("B", "C"): 5.0, ("A", "C"): 0.0}


def weights(found):
    assert found.rows == found.columns
    position = {name: k for k, name in enumerate(found.columns)}
    np.testing.assert_array_equal(found.values, found.values.T)
    return {pair: float(found.values[position[pair[0]], position[pair[1]]]) for pair in EXPECTED}


def graph(kind=nx.Graph, key="weight"):
    made = kind()
    made.add_edges_from((a, b, {key: w}) for a, b, w in EDGES)
    return made


@pytest.mark.parametrize(("kind", "key"), [(nx.Graph, "weight"), (nx.Graph, "fibers"), (nx.DiGraph, "weight")])
def test_graphml(tmp_path, kind, key):
    nx.write_graphml(graph(kind, key), tmp_path / "a.graphml")
    assert weights(read_graphml(tmp_path / "a.graphml")) == EXPECTED


def test_nodes_may_be_named_by_an_attribute(tmp_path):
    made = nx.Graph()
    for number, name in enumerate("ABC"):
        made.add_node(f"n{number}", name=name)
    made.add_weighted_edges_from([("n1", "n0", 2.0), ("n1", "n2", 5.0)])
    nx.write_graphml(made, tmp_path / "a.graphml")
    assert weights(read_graphml(tmp_path / "a.graphml")) == EXPECTED


def test_edges_without_weights_weigh_one(tmp_path):
    nx.write_graphml(nx.Graph([("A", "B")]), tmp_path / "a.graphml")
    np.testing.assert_array_equal(read_graphml(tmp_path / "a.graphml").values, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    "text", ["B A 2\nB C 5\n", "# made by m2g\nB\tA\t2.0\nB\tC\t5.0\n", "B,A,2\nB,C,5\n", "B A {'weight': 2.0}\nB C {'weight': 5.0}\n"]
)
def test_edge_lists(tmp_path, text):
    (tmp_path / "a.edgelist").write_text(text)
    assert weights(read_labelled(tmp_path / "a.edgelist")) == EXPECTED


def test_nodes_meet_regions_by_name_never_by_place(tmp_path):
    atlas = Atlas("abc", np.array([1, 2, 3]), ("A", "B", "C"), np.zeros((3, 3)), ("",) * 3)
    layout = FileFormat(atlas, Provenance("streamline count"))
    (tmp_path / "a.edgelist").write_text("C B 5\nA B 2\n")
    np.testing.assert_array_equal(layout.read(tmp_path / "a.edgelist"), [[0, 2, 0], [2, 0, 5], [0, 5, 0]])
    (tmp_path / "b.edgelist").write_text("3 2 5\n1 2 2\n")
    np.testing.assert_array_equal(layout.read(tmp_path / "b.edgelist"), [[0, 2, 0], [2, 0, 5], [0, 5, 0]])
    (tmp_path / "c.edgelist").write_text("C B 5\nA X 2\n")
    with pytest.raises(AtlasError, match="only in the file: X"):
        layout.read(tmp_path / "c.edgelist")


@pytest.mark.parametrize(("text", "what"), [("0 1 5\n1 2 2\n", "counted from '0'"), ("n0 n1 5\n", "counted from 'n0'")])
def test_counted_nodes_say_nothing_of_regions(tmp_path, text, what):
    (tmp_path / "a.edgelist").write_text(text)
    with pytest.raises(DataError, match=f"Expected nodes of .* called by label id or name of their region, found nodes {what}"):
        read_edge_list(tmp_path / "a.edgelist")


def test_what_is_refused(tmp_path):
    for text in ("A B much\n", "A B 1\nC\n"):
        (tmp_path / "a.edgelist").write_text(text)
        with pytest.raises(DataError, match="Expected two nodes and a weight in each line of"):
            read_edge_list(tmp_path / "a.edgelist")
    (tmp_path / "b.edgelist").write_text("# nothing\n")
    with pytest.raises(DataError, match="Expected a graph with nodes and edges in .*, found 0 nodes"):
        read_edge_list(tmp_path / "b.edgelist")
    made = nx.Graph()
    made.add_edge("A", "B", fa=0.5, md=0.1)
    nx.write_graphml(made, tmp_path / "c.graphml")
    with pytest.raises(DataError, match="Expected edges of .* with the attribute 'weight', found fa, md. Rename the one to read"):
        read_graphml(tmp_path / "c.graphml")
