"""A transformer over the columns of a table."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graphssl.data.builder import AbstractBuilder
from graphssl.data.table import ColumnTokenizer, TableBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, check_heads
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.graph_transformer import Block
from graphssl.errors import ConfigError


class TableTransformer(AbstractEncoder):
    """Every column of a patient attends to every other; a token of its own gathers the patient (FT-Transformer, Gorishniy et al., NeurIPS 2021).

    What it embeds is fixed by its columns: `for_builder` gives one for those that a tokenizer was fitted on.

    Args:
        width: Width of the tokens, and of the pooled vector.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        numbers: Names of the continuous columns, in the order of the batch.
        categories: Categories of the other columns by name, in the order of the batch.
        n_pieces: Pieces of each number.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        dropout: float = 0.1,
        numbers: Sequence[str] = (),
        categories: Mapping[str, Sequence[str]] | None = None,
        n_pieces: int = 16,
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.width, self.depth, self.heads, self.dropout, self.n_pieces = width, depth, heads, dropout, n_pieces
        self.numbers = tuple(numbers)
        self.categories = {name: tuple(known) for name, known in (categories or {}).items()}
        self.columns = ColumnTokens(len(self.numbers), n_pieces, [len(known) for known in self.categories.values()], width)
        self.patient = nn.Parameter(0.1 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.token_width = self.pooled_width = width

    def for_builder(self, builder: AbstractBuilder) -> "TableTransformer":
        """One of the same size for the columns of a fitted tokenizer, with new random weights.

        Raises:
            ConfigError: If the builder makes no tables.
        """
        if not isinstance(builder, ColumnTokenizer):
            raise ConfigError(
                f"Expected a ColumnTokenizer before a TableTransformer, found {type(builder).__name__}. Give builder=ColumnTokenizer()."
            )
        found = {"numbers": builder.numbers_, "categories": builder.categories_, "n_pieces": builder.n_pieces}
        return type(self)(**{**self.arguments(), **found})

    def forward(self, batch: TableBatch) -> Embedding:
        """Embed a batch of patients; a token a column.

        Raises:
            ConfigError: If the batch has other columns.
        """
        shape = (batch.numbers.shape[1], batch.pieces.shape[2] if batch.numbers.shape[1] else self.n_pieces, batch.codes.shape[1])
        expected = (len(self.numbers), self.n_pieces, len(self.categories))
        if shape != expected:
            raise ConfigError(
                f"Expected {expected[0]} numbers of {expected[1]} pieces and {expected[2]} categories, "
                f"found {shape[0]} of {shape[1]} and {shape[2]}. Make the encoder with for_builder(tokenizer)."
            )
        tokens = torch.cat([self.patient.expand(len(batch), 1, -1), self.columns(batch)], dim=1)
        everywhere = tokens.new_zeros(1, 1, 1, tokens.shape[1])  # a mask that hides nothing
        for block in self.blocks:
            tokens = block(tokens, everywhere)
        tokens = self.norm(tokens)
        present: Tensor = torch.ones(tokens.shape[0], tokens.shape[1] - 1, dtype=torch.bool, device=tokens.device)
        return Embedding(tokens[:, 1:], present, tokens[:, 0])
