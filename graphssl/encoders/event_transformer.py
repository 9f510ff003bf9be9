"""A transformer over single events."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.builder import AbstractBuilder
from graphssl.data.event_tokens import EventBatch, EventTokenizer
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.patient_blocks import PatientBlocks
from graphssl.encoders.record_encoder import AbstractRecordEncoder
from graphssl.errors import ConfigError


class EventTransformer(AbstractRecordEncoder):
    """Every event of a patient attends to every other and to the static columns; a token of its own gathers the patient.

    An event is the sum of a vector of its code, one of its number and one of its time, both made by a small network of one hidden layer, as in STraTS
    (Tipirneni & Reddy, TKDD 2022); no number and a hidden one have vectors of their own. Attention costs the square of the number of events.

    Args:
        width: Width of the tokens, and of the pooled vector.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        numbers: Names of the continuous static columns, in the order of the batch.
        categories: Categories of the other static columns by name, in the order of the batch.
        n_pieces: Pieces of each static number.
        codes: Codes of the events, in the order of the batch.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    rows = MappingProxyType({"code.weight": "code"})

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
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.set_columns(numbers, categories, n_pieces)
        self.codes = tuple(codes)
        self.code = nn.Embedding(max(1, len(self.codes)), width)
        self.value, self.time = ScalarEmbedding(width), ScalarEmbedding(width)
        self.no_value, self.masked = (nn.Parameter(0.1 * torch.randn(width)) for _ in range(2))
        self.static = ColumnTokens(len(self.numbers), n_pieces, [len(known) for known in self.categories.values()], width)
        self.blocks = PatientBlocks(width, depth, heads, dropout)
        self.token_width = self.pooled_width = width

    def default_builder(self) -> AbstractBuilder:
        """An `EventTokenizer`."""
        return EventTokenizer()

    def forward(self, batch: EventBatch) -> Embedding:
        """Embed a batch of patients; a token an event, then one a static column.

        Raises:
            ConfigError: If the batch has other codes or columns.
        """
        self._check(batch)
        absent = torch.where(batch.hidden.unsqueeze(-1), self.masked, self.no_value)
        values = torch.where(batch.visible.unsqueeze(-1), self.value(batch.values), absent)
        events = self.code(batch.codes) + values + self.time(batch.hours.log1p())
        static = self.static(batch.static)
        present = torch.cat([batch.present, batch.present.new_ones(static.shape[:2])], dim=1)
        embedding: Embedding = self.blocks(torch.cat([events, static], dim=1), present)
        return embedding

    def rows_of(self) -> dict[str, list[tuple[str, ...]]]:
        """What the rows of weights belong to; one of `code` to a code."""
        return {**super().rows_of(), "code": [(code,) for code in self.codes]}

    def _check(self, batch: EventBatch) -> None:
        highest = int(batch.codes.max()) if batch.codes.numel() else 0
        if highest >= max(1, len(self.codes)):
            raise ConfigError(
                f"Expected events of {len(self.codes)} codes, found one of code {highest}. Make the encoder with for_builder(tokenizer)."
            )
        self.check_columns(batch.static)


class ScalarEmbedding(nn.Module):
    """A vector of a number, by one hidden layer of `√width` units (the continuous value embedding of STraTS).

    Args:
        width: Width of the vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(2, round(width**0.5))
        self.layers = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, width, bias=False))

    def forward(self, values: Float[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        """Vectors of numbers."""
        return torch.as_tensor(self.layers(values.unsqueeze(-1)))
