"""What encoders of population graphs share: a patient alone first, then what it learns from other patients."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from graphssl.data.builder import AbstractBuilder
from graphssl.data.population_batch import PopulationBatch
from graphssl.data.table import TableBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.patient_messages import PatientGraph, trees, whole_graph
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.errors import ConfigError
from graphssl.graphs.batch_neighborhoods import BatchNeighborhoods, batch_neighborhoods
from graphssl.graphs.population_builder import PopulationBuilder


class AbstractPopulationEncoder(AbstractTableEncoder):
    """An encoder of patients who learn from others.

    Each column is a token, which hears of the patient's neighbours too, so that a hidden value can be told from them. What a patient gets does not
    depend on which other new patients are in the batch: they are attached to the population and give nothing.

    A population of up to `whole_limit` patients is embedded whole in every step. Of a larger one, each patient of the batch hears of a sample of its
    neighbours, of theirs, and so on: drawn in training, the most alike ones outside of it.

    Attributes:
        groups: Names of the groups of features by which patients are compared.
        edges: Whether patients learn from one another.
        whole_limit: See above.
        fan_outs: How many neighbours are taken at each hop.
    """

    groups: tuple[str, ...]
    edges: bool
    whole_limit: int
    fan_outs: tuple[int, ...]
    rows_at_once = 512

    @abstractmethod
    def forward(self, batch: PopulationBatch) -> Embedding:
        """Embed a batch of patients; a token a column."""

    def set_patients(
        self,
        width: int,
        patient_depth: int,
        heads: int,
        dropout: float,
        edges: bool,
        whole_limit: int,
        fan_outs: Sequence[int],
        groups: Sequence[str],
        numbers: Sequence[str],
        categories: Mapping[str, Sequence[str]] | None,
        n_pieces: int,
    ) -> None:
        """Keep what is common and make the part for a patient alone, for constructors.

        Raises:
            ConfigError: If the heads do not divide the width, or there is no fan-out.
        """
        check_heads(width, heads)
        if not fan_outs or min(fan_outs) < 1:
            raise ConfigError(f"Expected at least one fan-out, each at least 1; found {list(fan_outs)}.")
        self.width, self.patient_depth, self.heads, self.dropout = width, patient_depth, heads, dropout
        self.edges, self.groups = edges, tuple(groups)
        self.whole_limit, self.fan_outs = whole_limit, tuple(fan_outs)
        self.set_columns(numbers, categories, n_pieces)
        sizes = [len(known) for known in self.categories.values()]
        self.patient = PatientNetwork(len(self.numbers), n_pieces, sizes, width, patient_depth, heads, dropout)
        self.norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heard = nn.Linear(width, width)
        self.token_width = self.pooled_width = width

    def is_whole(self, batch: PopulationBatch) -> bool:
        """Whether the population of a batch is embedded whole."""
        return len(batch.population) <= self.whole_limit

    def neighborhoods(self, batch: PopulationBatch) -> BatchNeighborhoods:
        """Sampled neighbourhoods of the patients of a batch, drawn as dropout is."""
        return batch_neighborhoods(batch, self.fan_outs, torch.default_generator if self.training else None)

    def alone(self, batch: PopulationBatch, nodes: Int[Tensor, "B T"]) -> tuple[Float[Tensor, "B C D"], Float[Tensor, "B T D"]]:
        """Each patient alone: tokens of those of the batch, and vectors of the members of their neighbourhoods; zero for nobody.

        Args:
            batch: The batch.
            nodes: Places in the population; -1 for nobody, and for an attached patient itself, which comes first.
        """
        members, place = nodes.clamp(min=0).unique(return_inverse=True)
        attached = batch.attached
        place = torch.where(nodes >= 0, place, -1)
        place[attached, 0] = len(members) + torch.arange(int(attached.sum()), device=nodes.device)
        tokens, vectors = self.patient(TableBatch.cat([batch.read(members), batch.patients[attached]]))
        vectors = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])  # the last one is nobody
        place = torch.where(place < 0, len(vectors) - 1, place)
        return tokens.index_select(0, place[:, 0]), vectors.index_select(0, place.flatten()).view(*nodes.shape, -1)

    def flat(self, batch: PopulationBatch) -> tuple[Float[Tensor, "B C D"], Float[Tensor, "M D"], PatientGraph, Int[Tensor, "B"]]:
        """Tokens of the batch's patients; vectors of all patients who pass messages, each embedded alone; their graph, and the batch's places in it.

        Without `edges` these are the patients of the batch, and there is none.
        """
        if not self.edges:
            tokens, patients = self.patient(batch.patients)
            nothing = PatientGraph(batch.nodes.new_zeros(2, 0), batch.similarity.new_zeros(0, len(self.groups)), len(batch))
            return tokens, patients, nothing, torch.arange(len(batch), device=batch.device)
        if self.is_whole(batch):
            everybody, place = batch.with_everybody()
            tokens, patients = self.patient(everybody)
            return tokens.index_select(0, place), patients, whole_graph(batch), place
        found = self.neighborhoods(batch)
        tokens, patients = self.alone(batch, found.nodes)
        first = torch.arange(0, found.nodes.numel(), found.nodes.shape[1], device=batch.device)
        return tokens, patients.flatten(0, 1), trees(found), first

    def embedding(self, tokens: Float[Tensor, "B C D"], patients: Float[Tensor, "B D"]) -> Embedding:
        """The embedding of patients alone `tokens` and of what they have learned `patients`."""
        pooled = self.norm(patients)
        tokens = self.token_norm(tokens + self.heard(pooled).unsqueeze(1))
        return Embedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), pooled)

    def default_builder(self) -> AbstractBuilder:
        """A `PopulationBuilder`."""
        return PopulationBuilder()

    def check_population(self, batch: PopulationBatch) -> None:
        """Check that a batch has the encoder's columns and groups.

        Raises:
            ConfigError: If it has others.
        """
        if not isinstance(batch, PopulationBatch):
            raise ConfigError(f"Expected patients of a population before a {type(self).__name__}, found a {type(batch).__name__}.")
        self.check_columns(batch.patients)
        if batch.population.graph.groups != self.groups:
            raise ConfigError(
                f"Expected a population compared by the groups {list(self.groups)}, found {list(batch.population.graph.groups)}. "
                "Make the encoder with for_builder(builder)."
            )
