"""Tokens of a table: one a column, with a state of its own for what was not measured and for what is hidden."""

from collections.abc import Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        return torch.cat([self._numbers(batch), self._categories(batch)], dim=1)

    def _numbers(self, batch: TableBatch) -> Float[Tensor, "B N D"]:
        """One product: of the pieces where they can be read, and of marks of what is missing, of what is hidden, and of the column."""
        n = len(self.pieces)
        visible, hidden = batch.visible[:, :n, None], batch.hidden[:, :n, None]
        marks = torch.cat([batch.pieces * visible, ~visible & ~hidden, hidden, torch.ones_like(hidden)], dim=2)
        vectors = [self.missing, self.masked, self.column]
        weights = torch.cat([self.pieces, *(vector[:n].unsqueeze(1) for vector in vectors)], dim=1)
        return torch.einsum("bnq,nqd->bnd", marks, weights)

    def _categories(self, batch: TableBatch) -> Float[Tensor, "B K D"]:
        """One look-up, in the vectors of all categories, and behind them those of what is missing and of what is hidden in each column."""
        n, k = len(self.pieces), len(self.offsets)
        column = torch.arange(k, device=batch.device)
        rows = torch.where(batch.visible[:, n:], batch.codes + self.offsets, len(self.category.weight) + column + k * batch.hidden[:, n:])
        of_code = torch.bucketize(torch.arange(len(self.category.weight), device=batch.device), self.offsets, right=True) - 1
        own = self.column[n:]
        vectors = torch.cat([self.category.weight + own[of_code], self.missing[n:] + own, self.masked[n:] + own])
        return F.embedding(rows, vectors)
