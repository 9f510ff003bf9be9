"""Two modalities of a patient belong together, and to those of patients who are much like this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.population_batch import PopulationBatch
from graphssl.data.transforms import ColumnEncoder
from graphssl.errors import ConfigError
from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.induced import edges_among
from graphssl.graphs.neighbors import NeighborIndex
from graphssl.graphs.population_builder import default_groups
from graphssl.objectives.cross_modal import AbstractCrossModal, Targets
from graphssl.objectives.two_views import check_positive
from graphssl.views.base import AbstractView


class NeighborContrast(AbstractCrossModal):
    """Contrast of modalities in which neighbours of a patient count as partners in part, by how much they are like the patient.

    Who is sought is a softmax over similarities: 1 for the patient, that of the population graph for neighbours in the minibatch; all others have no
    share. So a patient's image is not pushed from the table of somebody who is nearly the same. Patients of a population are neighbours as its graph
    says; others as a `NeighborIndex` says, which is fitted on the subjects of pre-training. The soft target is ours.

    Args:
        modalities: Names of the modalities to compare, two at least; all of the encoder when left out.
        view: A look at the patients before they are embedded, such as `PartViews`, one at each modality.
        corruption: Share of the columns of tables that is given values of other patients; 0 leaves them as they are.
        temperature: Temperature of the softmax over cosines.
        neighbor_temperature: Temperature of the softmax over similarities; near 0 only the patient is sought.
        n_neighbors: Neighbours of a patient, where there is no population.
        groups: Groups of columns by which patients are compared, where there is no population; all numbers and all categories when left out.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If an argument is out of range.
    """

    knows = ("nearest",)

    def __init__(
        self,
        modalities: Sequence[str] | None = None,
        view: AbstractView | None = None,
        corruption: float = 0.3,
        temperature: float = 0.1,
        neighbor_temperature: float = 0.3,
        n_neighbors: int = 10,
        groups: Sequence[FeatureGroup] | None = None,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__(modalities, view, corruption, temperature, width, hidden)
        check_positive(neighbor_temperature=neighbor_temperature, n_neighbors=n_neighbors)
        self.neighbor_temperature, self.n_neighbors = neighbor_temperature, n_neighbors
        self.groups = None if groups is None else tuple(groups)
        self.nearest: NearestSubjects | None = None

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with the neighbours of every subject of a cohort among its others.

        Raises:
            SchemaError: If there is no column to compare subjects by.
        """
        return super().for_cohort(cohort).but(nearest=nearest_subjects(cohort, self.groups, self.n_neighbors))

    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """A softmax over the similarities of each patient, the same for both modalities.

        Raises:
            ConfigError: If it was told neither of a population nor of neighbours.
        """
        if isinstance(batch, PopulationBatch):
            closeness = population_closeness(batch)
        elif self.nearest is not None:
            closeness = self.nearest.closeness(batch.subject_ids).to(batch.device)
        else:
            raise ConfigError("Expected a NeighborContrast that knows neighbours, found one without. Call for_cohort(cohort), or give a population.")
        among = neighbor_shares(closeness[first][:, second], self.neighbor_temperature)
        return among, neighbor_shares(closeness[second][:, first], self.neighbor_temperature)


def neighbor_shares(closeness: Float[Tensor, "A B"], temperature: float) -> Float[Tensor, "A B"]:
    """A softmax over similarities; who is no neighbour, at minus infinity, has no share.

    Args:
        closeness: Similarity of neighbours, 1 to oneself, minus infinity to everybody else.
        temperature: Temperature of the softmax.
    """
    return (closeness / temperature).softmax(dim=1)


def population_closeness(batch: PopulationBatch) -> Float[Tensor, "B B"]:
    """Similarity of every patient of a batch to its neighbours in the population graph that are in the batch too, the mean over groups."""
    edges = edges_among(batch.population, batch.nodes.unsqueeze(0)).squeeze(0)
    similarity = batch.population.graph.similarity.mean(dim=1)
    similarity = torch.cat([similarity, similarity.new_full((1,), -torch.inf)])  # the last one is no edge
    inside = similarity[torch.where(edges >= 0, edges, len(similarity) - 1)]
    attached = placed_closeness(batch.neighbors, batch.similarity.mean(dim=2), batch.nodes)
    return torch.maximum(inside, attached).fill_diagonal_(1.0)


def placed_closeness(neighbors: Int[Tensor, "B K"], similarity: Float[Tensor, "B K"], places: Int[Tensor, "B"]) -> Float[Tensor, "B B"]:
    """Similarity of each row to the others whose places are among its neighbours', minus infinity to the rest.

    Args:
        neighbors: Places of the neighbours of each row; -1 for nobody.
        similarity: Their similarity.
        places: Place of each row; -1 for one that is nobody's neighbour.
    """
    if not neighbors.shape[1]:
        return similarity.new_full((len(places), len(places)), -torch.inf)
    met = (neighbors.unsqueeze(2) == places) & (neighbors >= 0).unsqueeze(2)  # [B, K, B]
    return torch.where(met, similarity.unsqueeze(2), -torch.inf).amax(dim=1)


@dataclass(frozen=True, eq=False)
class NearestSubjects:
    """The subjects of a cohort and those most like each.

    Attributes:
        place_of: Place of every subject, by id.
        neighbors: Places of the neighbours of each `[N, K]`.
        similarity: Their similarity, the weighted mean over groups `[N, K]`.
    """

    place_of: Mapping[str, int]
    neighbors: Int[Tensor, "N K"]
    similarity: Float[Tensor, "N K"]

    def closeness(self, subject_ids: Sequence[str]) -> Float[Tensor, "B B"]:
        """Similarity of some subjects to those of them who are their neighbours, in either direction; subjects never met have none."""
        places = torch.tensor([self.place_of.get(subject, -1) for subject in subject_ids])
        known = (places >= 0).unsqueeze(1)
        row = places.clamp(min=0)
        one_way = placed_closeness(torch.where(known, self.neighbors[row], -1), self.similarity[row], places)
        return torch.maximum(one_way, one_way.T).fill_diagonal_(1.0)


def nearest_subjects(cohort: Cohort, groups: Sequence[FeatureGroup] | None, n_neighbors: int) -> NearestSubjects:
    """The subjects of a cohort that are most like each.

    Args:
        cohort: Subjects of pre-training.
        groups: Groups of columns by which they are compared; all numbers and all categories when left out.
        n_neighbors: Neighbours of a subject; all others where there are fewer.

    Raises:
        SchemaError: If there is no column to compare subjects by.
    """
    compared = default_groups(ColumnEncoder().fit(cohort), cohort) if groups is None else groups
    index = NeighborIndex(compared, n_neighbors=min(n_neighbors, max(1, len(cohort) - 1))).fit(cohort)
    found = index.query()
    places = {subject: place for place, subject in enumerate(index.ids_)}
    return NearestSubjects(places, torch.from_numpy(found.indices), torch.from_numpy(found.similarity.astype(np.float32)))
