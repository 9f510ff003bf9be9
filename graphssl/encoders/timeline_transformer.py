"""A transformer over bins of time."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.timeline import TimelineBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.patient_blocks import PatientBlocks
from graphssl.encoders.timeline_encoder import AbstractTimelineEncoder


class TimelineTransformer(AbstractTimelineEncoder):
    """Every bin of a patient attends to every other and to the static columns; a token of its own gathers the patient.

    A bin's token is a linear map of its values, of which were measured, of the treatments given, and of what is hidden. Bins before the patient's
    first event are not attended to. The model is the patient encoder of Pellegrini, Navab & Kazi (Medical Image Analysis 2023), which has one
    transformer for values and one for treatments and takes means over time; here a missing value is a state of its own and no interpolated number.

    Args:
        width: Width of the tokens, and of the pooled vector.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        numbers: Names of the continuous static columns, in the order of the batch.
        categories: Categories of the other static columns by name, in the order of the batch.
        n_pieces: Pieces of each static number.
        codes: Codes of the values, in the order of the batch.
        treatments: Codes of the treatments, in the order of the batch.
        n_bins: Number of bins.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    rows = MappingProxyType({"bins": "bin"})

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        numbers: Sequence[str] = (),
        categories: Mapping[str, Sequence[str]] | None = None,
        n_pieces: int = 16,
        codes: Sequence[str] = (),
        treatments: Sequence[str] = (),
        n_bins: int = 48,
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.set_columns(numbers, categories, n_pieces)
        self.set_bins(codes, treatments, n_bins)
        n_features = 3 * len(self.codes) + 2 * len(self.treatments)
        self.bins = nn.Parameter(torch.randn(n_features, width) / max(1, n_features) ** 0.5)
        self.time = nn.Parameter(0.1 * torch.randn(n_bins, width))
        self.static = ColumnTokens(len(self.numbers), n_pieces, [len(known) for known in self.categories.values()], width)
        self.blocks = PatientBlocks(width, depth, heads, dropout)
        self.token_width = self.pooled_width = width

    def forward(self, batch: TimelineBatch) -> Embedding:
        """Embed a batch of patients; a token a bin, then one a static column.

        Raises:
            ConfigError: If the batch has other bins, codes or columns.
        """
        self.check_bins(batch)
        bins, static = _readable(batch) @ self.bins + self.time, self.static(batch.static)
        present = torch.cat([batch.present, batch.present.new_ones(static.shape[:2])], dim=1)
        embedding: Embedding = self.blocks(torch.cat([bins, static], dim=1), present)
        return embedding


def _readable(batch: TimelineBatch) -> Float[Tensor, "B T F"]:
    """Values, which of them can be read, treatments, and what is hidden, side by side."""
    n_values = batch.values.shape[2]
    hidden_values, hidden_treatments = batch.hidden[..., :n_values], batch.hidden[..., n_values:]
    visible = batch.measured & ~hidden_values
    given = batch.given & ~hidden_treatments
    return torch.cat([batch.values * visible, visible, given, batch.hidden], dim=2)
