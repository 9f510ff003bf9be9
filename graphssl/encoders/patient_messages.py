"""Patients and the edges along which they learn, as one flat graph for message passing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.population_batch import PopulationBatch
from graphssl.graphs.batch_neighborhoods import BatchNeighborhoods


@dataclass(frozen=True)
class PatientGraph:
    """Edges among `M` patients, who are numbered anew.

    Attributes:
        edge_index: The neighbour, then who learns from it `[2, E]`.
        similarity: Similarity over each edge in every group `[E, G]`.
        n_patients: `M`.
    """

    edge_index: Int[Tensor, "2 E"]
    similarity: Float[Tensor, "E G"]
    n_patients: int


def whole_graph(batch: PopulationBatch) -> PatientGraph:
    """The population and the attached patients behind it, as `with_everybody` has them."""
    graph, attached = batch.population.graph, batch.attached
    neighbors, similarity = batch.neighbors[attached], batch.similarity[attached]
    row, rank = (neighbors >= 0).nonzero().unbind(dim=1)
    new = torch.stack([neighbors[row, rank], len(graph) + row])
    edge_index = batch.population.keep("edge_index", lambda: graph.edge_index)
    return PatientGraph(torch.cat([edge_index, new], dim=1), torch.cat([graph.similarity, similarity[row, rank]]), len(graph) + len(neighbors))


def trees(found: BatchNeighborhoods) -> PatientGraph:
    """Neighbourhoods as trees apart from one another: a patient in two of them, or twice in one, is as many nodes.

    What a patient gets then depends on its own tree alone.
    """
    b, t = found.nodes.shape
    row, place = (found.nodes[:, 1:] >= 0).nonzero().unbind(dim=1)
    place = place + 1
    edge_index = torch.stack([row * t + place, row * t + found.parents[place]])
    return PatientGraph(edge_index, found.similarity[row, place], b * t)
