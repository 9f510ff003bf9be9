"""A connectome as nodes and edges: the form between dense batches and the graphs of other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import DataError
from graphssl.graphs.sparsify import densest


@dataclass(frozen=True)
class EdgeList:
    """One connectome: a node for every observed region, an edge in both directions for every connection.

    Args:
        row: Its row in the batch.
        subject_id: Subject.
        atlas: Name of the atlas.
        region: Position of each node in the connectome `[n]`.
        pos: Centroids in MNI mm `[n, 3]`.
        network: Index into `network_names` `[n]`; -1 where unknown.
        edge_index: Numbers of the nodes at both ends `[2, E]`.
        weight: Weights `[E]`.
        n_regions: Width of the connectome, missing regions and padding included.
        network_names: Names of the networks.
    """

    row: int
    subject_id: str
    atlas: str
    region: Int[Tensor, "n"]
    pos: Float[Tensor, "n 3"]
    network: Int[Tensor, "n"]
    edge_index: Int[Tensor, "2 E"]
    weight: Float[Tensor, "E"]
    n_regions: int
    network_names: tuple[str, ...]


def to_edge_lists(batch: ConnectomeBatch, *, density: float | None = None, signed: bool = True) -> list[EdgeList]:
    """Connectomes as nodes and edges.

    Args:
        batch: Connectomes.
        density: Share of the visible connections to keep, the strongest first; all when left out.
        signed: Whether weights keep their sign; else edges have absolute weights.

    Raises:
        ConfigError: If the density is out of range.
    """
    kept = batch.visible if density is None else densest(batch, density)
    graph, source, target = kept.nonzero().unbind(dim=1)
    place = batch.mask.long().cumsum(dim=1) - 1  # number of the node of a region
    weight = batch.weights[graph, source, target]
    per_edge = torch.bincount(graph, minlength=len(batch)).tolist()
    edges = torch.stack([place[graph, source], place[graph, target]]).split(per_edge, dim=1)
    weights = (weight if signed else weight.abs()).split(per_edge)
    lists = []
    for row, seen in enumerate(batch.mask):
        region = seen.nonzero().flatten()
        places = (region, batch.centroids[row, region], batch.networks[row, region])
        names = (batch.mask.shape[1], batch.network_names)
        lists.append(EdgeList(row, batch.subject_ids[row], batch.atlas[row], *places, edges[row], weights[row], *names))
    return lists


def from_edge_lists(parts: Sequence[EdgeList]) -> ConnectomeBatch:
    """The inverse of `to_edge_lists` at full density; self-loops are left out.

    Raises:
        DataError: If there is none, network names differ, or the edges are not those of a symmetric matrix.
    """
    if not parts:
        raise DataError("Expected at least one graph, found none.")
    names = {part.network_names for part in parts}
    if len(names) > 1:
        raise DataError(f"Expected the same network_names in all graphs, found {sorted(names)[:2]}.")
    width = max(1, *(part.n_regions for part in parts))
    shape = (len(parts), width)
    rows = torch.arange(len(parts))
    nodes = (rows.repeat_interleave(torch.tensor([len(part.region) for part in parts])), torch.cat([part.region for part in parts]))
    weights, visible = _edges(parts, width)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[nodes] = True
    centroids = torch.zeros((*shape, 3))
    centroids[nodes] = torch.cat([part.pos for part in parts]).float()
    networks = torch.full(shape, -1)
    networks[nodes] = torch.cat([part.network for part in parts]).long()
    return ConnectomeBatch(
        tuple(part.subject_id for part in parts), weights, visible, mask, centroids, networks, tuple(part.atlas for part in parts), names.pop()
    )


def _edges(parts: Sequence[EdgeList], width: int) -> tuple[Tensor, Tensor]:
    row = torch.arange(len(parts)).repeat_interleave(torch.tensor([part.edge_index.shape[1] for part in parts]))
    ends = torch.cat([part.region[part.edge_index] for part in parts], dim=1)
    weight = torch.cat([part.weight for part in parts]).float()
    between = ends[0] != ends[1]
    row, (source, target), weight = row[between], ends[:, between], weight[between]
    weights = torch.zeros((len(parts), width, width))
    count = torch.zeros((len(parts), width, width), dtype=torch.long)
    weights[row, source, target] = weight
    count.index_put_((row, source, target), torch.ones_like(row), accumulate=True)
    visible = count > 0
    fine = torch.equal(visible, visible.mT) and torch.equal(weights, weights.mT) and bool(weights.isfinite().all())
    if not fine or int(count.max()) > 1:
        wrong = ((weights != weights.mT) | (visible != visible.mT) | (count > 1) | ~weights.isfinite()).flatten(start_dim=1).any(dim=1)
        raise DataError(
            "Expected every edge once in each direction with the same finite weight, found otherwise in graphs "
            f"{wrong.nonzero().flatten().tolist()[:5]}. Make the graphs undirected and their edges unique."
        )
    return weights, visible
