"""There and back through the graphs of other libraries, and what they hold on the way."""

import networkx as nx
import numpy as np
import pytest
import torch

from graphssl.data import Atlas, ConnectomeBatch
from graphssl.errors import AtlasError, ConfigError, DataError, MissingExtraError
from graphssl.graphs.interop import from_dgl, from_networkx, from_pyg, to_dgl, to_networkx, to_pyg
from graphssl.graphs.sparsify import densest

TENSORS = ("weights", "visible", "mask", "centroids", "networks")


def random_batch(n=3, n_regions=7, seed=0, missing=0.2, name="toy"):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, n_regions, generator=generator) >= missing
    visible = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(n_regions, dtype=torch.bool)
    weights = torch.randn(n, n_regions, n_regions, generator=generator)
    weights[:, :2, :2] = 0.0  # a visible connection of weight zero
    weights = torch.where(visible, weights + weights.mT, 0.0)
    centroids = (50 * torch.randn(n, n_regions, 3, generator=generator)).masked_fill(~mask.unsqueeze(2), 0.0)
    networks = torch.randint(-1, 3, (n, n_regions), generator=generator).masked_fill(~mask, -1)
    ids = tuple(f"{name}-{k}" for k in range(n))
    return ConnectomeBatch(ids, weights, visible, mask, centroids, networks, (name,) * n, ("default", "motor", "visual"))


def mixed_batch():
    return ConnectomeBatch.cat([random_batch(), random_batch(2, 4, seed=1, name="coarse")])


def assert_same(found, expected):
    for name in TENSORS:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for name in ("subject_ids", "atlas", "network_names"):
        assert getattr(found, name) == getattr(expected, name)


WAYS = {"pyg": (to_pyg, from_pyg), "networkx": (to_networkx, from_networkx), "dgl": (to_dgl, from_dgl)}


@pytest.fixture(params=WAYS)
def way(request):
    if request.param == "dgl":
        pytest.importorskip("dgl", reason="the extra 'dgl' is not installed")
    return WAYS[request.param]


def test_there_and_back_loses_nothing(way):
    there, back = way
    for batch in (mixed_batch(), random_batch(1, 1, missing=0.0), random_batch(2, 5, missing=1.0)):
        assert_same(back(there(batch)), batch)


def test_hidden_connections_stay_hidden(way):
    there, back = way
    batch = random_batch()
    hidden = torch.zeros_like(batch.visible)
    hidden[:, 2], hidden[:, :, 2] = True, True
    assert_same(back(there(batch.hide(hidden))), batch.hide(hidden))


def test_a_density_keeps_the_strongest(way):
    there, back = way
    batch = mixed_batch()
    found = back(there(batch, density=0.3))
    kept = densest(batch, 0.3)
    assert torch.equal(found.visible, kept)
    assert torch.equal(found.weights, torch.where(kept, batch.weights, 0.0))


def test_weights_keep_their_sign_unless_told_otherwise(way):
    there, back = way
    batch = random_batch()
    assert (back(there(batch)).weights < 0).any()
    assert torch.equal(back(there(batch, signed=False)).weights, batch.weights.abs())


def test_subjects_and_atlas_can_be_given(way):
    there, back = way
    found = back(there(random_batch()), subject_ids=["a", "b", "c"], atlas="other")
    assert found.subject_ids == ("a", "b", "c")
    assert found.atlas == ("other",) * 3


def test_densities_out_of_range_are_refused(way):
    with pytest.raises(ConfigError, match="density"):
        way[0](random_batch(), density=2.0)


def test_no_graph_is_refused(way):
    with pytest.raises(DataError, match="at least one graph, found none"):
        way[1]([])


def test_pyg_data_hold_what_they_say():
    batch = random_batch()
    graph = to_pyg(batch)[1]
    seen = batch.mask[1].nonzero().flatten()
    assert graph.validate()
    assert torch.equal(graph.region, seen)
    assert torch.equal(graph.x, batch.weights[1, seen])
    assert torch.equal(graph.pos, batch.centroids[1, seen])
    assert graph.edge_index.dtype == torch.int64
    assert graph.edge_attr.shape == (graph.num_edges, 1)
    source, target = graph.region[graph.edge_index]
    assert torch.equal(graph.edge_attr[:, 0], batch.weights[1, source, target])
    assert graph.subject_id == "toy-1"
    assert graph.is_undirected()
    assert not graph.has_self_loops()


def test_pyg_data_of_several_atlases_make_a_batch():
    from torch_geometric.data import Batch

    batch = mixed_batch()
    joined = Batch.from_data_list(to_pyg(batch))
    assert joined.num_graphs == 5
    assert joined.subject_id == list(batch.subject_ids)
    assert_same(from_pyg(joined.to_data_list()), batch)


@pytest.mark.parametrize("there", [to_pyg, to_dgl])
def test_features_can_be_given(there):
    if there is to_dgl:
        pytest.importorskip("dgl", reason="the extra 'dgl' is not installed")
    batch = random_batch()
    features = torch.randn(3, 7, 2)
    graph = there(batch, features=features)[2]
    x = graph.x if there is to_pyg else graph.ndata["x"]
    assert torch.equal(x, features[2, batch.mask[2]])
    with pytest.raises(DataError, match=r"features \[B, R, F\] of \(3, 7\) regions, found shape \(3, 6, 2\)"):
        there(batch, features=features[:, :6])


def test_networkx_nodes_know_label_name_network_and_place():
    batch = random_batch(missing=0.0)
    atlas = Atlas("toy", 10 * np.arange(1, 8), tuple(f"r{i}" for i in range(7)), np.zeros((7, 3)), ("",) * 7)
    graph = to_networkx(batch, atlases={"toy": atlas})[0]
    node = graph.nodes[3]
    index = int(batch.networks[0, 3])
    assert node["label"] == 40
    assert node["name"] == "r3"
    assert node["network"] == (batch.network_names[index] if index >= 0 else "")
    assert node["pos"] == tuple(batch.centroids[0, 3].tolist())
    assert graph.edges[2, 5]["weight"] == batch.weights[0, 2, 5].item()
    assert "label" not in to_networkx(batch)[0].nodes[3]


def test_an_atlas_with_too_few_regions_is_refused():
    atlas = Atlas("toy", np.arange(1, 4), ("a", "b", "c"), np.zeros((3, 3)), ("",) * 3)
    with pytest.raises(AtlasError, match="atlas 'toy' of the connectome of 'toy-0' to have at least 7 regions, found 3"):
        to_networkx(random_batch(missing=0.0), atlases={"toy": atlas})


def test_networkx_graphs_of_others_are_read_in_order():
    graph = nx.Graph()
    graph.add_node("left", pos=(-40.0, 0.0, 0.0), network="motor")
    graph.add_node("right", pos=(40.0, 0.0, 0.0), network="visual")
    graph.add_node("top", pos=(0.0, 0.0, 60.0))
    graph.add_edge("left", "right", weight=-0.5)
    graph.add_edge("top", "top", weight=9.0)
    found = from_networkx([graph], subject_ids=["01"], atlas="mine")
    assert found.weights[0].tolist() == [[0, -0.5, 0], [-0.5, 0, 0], [0, 0, 0]]
    assert found.visible.sum() == 2
    assert found.mask.all()
    assert found.networks.tolist() == [[0, 1, -1]]
    assert found.network_names == ("motor", "visual")


@pytest.mark.parametrize("kind", [nx.DiGraph, nx.MultiGraph])
def test_directed_and_parallel_edges_are_refused(kind):
    with pytest.raises(DataError, match=f"without parallel edges, found a {kind.__name__} as graph 0"):
        from_networkx([kind()])


def test_networkx_graphs_without_places_or_weights_are_refused():
    whole = to_networkx(random_batch(missing=0.0))
    del whole[1].nodes[0]["pos"]
    with pytest.raises(DataError, match="'pos' of every node and 'weight' of every edge in graph 1"):
        from_networkx(whole)
    del whole[0].edges[2, 3]["weight"]
    with pytest.raises(DataError, match="'weight' of every edge in graph 0"):
        from_networkx(whole)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"edge_index": None}, r"Expected 'edge_index' in graph 0, found only \["),
        ({"edge_attr": None}, "Expected 'edge_attr' or 'edge_weight' in graph 0"),
        ({"pos": None}, "Expected 'pos' in graph 0"),
        ({"subject_id": None}, r"Expected a subject_id in every graph, found none in graph 0\. Give subject_ids"),
        ({"edge_attr": torch.zeros(3)}, r"one weight an edge \(42\) and pos \[7, 3\] in graph 0, found weights of shape \(3,\)"),
        ({"region": torch.zeros(7, dtype=torch.long)}, r"different positions of regions below 7 in graph 0, found \[0, 0"),
        ({"n_regions": 5}, "different positions of regions below 5 in graph 0"),
        ({"network_names": ["other"]}, "the same network_names in all graphs"),
        ({"edge_attr": torch.arange(42.0)}, r"the same finite weight, found otherwise in graphs \[0\]"),
        ({"edge_attr": torch.full((42,), float("nan"))}, r"the same finite weight, found otherwise in graphs \[0\]"),
        ({"edge_index": torch.zeros(2, 42, dtype=torch.long) + torch.tensor([[0], [1]])}, r"once in each direction .* graphs \[0\]"),
    ],
)
def test_graphs_that_are_no_connectomes_are_refused(change, match):
    graphs = to_pyg(random_batch(missing=0.0))
    graphs[0].update(change)
    with pytest.raises(DataError, match=match):
        from_pyg(graphs)


def test_duplicate_edges_are_refused():
    graphs = to_pyg(random_batch(missing=0.0))
    graphs[1].edge_index = torch.cat([graphs[1].edge_index, graphs[1].edge_index], dim=1)
    graphs[1].edge_attr = torch.cat([graphs[1].edge_attr, graphs[1].edge_attr])
    with pytest.raises(DataError, match=r"Expected every edge once .* found otherwise in graphs \[1\]"):
        from_pyg(graphs)


def test_without_dgl_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dgl", None)
    for call in (lambda: to_dgl(random_batch()), lambda: from_dgl([])):
        with pytest.raises(MissingExtraError, match=r"dgl is needed to .* pip install 'graphssl\[dgl\]'"):
            call()
