"""What a frozen encoder made of some rows, in place of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.data.records import AbstractRecords
from graphssl.errors import DataError


@dataclass(frozen=True, eq=False)
class EmbeddedBatch(AbstractRecords):
    """Rows that an encoder has embedded already, so that they are not read again: images are decoded once and not in every epoch.

    Args:
        subject_ids: Subject of each row `[B]`.
        tokens: Tokens `[B, N, D]`.
        mask: Which tokens are real `[B, N]`.
        pooled: Pooled vectors `[B, P]`.
        hidden: Which rows must not be read `[B, 1]`; none when left out.

    Raises:
        DataError: If the shapes do not fit one another.
    """

    subject_ids: tuple[str, ...]
    tokens: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"]
    pooled: Float[Tensor, "B P"]
    hidden: Bool[Tensor, "B 1"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))

    def __post_init__(self) -> None:
        n = len(self.subject_ids)
        if self.hidden.numel() == 0:  # none was given
            object.__setattr__(self, "hidden", torch.zeros(n, 1, dtype=torch.bool, device=self.mask.device))
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        if self.tokens.ndim != 3 or self.mask.shape != self.tokens.shape[:2] or {len(tensor) for tensor in self.tensors().values()} - {n}:
            raise DataError(f"Expected tokens [B, N, D], their mask and pooled vectors of {n} rows, found {shapes}.")

    def __repr__(self) -> str:
        return f"EmbeddedBatch({len(self)} rows, {self.tokens.shape[1]} tokens of width {self.tokens.shape[2]}, pooled {self.pooled.shape[1]})"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {"tokens": self.tokens, "mask": self.mask, "pooled": self.pooled, "hidden": self.hidden}

    @classmethod
    def of_tensors(cls, subject_ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> "EmbeddedBatch":
        """The inverse of `tensors`; nothing is hidden where no `hidden` is given."""
        return cls(subject_ids, **tensors)

    def hide(self, hidden: Bool[Tensor, "B 1"]) -> "EmbeddedBatch":
        """The rows with some made unreadable: no token, a pooled vector of zeros."""
        hidden = self.hidden | hidden
        return replace(self, hidden=hidden, mask=self.mask & ~hidden, pooled=self.pooled.masked_fill(hidden, 0.0))

    def signature(self) -> bytes:
        """What tells these rows from others."""
        return "\n".join(self.subject_ids).encode() + self.pooled.double().sum(dim=1).cpu().numpy().tobytes()
