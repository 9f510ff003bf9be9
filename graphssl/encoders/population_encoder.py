"""What encoders of population graphs share: a patient alone first, then what it learns from other patients."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.builder import AbstractBuilder
from graphssl.data.population_batch import PopulationBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.errors import ConfigError
from graphssl.graphs.population_builder import PopulationBuilder


class AbstractPopulationEncoder(AbstractTableEncoder):
    """An encoder of patients who learn from others.

    Each column is a token, which hears of the patient's neighbours too, so that a hidden value can be told from them. What a patient gets does not
    depend on which other new patients are in the batch: they are attached to the population and give nothing.

    Attributes:
        groups: Names of the groups of features by which patients are compared.
        edges: Whether patients learn from one another.
    """

    groups: tuple[str, ...]
    edges: bool

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
        groups: Sequence[str],
        numbers: Sequence[str],
        categories: Mapping[str, Sequence[str]] | None,
        n_pieces: int,
    ) -> None:
        """Keep what is common and make the part for a patient alone, for constructors.

        Raises:
            ConfigError: If the heads do not divide the width.
        """
        check_heads(width, heads)
        self.width, self.patient_depth, self.heads, self.dropout = width, patient_depth, heads, dropout
        self.edges, self.groups = edges, tuple(groups)
        self.set_columns(numbers, categories, n_pieces)
        sizes = [len(known) for known in self.categories.values()]
        self.patient = PatientNetwork(len(self.numbers), n_pieces, sizes, width, patient_depth, heads, dropout)
        self.norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heard = nn.Linear(width, width)
        self.token_width = self.pooled_width = width

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
