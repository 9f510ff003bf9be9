"""A transformer over the columns of a table."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graphssl.data.table import TableBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.patient_blocks import attend_with_patient
from graphssl.encoders.table_encoder import AbstractTableEncoder


class TableTransformer(AbstractTableEncoder):
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
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.set_columns(numbers, categories, n_pieces)
        self.columns = ColumnTokens(len(self.numbers), n_pieces, [len(known) for known in self.categories.values()], width)
        self.patient = nn.Parameter(0.1 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.token_width = self.pooled_width = width

    def forward(self, batch: TableBatch) -> Embedding:
        """Embed a batch of patients; a token a column.

        Raises:
            ConfigError: If the batch has other columns.
        """
        self.check_columns(batch)
        tokens = self.norm(attend_with_patient(self.patient, self.blocks, self.columns(batch)))
        present: Tensor = torch.ones(tokens.shape[0], tokens.shape[1] - 1, dtype=torch.bool, device=tokens.device)
        return Embedding(tokens[:, 1:], present, tokens[:, 0])
