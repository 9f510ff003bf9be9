"""Hide part of a connectome and predict it from the rest."""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.tokens import SpatialBasis
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.views.graph import HideConnections, HideRegions


class AbstractMasked(AbstractObjective):
    """Hide connections, embed what is left, and predict the hidden weights; only hidden and truly observed entries count.

    Two decoders predict a connection from its two ends. The first reads their tokens. The second reads the pooled vector and where the two
    regions lie, so that the pooled vector, which later studies use, has to hold the connectome too.

    Args:
        ratio: Share that is hidden, in (0, 1).
        rank: Inner width of the first decoder, the largest rank of a predicted connectome; the second has half of it.
        pooled_weight: Weight of the second decoder's error beside the first's; 0 leaves it out.

    Raises:
        ConfigError: If the ratio or the weight is out of range.
    """

    def __init__(self, ratio: float, rank: int, pooled_weight: float) -> None:
        super().__init__()
        if not 0 < ratio < 1 or pooled_weight < 0 or rank < 1:
            raise ConfigError(f"Expected 0 < ratio < 1, rank ≥ 1 and pooled_weight ≥ 0; found {ratio}, {rank} and {pooled_weight}.")
        self.ratio, self.rank, self.pooled_weight = ratio, rank, pooled_weight

    def prepare(self, encoder: AbstractEncoder) -> "AbstractMasked":
        """Make the decoders for the encoder's widths."""
        self.from_tokens = nn.Sequential(nn.Linear(encoder.token_width, self.rank), nn.GELU(), nn.Linear(self.rank, 2 * self.rank))
        if self.pooled_weight:
            self.from_pooled = PooledDecoder(encoder.pooled_width, max(1, self.rank // 2))
        return self

    @abstractmethod
    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
        """Choose what to hide."""

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """Mean squared error over hidden connections.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("from_tokens")
        hidden = self.draw(batch, generator)
        embedding = encoder(batch.hide(hidden))
        error = masked_error(connections(self.from_tokens(embedding.tokens)), batch.weights, hidden)
        parts = {"tokens_error": error.detach(), "zero_error": masked_error(torch.zeros_like(batch.weights), batch.weights, hidden)}
        total = error
        if self.pooled_weight:
            pooled_error = masked_error(connections(self.from_pooled(embedding, batch)), batch.weights, hidden)
            parts["pooled_error"] = pooled_error.detach()
            total = total + self.pooled_weight * pooled_error
        return Loss(total, parts)


class MaskedRegions(AbstractMasked):
    """Hide whole regions with all their connections; the encoder must infer them from the other regions and from where the hidden ones lie.

    Masked feature modelling as in GraphMAE (Hou et al., KDD 2022) and BrainMass (Yang et al., 2024), with the connection as the feature.

    Args:
        ratio: Share of the observed regions that is hidden.
        rank: Largest rank of a predicted connectome.
        pooled_weight: Weight of the prediction from the pooled vector.
    """

    def __init__(self, ratio: float = 0.3, rank: int = 64, pooled_weight: float = 1.0) -> None:
        super().__init__(ratio, rank, pooled_weight)

    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
        """Choose regions."""
        return HideRegions(self.ratio).draw(batch, generator)


class MaskedConnections(AbstractMasked):
    """Hide single connections; the encoder must infer them from the rest of both regions' profiles.

    Masked edge modelling as in MaskGAE (Li et al., KDD 2023), for weighted dense graphs.

    Args:
        ratio: Share of the visible connections that is hidden.
        rank: Largest rank of a predicted connectome.
        pooled_weight: Weight of the prediction from the pooled vector.
    """

    def __init__(self, ratio: float = 0.5, rank: int = 64, pooled_weight: float = 1.0) -> None:
        super().__init__(ratio, rank, pooled_weight)

    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
        """Choose connections."""
        return HideConnections(self.ratio).draw(batch, generator)


class PooledDecoder(nn.Module):
    """Ends of connections from the pooled vector and the regions' places.

    Args:
        pooled_width: Width of the pooled vector.
        rank: Inner width.
        spacing_mm: Spacing of the spatial neighbourhoods that tell a place.
    """

    def __init__(self, pooled_width: int, rank: int, spacing_mm: float = 30.0) -> None:
        super().__init__()
        self.basis = SpatialBasis(spacing_mm)
        self.place = nn.Linear(len(self.basis), 2 * rank)
        self.subject = nn.Sequential(nn.LayerNorm(pooled_width), nn.Linear(pooled_width, rank * rank))
        self.rank = rank

    def forward(self, embedding: Embedding, batch: ConnectomeBatch) -> Float[Tensor, "B R two_rank"]:
        """Two vectors a region; the first is mixed by a matrix that belongs to the subject."""
        left, right = self.place(self.basis(batch.centroids)).chunk(2, dim=-1)  # [B, R, rank]
        mixing = self.subject(embedding.pooled).unflatten(-1, (self.rank, self.rank))  # [B, rank, rank]
        return torch.cat([torch.matmul(left, mixing) / self.rank**0.5, right], dim=-1)


def connections(ends: Float[Tensor, "B R two_rank"]) -> Float[Tensor, "B R R"]:
    """Symmetric predicted connections from two vectors a region, the mean of both directions."""
    left, right = ends.chunk(2, dim=-1)
    product = torch.matmul(left, right.transpose(1, 2)) / left.shape[-1] ** 0.5
    return (product + product.transpose(1, 2)) / 2


def masked_error(predicted: Float[Tensor, "B R R"], true: Float[Tensor, "B R R"], hidden: Bool[Tensor, "B R R"]) -> Float[Tensor, ""]:
    """Mean squared error over hidden entries; zero where nothing is hidden."""
    squared = (predicted - true).square().masked_fill(~hidden, 0.0)
    return squared.sum() / hidden.sum().clamp(min=1)
