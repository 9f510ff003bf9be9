"""Connectomes as graphs of PyTorch Geometric, DGL and NetworkX, and back.

A graph has a node for every observed region; where a region stood in the connectome is kept with it. Without a density every visible connection
becomes an edge, also one of weight zero, so that going there and back loses nothing about observed regions.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.atlas import Atlas
from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import AtlasError, DataError
from graphssl.extras import require
from graphssl.graphs.edge_list import EdgeList, from_edge_lists, to_edge_lists

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_pyg(
    batch: ConnectomeBatch,
    *,
    features: Float[Tensor, "B R F"] | None = None,
    density: float | None = None,
    signed: bool = True,
) -> "list[Data]":
    """Connectomes as PyTorch Geometric `Data`.

    Each has `x` (features of the nodes `[n, F]`), `edge_index` `[2, E]` (both directions), `edge_attr` (weights `[E, 1]`), `pos` (centroids in MNI mm
    `[n, 3]`), `region` (positions in the connectome `[n]`), `network` (indices into `network_names` `[n]`), `subject_id`, `atlas`, `n_regions` and
    `network_names`.

    Args:
        batch: Connectomes.
        features: Features of the regions; when left out, the row of connections of a region, as wide as the batch.
        density: Share of the visible connections to keep, the strongest first; all when left out.
        signed: Whether weights keep their sign; else edges have absolute weights.

    Raises:
        ConfigError: If the density is out of range.
        DataError: If the features are not those of the batch's regions.
    """
    from torch_geometric.data import Data

    values = _features(batch, features)
    graphs = []
    for part in to_edge_lists(batch, density=density, signed=signed):
        graph = Data(x=values[part.row, part.region], edge_index=part.edge_index, edge_attr=part.weight.unsqueeze(1), pos=part.pos)
        graph.update({"region": part.region, "network": part.network, "subject_id": part.subject_id, "atlas": part.atlas})
        graph.update({"n_regions": part.n_regions, "network_names": list(part.network_names)})
        graphs.append(graph)
    return graphs


def from_pyg(
    graphs: "Sequence[Data]",
    *,
    subject_ids: Sequence[str] | None = None,
    atlas: str | None = None,
) -> ConnectomeBatch:
    """PyTorch Geometric `Data` as connectomes; the inverse of `to_pyg` at full density.

    Needed are `edge_index` with both directions, weights in `edge_attr` (`[E]` or `[E, 1]`) or `edge_weight`, and `pos`; node features are not read
    and self-loops are left out. Nodes without `region` are taken to be all regions in order.

    Args:
        graphs: One graph a connectome.
        subject_ids: Subject of each graph, where they do not hold it themselves.
        atlas: Name of the atlas, where the graphs do not hold it.

    Raises:
        DataError: If there is no graph, one lacks what is needed, or its edges are not those of a symmetric matrix.
    """
    parts = []
    for row, graph in enumerate(graphs):
        stored = graph.to_dict()
        n_nodes = graph.num_nodes or 0
        parts.append(
            _part(
                stored,
                row,
                subject_ids,
                atlas,
                n_nodes=n_nodes,
                edge_index=_needed(stored, row, "edge_index"),
                weight=_needed(stored, row, "edge_attr", "edge_weight"),
            )
        )
    return from_edge_lists(parts)


def to_dgl(
    batch: ConnectomeBatch,
    *,
    features: Float[Tensor, "B R F"] | None = None,
    density: float | None = None,
    signed: bool = True,
) -> list[Any]:
    """Connectomes as DGL graphs.

    Node data are `x`, `pos`, `region` and `network`, edge data `weight` `[E]`; what these are is told in `to_pyg`. DGL has no place for what belongs
    to a whole graph: `subject_id`, `atlas`, `n_regions` and `network_names` are attributes of the Python object, which DGL's own operations do not
    carry on.

    Args:
        batch: Connectomes.
        features: Features of the regions; when left out, the row of connections of a region, as wide as the batch.
        density: Share of the visible connections to keep, the strongest first; all when left out.
        signed: Whether weights keep their sign; else edges have absolute weights.

    Raises:
        MissingExtraError: If DGL is not installed.
        ConfigError: If the density is out of range.
        DataError: If the features are not those of the batch's regions.
    """
    dgl = require("dgl", extra="dgl", purpose="make DGL graphs")
    values = _features(batch, features)
    graphs = []
    for part in to_edge_lists(batch, density=density, signed=signed):
        graph = dgl.graph((part.edge_index[0], part.edge_index[1]), num_nodes=len(part.region))
        graph.ndata.update({"x": values[part.row, part.region], "pos": part.pos, "region": part.region, "network": part.network})
        graph.edata["weight"] = part.weight
        graph.subject_id, graph.atlas, graph.n_regions, graph.network_names = part.subject_id, part.atlas, part.n_regions, part.network_names
        graphs.append(graph)
    return graphs


def from_dgl(graphs: Sequence[Any], *, subject_ids: Sequence[str] | None = None, atlas: str | None = None) -> ConnectomeBatch:
    """DGL graphs as connectomes; the inverse of `to_dgl` at full density.

    Needed are the node data `pos` and the edge data `weight`, with edges in both directions; self-loops are left out.

    Args:
        graphs: One graph a connectome.
        subject_ids: Subject of each graph, where they do not hold it themselves.
        atlas: Name of the atlas, where the graphs do not hold it.

    Raises:
        MissingExtraError: If DGL is not installed.
        DataError: If there is no graph, one lacks what is needed, or its edges are not those of a symmetric matrix.
    """
    require("dgl", extra="dgl", purpose="read DGL graphs")
    parts = []
    for row, graph in enumerate(graphs):
        stored = {**graph.__dict__, **dict(graph.ndata)}
        weight = _needed(dict(graph.edata), row, "weight")
        parts.append(_part(stored, row, subject_ids, atlas, n_nodes=graph.num_nodes(), edge_index=torch.stack(graph.edges()), weight=weight))
    return from_edge_lists(parts)


def to_networkx(
    batch: ConnectomeBatch,
    *,
    atlases: Mapping[str, Atlas] | None = None,
    density: float | None = None,
    signed: bool = True,
) -> list["nx.Graph[int]"]:
    """Connectomes as undirected NetworkX graphs.

    Nodes are positions of regions, with the attributes `network` (its name), `pos` (centroid in MNI mm) and, where the atlas is given, `label` and
    `name`. Edges have a `weight`; the graph has `subject_id`, `atlas`, `n_regions` and `network_names`.

    Args:
        batch: Connectomes.
        atlases: Atlas by name, for labels and names.
        density: Share of the visible connections to keep, the strongest first; all when left out.
        signed: Whether weights keep their sign; else edges have absolute weights.

    Raises:
        AtlasError: If an atlas is given that has fewer regions than a connectome of that name.
        ConfigError: If the density is out of range.
    """
    graphs = []
    for part in to_edge_lists(batch, density=density, signed=signed):
        graph: nx.Graph[int] = nx.Graph(subject_id=part.subject_id, atlas=part.atlas, n_regions=part.n_regions, network_names=part.network_names)
        graph.add_nodes_from(zip(part.region.tolist(), _node_attributes(part, (atlases or {}).get(part.atlas)), strict=True))
        upper = part.edge_index[0] < part.edge_index[1]
        ends = part.region[part.edge_index[:, upper]].tolist()
        graph.add_weighted_edges_from(zip(*ends, part.weight[upper].tolist(), strict=True))
        graphs.append(graph)
    return graphs


def from_networkx(
    graphs: "Sequence[nx.Graph[Any]]",
    *,
    subject_ids: Sequence[str] | None = None,
    atlas: str | None = None,
) -> ConnectomeBatch:
    """Undirected NetworkX graphs as connectomes; the inverse of `to_networkx` at full density.

    Needed are `pos` of every node and `weight` of every edge; self-loops are left out. Nodes that are integers are positions of regions where the
    graph says `n_regions`; otherwise they are taken to be all regions in order.

    Args:
        graphs: One graph a connectome.
        subject_ids: Subject of each graph, where they do not hold it themselves.
        atlas: Name of the atlas, where the graphs do not hold it.

    Raises:
        DataError: If there is no graph, one is directed or has parallel edges, or lacks what is needed.
    """
    known = sorted({str(name) for graph in graphs for _, name in graph.nodes(data="network") if name})
    parts = []
    for row, graph in enumerate(graphs):
        if graph.is_directed() or graph.is_multigraph():
            raise DataError(f"Expected undirected graphs without parallel edges, found a {type(graph).__name__} as graph {row}. Convert it.")
        parts.append(_part_of_networkx(graph, row, known, subject_ids, atlas))
    return from_edge_lists(parts)


def _features(batch: ConnectomeBatch, features: Tensor | None) -> Tensor:
    if features is None:
        return batch.weights
    if features.dim() != 3 or features.shape[:2] != batch.mask.shape:
        raise DataError(f"Expected features [B, R, F] of {tuple(batch.mask.shape)} regions, found shape {tuple(features.shape)}.")
    return features


def _node_attributes(part: EdgeList, atlas: Atlas | None) -> list[dict[str, Any]]:
    positions = part.region.tolist()
    if atlas is not None and positions and positions[-1] >= len(atlas):
        raise AtlasError(
            f"Expected atlas {part.atlas!r} of the connectome of {part.subject_id!r} to have at least {positions[-1] + 1} regions, "
            f"found {len(atlas)}. Give the atlas the connectomes were made with."
        )
    nodes = [
        {"network": part.network_names[network] if network >= 0 else "", "pos": tuple(pos)}
        for network, pos in zip(part.network.tolist(), part.pos.tolist(), strict=True)
    ]
    if atlas is not None:
        for position, node in zip(positions, nodes, strict=True):
            node.update(label=int(atlas.labels[position]), name=atlas.display_names[position])
    return nodes


def _part_of_networkx(graph: Any, row: int, known: list[str], subject_ids: Sequence[str] | None, atlas: str | None) -> EdgeList:
    nodes = list(graph.nodes)
    number = {node: index for index, node in enumerate(nodes)}
    stored = dict(graph.graph)
    places, weights = [graph.nodes[node].get("pos") for node in nodes], [weight for *_, weight in graph.edges(data="weight")]
    if None in places or None in weights:
        raise DataError(f"Expected 'pos' of every node and 'weight' of every edge in graph {row}, found some without. Set them before converting.")
    names = tuple(stored.get("network_names", known))
    where = {name: index for index, name in enumerate(names)}
    stored.update(
        network_names=names,
        network=torch.tensor([where.get(graph.nodes[node].get("network"), -1) for node in nodes], dtype=torch.long),
        pos=torch.tensor(places, dtype=torch.float32).reshape(-1, 3),
    )
    if "n_regions" in stored and all(isinstance(node, int) for node in nodes):
        stored["region"] = torch.tensor(nodes, dtype=torch.long)
    ends = torch.tensor([[number[a], number[b]] for a, b in graph.edges], dtype=torch.long).reshape(-1, 2).T
    both = torch.cat([ends, ends[:, ends[0] != ends[1]].flip(0)], dim=1)
    weight = torch.tensor(weights, dtype=torch.float32)
    twice = torch.cat([weight, weight[ends[0] != ends[1]]])
    return _part(stored, row, subject_ids, atlas, n_nodes=len(nodes), edge_index=both, weight=twice)


def _part(
    stored: Mapping[str, Any],
    row: int,
    subject_ids: Sequence[str] | None,
    atlas: str | None,
    *,
    n_nodes: int,
    edge_index: Tensor,
    weight: Tensor,
) -> EdgeList:
    subject = subject_ids[row] if subject_ids is not None else stored.get("subject_id")
    if subject is None:
        raise DataError(f"Expected a subject_id in every graph, found none in graph {row}. Give subject_ids.")
    pos = _needed(stored, row, "pos")
    region = stored.get("region", torch.arange(n_nodes))
    network = stored.get("network", torch.full((n_nodes,), -1))
    if weight.numel() != edge_index.shape[1] or pos.shape != (n_nodes, 3):
        raise DataError(
            f"Expected one weight an edge ({edge_index.shape[1]}) and pos [{n_nodes}, 3] in graph {row}, found weights of shape "
            f"{tuple(weight.shape)} and pos {tuple(pos.shape)}."
        )
    n_regions = int(stored.get("n_regions", n_nodes))
    if len(region) and (int(region.min()) < 0 or int(region.max()) >= n_regions or len(region.unique()) < len(region)):
        raise DataError(f"Expected different positions of regions below {n_regions} in graph {row}, found {region.tolist()[:8]}.")
    names = tuple(stored.get("network_names", ()))
    name = atlas if atlas is not None else str(stored.get("atlas", ""))
    return EdgeList(row, str(subject), name, region, pos, network, edge_index, weight.flatten(), n_regions, names)


def _needed(stored: Mapping[str, Any], row: int, *names: str) -> Any:
    for name in names:
        if stored.get(name) is not None:
            return stored[name]
    raise DataError(f"Expected {' or '.join(map(repr, names))} in graph {row}, found only {sorted(stored)}.")
