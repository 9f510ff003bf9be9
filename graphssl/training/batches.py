"""Minibatches of a batch: subjects drawn anew each epoch, the same for the same seed and epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from graphssl.data.batch import Batch
from graphssl.data.mixed_images import MixedImages
from graphssl.data.streamed_batch import StreamedBatch
from graphssl.training.minibatch_order import cut, epoch_generator, n_minibatches
from graphssl.training.streamed_minibatches import StreamedMinibatches


class Minibatches(Sampler[list[int]]):
    """Lists of rows. The order depends on seed and epoch only, so that a resumed run sees what an unbroken one would have seen.

    Rows of a subject (its atlases) stand in one minibatch, so that objectives can compare them; what is drawn are subjects. Each minibatch takes
    as many subjects as fit if all had as many rows as the one with the most, so that every epoch has the same number of steps. Where rows are of
    several kinds, such as images and volumes, a minibatch holds one kind, and a subject's rows of each stand together.

    Args:
        subject_ids: Subject of each row.
        size: Rows a minibatch; the last may have fewer, but a single left-over subject joins the ones before. A subject with more rows stays whole.
        seed: Seed of the order.
        shuffle: False keeps the order of the subjects.
        kinds: Kind of each row; all of one when left out.
        in_turn: Whether all minibatches of a kind come before those of the next, the kinds in their order; shuffled with them when not.
    """

    def __init__(
        self,
        subject_ids: Sequence[str],
        size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        kinds: Sequence[str] | None = None,
        in_turn: bool = False,
    ) -> None:
        of_kind: dict[str, dict[str, list[int]]] = {}
        for row, (subject, kind) in enumerate(zip(subject_ids, kinds or [""] * len(subject_ids), strict=True)):
            of_kind.setdefault(kind, {}).setdefault(subject, []).append(row)
        self.rows = [list(rows.values()) for rows in of_kind.values()] or [[]]
        self.n_subjects = [max(1, size // max(map(len, rows), default=1)) for rows in self.rows]
        self.seed, self.shuffle, self.in_turn = seed, shuffle, in_turn
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(n_minibatches(len(rows), n) for rows, n in zip(self.rows, self.n_subjects, strict=True))

    def __iter__(self) -> Iterator[list[int]]:
        # The order is made when the first minibatch is asked for: a resumed run makes its iterator before it says which epoch comes.
        generator = epoch_generator(self.seed, self.epoch)
        chunks = [chunk for rows, n in zip(self.rows, self.n_subjects, strict=True) for chunk in self._chunks(rows, n, generator)]
        if len(self.rows) > 1 and self.shuffle and not self.in_turn:
            chunks = [chunks[k] for k in torch.randperm(len(chunks), generator=generator).tolist()]
        yield from chunks

    def _chunks(self, rows: list[list[int]], n_subjects: int, generator: torch.Generator) -> list[list[int]]:
        """Minibatches of one kind."""
        order = torch.randperm(len(rows), generator=generator) if self.shuffle else torch.arange(len(rows))
        return [[row for subject in chunk.tolist() for row in rows[subject]] for chunk in cut(order, n_subjects)]


class _Rows(Dataset[Batch]):
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        return self.batch[rows]


def loader(batch: Batch, size: int, *, seed: int = 0, shuffle: bool = True) -> "DataLoader[Batch]":
    """A loader of minibatches of a batch that is in memory, by reference, or in shards."""
    if isinstance(batch, StreamedBatch):
        return DataLoader(_Rows(batch), sampler=StreamedMinibatches(batch, size, seed=seed, shuffle=shuffle), batch_size=None)
    kinds, in_turn = (batch.kinds, batch.in_turn) if isinstance(batch, MixedImages) else (None, False)
    sampler = Minibatches(batch.subject_ids, size, seed=seed, shuffle=shuffle, kinds=kinds, in_turn=in_turn)
    return DataLoader(_Rows(batch), sampler=sampler, batch_size=None)
