"""A network over all columns of a table at once."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.table import TableBatch
from graphssl.encoders.base import Embedding
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.mlp import residual_block
from graphssl.encoders.table_encoder import AbstractTableEncoder


class TableMLP(AbstractTableEncoder):
    """Narrow column tokens side by side, then residual feed-forward blocks on the patient: MLP, embedded numbers (Gorishniy et al., NeurIPS 2022).

    Its cost grows with the number of columns, where that of attention grows with its square and every column passes through every block.
    The token of a column is its value plus what the patient says of it: the patient's vector read back through the weights by which the column
    went in, transposed, as in a tied autoencoder. So objectives that predict a hidden column from its token have the other columns to go by.

    Args:
        width: Width of the blocks, and of the pooled vector.
        depth: Number of blocks.
        column_width: Width of the tokens.
        dropout: Dropout of what a block adds.
        numbers: Names of the continuous columns, in the order of the batch.
        categories: Categories of the other columns by name, in the order of the batch.
        n_pieces: Pieces of each number.
    """

    rows = MappingProxyType({"into": "column"})

    def __init__(
        self,
        width: int = 128,
        depth: int = 2,
        column_width: int = 8,
        dropout: float = 0.1,
        numbers: Sequence[str] = (),
        categories: Mapping[str, Sequence[str]] | None = None,
        n_pieces: int = 16,
    ) -> None:
        super().__init__()
        self.width, self.depth, self.column_width, self.dropout = width, depth, column_width, dropout
        self.set_columns(numbers, categories, n_pieces)
        self.columns = ColumnTokens(len(self.numbers), n_pieces, [len(known) for known in self.categories.values()], column_width)
        n_columns = len(self.numbers) + len(self.categories)
        # A block of weights a column, so that columns can come and go.
        self.into = nn.Parameter(torch.randn(n_columns, column_width, width) / max(1, n_columns * column_width) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(residual_block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.token_width, self.pooled_width = column_width, width

    def forward(self, batch: TableBatch) -> Embedding:
        """Embed a batch of patients; a token a column.

        Raises:
            ConfigError: If the batch has other columns.
        """
        self.check_columns(batch)
        columns = self.columns(batch)  # [B, C, W]
        patient = torch.einsum("bcw,cwd->bd", F.gelu(columns), self.into) + self.bias  # [B, D]
        for block in self.blocks:
            patient = patient + block(patient)
        patient = self.norm(patient)
        tokens = columns + torch.einsum("bd,cwd->bcw", patient, self.into)
        return Embedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), patient)
