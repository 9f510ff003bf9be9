"""Records made of event streams: tensors of what happened when, and beside them the columns that do not change."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Self

from torch import Tensor

from graphssl.data.records import AbstractRecords
from graphssl.data.table import TableBatch


class AbstractStreamRecords(AbstractRecords):
    """Records whose patients have static columns beside tensors of their own.

    Attributes:
        static: Columns that do not change, one row a patient.
    """

    static: TableBatch

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Patient of each row `[B]`."""
        return self.static.subject_ids

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, those of the static columns behind `static.`."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "static"}  # type: ignore[arg-type]
        return {**{f"static.{name}": tensor for name, tensor in self.static.tensors().items()}, **own}

    @classmethod
    def of_tensors(cls, subject_ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `tensors`; nothing is hidden where no `hidden` is given."""
        static = {name.removeprefix("static."): tensor for name, tensor in tensors.items() if name.startswith("static.")}
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith("static.")}
        return cls(static=TableBatch.of_tensors(subject_ids, static), **own)  # type: ignore[call-arg]  # subclasses are dataclasses
