"""Graphs with named nodes, as m2g and PyNets write them: GraphML and edge lists, read into a matrix whose rows carry the names of the nodes."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from graphssl.datasets.labelled import LabelledArray
from graphssl.errors import DataError


def read_graphml(path: Path) -> LabelledArray:
    """Read a GraphML file as a matrix of edge weights.

    A node is called by its attribute `name` or `label` where every node has one, else by its id. Weights are the edge attribute `weight`, or the only
    numeric attribute of the edges; edges without attributes weigh one.

    Raises:
        DataError: If nodes have no names of their own, edges are directed and differ from their mirror, or several attributes may be the weight.
    """
    graph = nx.read_graphml(path)
    attribute = next((key for key in ("name", "label", "region") if all(key in data for _, data in graph.nodes(data=True))), None)
    names = [str(data[attribute] if attribute else node) for node, data in graph.nodes(data=True)]
    return _matrix(graph, names, _weight(graph, path), path)


def read_edge_list(path: Path) -> LabelledArray:
    """Read an edge list, one edge a line: two names and a weight (`a b 3.5`, also with tabs or commas), or `{'weight': 3.5}` in the third place.

    Raises:
        DataError: If a line is none, or as `read_graphml`.
    """
    text = path.read_bytes().decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    separator = "\t" if "\t" in first else "," if "," in first and "{" not in first else None
    try:
        if any(len(line.split(separator)) < 2 for line in lines):
            raise IndexError("a line of one word")
        graph = nx.parse_edgelist(lines, delimiter=separator, data="{" in first or [("weight", float)])
    except (TypeError, IndexError, ValueError) as error:
        raise DataError(
            f"Expected two nodes and a weight in each line of {path}, found others ({error}). Write them as: node node weight."
        ) from error
    return _matrix(graph, [str(node).strip() for node in graph.nodes], "weight", path)


def _weight(graph: nx.Graph, path: Path) -> str:
    numeric = {key for _, _, data in graph.edges(data=True) for key, value in data.items() if isinstance(value, int | float)}
    if "weight" in numeric or not numeric:
        return "weight"
    if len(numeric) > 1:
        raise DataError(f"Expected edges of {path} with the attribute 'weight', found {', '.join(sorted(numeric))}. Rename the one to read.")
    return str(numeric.pop())


def _matrix(graph: Any, names: list[str], weight: str, path: Path) -> LabelledArray:
    if len(graph) < 2:
        raise DataError(f"Expected a graph with nodes and edges in {path}, found {len(graph)} nodes. Write it again.")
    _check_named(names, path)
    values = nx.to_numpy_array(graph, weight=weight, dtype=np.float64)
    if graph.is_directed():
        one_way = (values == 0) != (values.T == 0)
        values = np.where(one_way, values + values.T, values)  # an undirected edge is often written once
    return LabelledArray(values.astype(np.float32), tuple(names), tuple(names))


def _check_named(names: list[str], path: Path) -> None:
    counted = set(names) in ({str(k) for k in range(len(names))}, {f"n{k}" for k in range(len(names))})
    if counted or len(set(names)) < len(names):
        what = f"nodes counted from {names[0]!r}" if counted else "names that repeat"
        raise DataError(
            f"Expected nodes of {path} called by label id or name of their region, found {what}, which say nothing about the region. "
            "Write the names as the node attribute 'name'."
        )
