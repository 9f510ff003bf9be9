"""A patient alone: tokens of the columns, and one vector."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.table import TableBatch
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.patient_blocks import attend_with_patient


class PatientNetwork(nn.Module):
    """Columns of each patient alone as tokens and as one vector, which is what patients then learn of one another.

    Without blocks a patient is the mean of its columns' tokens, each through a non-linearity; with them a token of its own gathers the columns, as in
    `TableTransformer`.

    Args:
        n_numbers: Number of continuous columns `N`.
        n_pieces: Pieces of each number.
        n_categories: Number of categories of each other column `[K]`.
        width: Width `D` of tokens and vector.
        depth: Number of blocks over the columns.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
    """

    def __init__(self, n_numbers: int, n_pieces: int, n_categories: list[int], width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.columns = ColumnTokens(n_numbers, n_pieces, n_categories, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        if depth:
            self.patient = nn.Parameter(0.1 * torch.randn(width))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, patients: TableBatch) -> tuple[Float[Tensor, "B C D"], Float[Tensor, "B D"]]:
        """Tokens and vector of each patient."""
        tokens = self.columns(patients)
        if not self.blocks:
            return tokens, self.out(self.norm(F.gelu(tokens).mean(dim=1)))
        tokens = attend_with_patient(self.patient, self.blocks, tokens)
        return tokens[:, 1:], self.out(self.norm(tokens[:, 0]))
