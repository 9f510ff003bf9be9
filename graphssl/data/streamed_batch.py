"""A batch of a streamed cohort: rows are made when they are asked for, and those of the last few shards are kept."""

import hashlib
import json
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from graphssl.data.batch import Batch, row_numbers
from graphssl.data.builder import AbstractBuilder
from graphssl.data.streamed_cohort import StreamedCohort


class Window:
    """What was made of shards and is in memory: of the last few that were used, for all batches that share it.

    Args:
        n_shards: Shards, at most.
    """

    def __init__(self, n_shards: int) -> None:
        self.n_shards = n_shards
        self._held: OrderedDict[tuple[object, int], Any] = OrderedDict()

    def __contains__(self, key: tuple[object, int]) -> bool:
        return key in self._held

    def get(self, key: tuple[object, int], make: Callable[[], Any]) -> Any:
        """What is held of a shard; what is new is made after the one that was not used for longest has gone.

        Args:
            key: What stands for the batch, and the number of the shard.
            make: Makes it.
        """
        if key not in self._held:
            while len(self._held) >= self.n_shards:
                self._held.popitem(last=False)
            self._held[key] = make()
        self._held.move_to_end(key)
        return self._held[key]


class StreamedBatch:
    """Subjects of a streamed cohort as a batch, a row a subject, of which a builder makes its rows once they are taken.

    `batch[rows]` is what the builder makes of these subjects, the rows of a subject beside one another.

    Args:
        cohort: The subjects.
        builder: What makes rows of them, fitted.
        window: Where shards are kept, shared with other batches of the cohort; one of its own when left out.
        options: More arguments of the builder's `transform`.
    """

    def __init__(self, cohort: StreamedCohort, builder: AbstractBuilder, window: Window | None = None, **options: Any) -> None:
        self.cohort, self.builder, self.options = cohort, builder, options
        self.window = window or Window(cohort.window)
        self.device = torch.device("cpu")
        self.subject_ids = tuple(cohort.ids)
        self.most_rows = builder.most_rows(cohort.known)
        self._key = object()  # tells its shards from those of other batches in the window

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __repr__(self) -> str:
        return f"StreamedBatch({self.cohort!r} by {type(self.builder).__name__})"

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "n"]) -> Batch:
        """What the builder makes of some subjects."""
        asked = row_numbers(rows, torch.device("cpu")).tolist()
        by_shard: defaultdict[int, list[int]] = defaultdict(list)
        for place, row in enumerate(asked):
            by_shard[int(self.cohort.shards[row])].append(place)
        parts: list[Any] = []
        owners: list[int] = []
        # Those in memory first: to read another lets one go.
        for shard in sorted(by_shard, key=lambda shard: (self._key, shard) not in self.window):
            part, owner = self._taken(shard, {place: self.subject_ids[asked[place]] for place in by_shard[shard]})
            parts.append(part)
            owners += owner
        whole = parts[0] if len(parts) == 1 else type(parts[0]).cat(parts)
        if owners != sorted(owners):
            whole = whole[np.argsort(owners, kind="stable").tolist()]
        return whole if self.device.type == "cpu" else whole.to(self.device)

    def to(self, device: torch.device | str) -> "StreamedBatch":
        """The batch whose rows come out on another device."""
        moved = StreamedBatch(self.cohort, self.builder, self.window, **self.options)
        moved.device = torch.device(device)
        return moved

    def signature(self) -> bytes:
        """What tells these rows from others: the contents of the shards, the subjects, and what the builder learned."""
        record, tensors = self.builder.state()
        told = [self.cohort.hash, self.subject_ids, self.cohort.window, record, self.options]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.digest()

    def _taken(self, shard: int, subjects: Mapping[int, str]) -> tuple[Any, list[int]]:
        """Rows of some subjects of a shard, and the place of the subject of each."""
        batch, rows_of = self.window.get((self._key, shard), partial(self._made, shard))
        taken = [(place, row) for place, subject in subjects.items() for row in rows_of[subject]]
        return batch[[row for _, row in taken]], [place for place, _ in taken]

    def _made(self, shard: int) -> tuple[Any, dict[str, list[int]]]:
        """The rows of a shard, and which are whose."""
        batch = self.builder.transform(self.cohort.part(shard), **self.options)
        rows_of: defaultdict[str, list[int]] = defaultdict(list)
        for row, subject in enumerate(batch.subject_ids):
            rows_of[subject].append(row)
        return batch, rows_of
