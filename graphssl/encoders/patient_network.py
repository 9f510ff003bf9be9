"""A patient alone, by columns: the smallest network that others can learn from."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.table import TableBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.patient_blocks import attend_with_patient
from graphssl.encoders.table_encoder import AbstractTableEncoder


class PatientNetwork(AbstractTableEncoder):
    """Columns of each patient alone as tokens and as one vector; what encoders of populations have for a patient where they are given nothing else.

    Without blocks a patient is the mean of its columns' tokens, each through a non-linearity; with them a token of its own gathers the columns, as in
    `TableTransformer` (Gorishniy et al., NeurIPS 2021).

    Args:
        width: Width of tokens and vector.
        depth: Number of blocks over the columns.
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
        depth: int = 0,
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
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        if depth:
            self.patient = nn.Parameter(0.1 * torch.randn(width))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.token_width = self.pooled_width = width

    def forward(self, batch: TableBatch) -> Embedding:
        """Embed a batch of patients; a token a column.

        Raises:
            ConfigError: If the batch has other columns.
        """
        self.check_columns(batch)
        tokens = self.columns(batch)
        present = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if not self.blocks:
            return Embedding(tokens, present, self.out(self.norm(F.gelu(tokens).mean(dim=1))))
        tokens = attend_with_patient(self.patient, self.blocks, tokens)
        return Embedding(tokens[:, 1:], present, self.out(self.norm(tokens[:, 0])))
