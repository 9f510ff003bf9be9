"""Minibatches of a batch: subjects drawn anew each epoch, the same for the same seed and epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from graphssl.data.batch import Batch


class Minibatches(Sampler[list[int]]):
    """Lists of rows. The order depends on seed and epoch only, so that a resumed run sees what an unbroken one would have seen.

    Rows of a subject (its atlases) stand in one minibatch, so that objectives can compare them; what is drawn are subjects. Each minibatch takes
    as many subjects as fit if all had as many rows as the one with the most, so that every epoch has the same number of steps.

    Args:
        subject_ids: Subject of each row.
        size: Rows a minibatch; the last may have fewer, but a single left-over subject joins the ones before. A subject with more rows stays whole.
        seed: Seed of the order.
        shuffle: False keeps the order of the subjects.
    """

    def __init__(self, subject_ids: Sequence[str], size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        rows: dict[str, list[int]] = {}
        for row, subject in enumerate(subject_ids):
            rows.setdefault(subject, []).append(row)
        self.rows = list(rows.values())
        self.n_subjects = max(1, size // max(map(len, self.rows), default=1))
        self.seed, self.shuffle = seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, -(-len(self.rows) // self.n_subjects) - (len(self.rows) % self.n_subjects == 1))

    def __iter__(self) -> Iterator[list[int]]:
        # The order is made when the first minibatch is asked for: a resumed run makes its iterator before it says which epoch comes.
        order = torch.arange(len(self.rows))
        if self.shuffle:
            order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch))
        chunks = list(order.split(self.n_subjects))
        if len(chunks) > 1 and len(self.rows) % self.n_subjects == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        yield from ([row for subject in chunk.tolist() for row in self.rows[subject]] for chunk in chunks)


class _Rows(Dataset[Batch]):
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        return self.batch[rows]


def loader(batch: Batch, size: int, *, seed: int = 0, shuffle: bool = True) -> "DataLoader[Batch]":
    """A loader of minibatches of a batch that is in memory."""
    return DataLoader(_Rows(batch), sampler=Minibatches(batch.subject_ids, size, seed=seed, shuffle=shuffle), batch_size=None)
