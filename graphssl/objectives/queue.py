"""What an objective remembers of earlier minibatches: the newest rows, first in, first out."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """The newest rows of one or more tensors, saved with the objective that owns it.

    Rows are noted while a loss is computed and taken in after the step of the optimiser, so that the same step gives the same loss.

    Args:
        size: Rows that are remembered.
        empty: What stands in each tensor before there is anything to remember `[size, …]`, by name.
    """

    seen: Tensor

    def __init__(self, size: int, **empty: Tensor) -> None:
        super().__init__()
        self.size, self.names = size, tuple(empty)
        for name, value in empty.items():
            self.register_buffer(name, value)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self._noted: list[tuple[Tensor, ...]] = []

    def __getitem__(self, name: str) -> Tensor:
        """One of the tensors, the newest rows last."""
        return self.get_buffer(name)

    @property
    def full(self) -> bool:
        """Whether every row was noted by somebody."""
        return int(self.seen) >= self.size

    def note(self, **rows: Tensor) -> None:
        """Keep rows, by name of the tensor, for the end of the step."""
        self._noted.append(tuple(rows[name].detach() for name in self.names))

    def take(self) -> None:
        """Remember what was noted, and forget the oldest rows."""
        if not self._noted:
            return
        for name, rows in zip(self.names, zip(*self._noted, strict=True), strict=True):
            kept = self.get_buffer(name)
            kept.copy_(torch.cat([kept, *(row.to(kept.dtype) for row in rows)])[-self.size :])
        self.seen += sum(len(rows[0]) for rows in self._noted)
        self._noted = []
