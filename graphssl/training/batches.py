"""Minibatches of a batch: rows drawn anew each epoch, the same for the same seed and epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from graphssl.data.connectome import ConnectomeBatch


class Minibatches(Sampler[list[int]]):
    """Lists of rows. The order depends on seed and epoch only, so that a resumed run sees what an unbroken one would have seen.

    Args:
        n_rows: Rows to draw from.
        size: Rows a minibatch; the last may have fewer, but a single left-over row joins the one before.
        seed: Seed of the order.
        shuffle: False keeps the order.
    """

    def __init__(self, n_rows: int, size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.n_rows, self.size, self.seed, self.shuffle = n_rows, size, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, -(-self.n_rows // self.size) - (self.n_rows % self.size == 1))

    def __iter__(self) -> Iterator[list[int]]:
        # The order is made when the first minibatch is asked for: a resumed run makes its iterator before it says which epoch comes.
        order = torch.arange(self.n_rows)
        if self.shuffle:
            order = torch.randperm(self.n_rows, generator=torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch))
        chunks = list(order.split(self.size))
        if len(chunks) > 1 and self.n_rows % self.size == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        yield from (chunk.tolist() for chunk in chunks)


class _Rows(Dataset[ConnectomeBatch]):
    def __init__(self, batch: ConnectomeBatch) -> None:
        self.batch = batch

    def __getitem__(self, rows: Sequence[int]) -> ConnectomeBatch:
        return self.batch[rows]


def loader(batch: ConnectomeBatch, size: int, *, seed: int = 0, shuffle: bool = True) -> "DataLoader[ConnectomeBatch]":
    """A loader of minibatches of a batch that is in memory."""
    return DataLoader(_Rows(batch), sampler=Minibatches(len(batch), size, seed=seed, shuffle=shuffle), batch_size=None)
