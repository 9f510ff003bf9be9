"""Random looks at a table: values of other patients in place of a patient's own."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from graphssl.data.table import TableBatch
from graphssl.errors import DataError
from graphssl.views.base import AbstractView
from graphssl.views.graph import check_ratio


@dataclass(frozen=True)
class CorruptColumns(AbstractView):
    """Give a random share of the columns of each patient what other patients of the batch have there (SCARF, Bahri et al., ICLR 2022).

    Each column is taken from a patient of its own, so what comes in has the distribution of the column and nothing of how columns go together. That a
    value was not measured is taken over too: left as it is, it would tell by itself whose row this was.

    Args:
        ratio: Share of the columns, in (0, 1); the same number of every patient, one at least.

    Raises:
        ConfigError: If the ratio is out of range.
    """

    ratio: float = 0.6

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    def draw(self, batch: TableBatch, generator: torch.Generator) -> Int[Tensor, "B C"]:
        """The row that each value is taken from; its own where it stays.

        Raises:
            DataError: If the batch is no plain table, or there is no other patient.
        """
        if not isinstance(batch, TableBatch):
            raise DataError(
                f"Expected a TableBatch to corrupt, found a {type(batch).__name__}. Use an encoder in which patients do not see each other, "
                "for a population holds every row as it is."
            )
        n, n_columns = batch.measured.shape
        if n < 2:
            raise DataError(f"Expected at least two patients to take values from one another, found {n}. Raise the batch size.")
        own = torch.arange(n).unsqueeze(1)
        other = (own + torch.randint(1, n, (n, n_columns), generator=generator)) % n
        rank = torch.rand(n, n_columns, generator=generator).argsort(dim=1).argsort(dim=1)
        return torch.where(rank < max(1, round(self.ratio * n_columns)), other, own).to(batch.device)

    def apply(self, batch: TableBatch, draw: Int[Tensor, "B C"]) -> TableBatch:
        """The batch with these values."""
        number, category = draw[:, : batch.numbers.shape[1]], draw[:, batch.numbers.shape[1] :]
        return replace(
            batch,
            numbers=batch.numbers.gather(0, number),
            pieces=batch.pieces.gather(0, number.unsqueeze(-1).expand_as(batch.pieces)),
            codes=batch.codes.gather(0, category),
            measured=batch.measured.gather(0, draw),
            hidden=batch.hidden.gather(0, draw),
        )
