"""Population graphs as graphs of PyTorch Geometric, DGL and NetworkX."""

from typing import TYPE_CHECKING, Any

import networkx as nx
from jaxtyping import Float
from torch import Tensor

from graphssl.data.population import PopulationGraph
from graphssl.errors import DataError
from graphssl.extras import require

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_pyg(graph: PopulationGraph, features: Float[Tensor, "N F"] | None = None) -> "Data":
    """A population graph as PyTorch Geometric `Data`.

    It has `x` (features of the patients, where given), `edge_index` `[2, E]` from neighbour to patient, `edge_attr` (similarities by group `[E, G]`),
    `training` `[N]`, `subject_id` (the id by place, for loaders of PyTorch Geometric take no list with an entry a node), `groups` and `transductive`.

    Args:
        graph: The graph.
        features: Features of the patients.

    Raises:
        DataError: If the features are not those of the graph's patients.
    """
    from torch_geometric.data import Data

    _check_features(graph, features)
    data = Data(x=features, edge_index=graph.edge_index, edge_attr=graph.similarity, num_nodes=len(graph))
    data.update({"training": graph.training, "subject_id": dict(enumerate(graph.subject_ids)), "groups": list(graph.groups)})
    data.transductive = graph.transductive
    return data


def to_dgl(graph: PopulationGraph, features: Float[Tensor, "N F"] | None = None) -> Any:
    """A population graph as a DGL graph.

    Node data are `training` and, where given, `x`; edge data `similarity` `[E, G]`. DGL has no place for what belongs to a whole graph: `subject_id`,
    `groups` and `transductive` are attributes of the Python object, which DGL's own operations do not carry on.

    Args:
        graph: The graph.
        features: Features of the patients.

    Raises:
        MissingExtraError: If DGL is not installed.
        DataError: If the features are not those of the graph's patients.
    """
    dgl = require("dgl", extra="dgl", purpose="make DGL graphs")
    _check_features(graph, features)
    source, target = graph.edge_index
    made = dgl.graph((source, target), num_nodes=len(graph))
    made.ndata["training"] = graph.training
    if features is not None:
        made.ndata["x"] = features
    made.edata["similarity"] = graph.similarity
    made.subject_id, made.groups, made.transductive = list(graph.subject_ids), list(graph.groups), graph.transductive
    return made


def to_networkx(graph: PopulationGraph) -> "nx.DiGraph[str]":
    """A population graph as a directed NetworkX graph.

    Nodes are subject ids with the attribute `training`; edges run from neighbour to patient and have a similarity a group, under its name. The graph
    has `groups` and `transductive`.

    Args:
        graph: The graph.
    """
    made: nx.DiGraph[str] = nx.DiGraph(groups=graph.groups, transductive=graph.transductive)
    made.add_nodes_from((subject, {"training": training}) for subject, training in zip(graph.subject_ids, graph.training.tolist(), strict=True))
    ids = graph.subject_ids
    for source, target, similarity in zip(*graph.edge_index.tolist(), graph.similarity.tolist(), strict=True):
        made.add_edge(ids[source], ids[target], **dict(zip(graph.groups, similarity, strict=True)))
    return made


def _check_features(graph: PopulationGraph, features: Tensor | None) -> None:
    if features is not None and (features.dim() != 2 or len(features) != len(graph)):
        raise DataError(f"Expected features [N, F] of {len(graph)} patients, found shape {tuple(features.shape)}.")
