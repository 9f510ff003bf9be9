"""What training asks of a batch, whatever its rows are."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Batch(Protocol):
    """Rows of subjects in memory: connectomes (`ConnectomeBatch`), patients by columns (`TableBatch`), bins of time (`TimelineBatch`) or events.

    Those of patients have more in common: `AbstractRecords`.
    """

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Subject of each row `[B]`."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Sequence[int] | Any) -> "Batch": ...

    def to(self, device: torch.device | str) -> Self:
        """The batch on another device."""

    def signature(self) -> bytes:
        """What tells these rows from others, for the fingerprint of a run."""


def row_numbers(rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"], device: torch.device) -> Int[Tensor, "b"]:
    """Numbers of rows that are given by number or by a mask of booleans."""
    chosen = torch.as_tensor(rows, device=device)
    return chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen.long()
