"""Records of patients in memory, whatever a row holds: what a population asks of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from graphssl.data.batch import row_numbers
from graphssl.errors import DataError


class AbstractRecords(ABC):
    """Records of patients as named tensors, each with a row a patient; some entries may be hidden.

    Subclasses are frozen dataclasses that check their shapes when made: patients by columns (`TableBatch`), by bins of time (`TimelineBatch`) or by
    events (`EventBatch`). Taking rows, moving, joining, comparing and saving are the same for all.

    Attributes:
        subject_ids: Patient of each row `[B]`.
        hidden: Which entries must not be read `[B, …]`.
    """

    hidden: Bool[Tensor, "B ..."]
    if TYPE_CHECKING:  # a dataclass would take a property of its base for the default of a field

        @property
        def subject_ids(self) -> tuple[str, ...]:
            """Patient of each row `[B]`."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""

    @classmethod
    @abstractmethod
    def of_tensors(cls, subject_ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `tensors`; nothing is hidden where no `hidden` is given."""

    @abstractmethod
    def hide(self, hidden: Bool[Tensor, "B ..."]) -> Self:
        """The records with some of what is known made unreadable too."""

    @abstractmethod
    def signature(self) -> bytes:
        """What tells these rows from others."""

    def __len__(self) -> int:
        return len(self.subject_ids)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.hidden.device

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> Self:
        """The given rows, by number or by a mask of booleans."""
        index = row_numbers(rows, self.device)
        ids = tuple(self.subject_ids[i] for i in index.tolist())
        return self.of_tensors(ids, {name: tensor[index] for name, tensor in self.tensors().items()})

    def to(self, device: torch.device | str) -> Self:
        """The records on another device."""
        return self.of_tensors(self.subject_ids, {name: tensor.to(device) for name, tensor in self.tensors().items()})

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """Records of the same columns below one another.

        Raises:
            DataError: If there are none, or their columns differ.
        """
        if not batches:
            raise DataError("Expected at least one batch of patients, found none.")
        parts = [batch.tensors() for batch in batches]
        for name, tensor in parts[0].items():
            other = next((part[name] for part in parts if part[name].shape[1:] != tensor.shape[1:]), None)
            if other is not None:
                shapes = f"{tuple(tensor.shape[1:])} and {tuple(other.shape[1:])}"
                raise DataError(f"Expected batches of the same columns, found {name} of the shapes {shapes} a patient. Use one tokenizer.")
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return cls.of_tensors(tuple(subject for batch in batches for subject in batch.subject_ids), joined)

    def same_rows(self, other: Self) -> Bool[Tensor, "B"]:
        """Which rows hold the same as those of other records of the same columns."""
        pairs = zip(self.tensors().values(), other.tensors().values(), strict=True)
        return torch.stack([(mine == theirs).flatten(start_dim=1).all(dim=1) for mine, theirs in pairs]).all(dim=0)

    def hide_in(self, rows: Int[Tensor, "b"], hidden: Bool[Tensor, "b ..."]) -> Self:
        """The records with more of some rows made unreadable.

        Args:
            rows: The rows, each at most once.
            hidden: What is hidden of them.
        """
        everything = self.hidden.clone()
        everything[rows] |= hidden
        return replace(self, hidden=everything)  # type: ignore[type-var]  # subclasses are dataclasses
