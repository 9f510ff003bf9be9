"""Tokens of a table: one a column, with a state of its own for what was not measured and for what is hidden."""

from collections.abc import Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.table import TableBatch


class ColumnTokens(nn.Module):
    """Tokens `[B, N + K, D]`: a linear map of the pieces of each number, a vector for each category, and a vector that tells the column.

    Every column has a vector for "not measured" and one for "hidden", so that the absence of a test is a finding and not a zero. Otherwise
    it is the tokenizer of FT-Transformer (Gorishniy et al., NeurIPS 2021) with the piecewise-linear numbers of their NeurIPS 2022 paper.

    Args:
        n_numbers: Number of continuous columns `N`.
        n_pieces: Pieces of each number.
        n_categories: Number of categories of each other column `[K]`; one more is kept for categories that training patients had not.
        width: Width `D` of the tokens.
    """

    offsets: Tensor
    rows = MappingProxyType({"pieces": "number", "category.weight": "category", "column": "column", "missing": "column", "masked": "column"})

    def __init__(self, n_numbers: int, n_pieces: int, n_categories: Sequence[int], width: int) -> None:
        super().__init__()
        n_columns = n_numbers + len(n_categories)
        sizes = torch.tensor([n + 1 for n in n_categories], dtype=torch.long)
        self.pieces = nn.Parameter(torch.randn(n_numbers, n_pieces, width) / max(1, n_pieces) ** 0.5)
        self.category = nn.Embedding(int(sizes.sum()), width)
        self.column = nn.Parameter(0.1 * torch.randn(n_columns, width))
        self.missing = nn.Parameter(0.1 * torch.randn(n_columns, width))
        self.masked = nn.Parameter(0.1 * torch.randn(n_columns, width))
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)

    def forward(self, batch: TableBatch) -> Float[Tensor, "B C D"]:
        """Tokens of a batch."""
        numbers = torch.einsum("bnq,nqd->bnd", batch.pieces, self.pieces)
        values = torch.cat([numbers, self.category(batch.codes + self.offsets)], dim=1)
        absent = torch.where(batch.hidden.unsqueeze(-1), self.masked, self.missing)
        return torch.where(batch.visible.unsqueeze(-1), values, absent) + self.column
