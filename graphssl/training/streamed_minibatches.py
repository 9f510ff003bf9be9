"""Minibatches of a batch in shards: shards are shuffled, and the subjects of as many of them as the window holds."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from graphssl.data.streamed_batch import StreamedBatch
from graphssl.training.minibatch_order import cut, epoch_generator, n_minibatches


class StreamedMinibatches(Sampler[list[int]]):
    """Lists of subjects, window by window, so that every shard is read once an epoch.

    Shards come in a new order each epoch, and the subjects of those that fit into a window are shuffled together. The order depends on seed and epoch
    only; where one window holds all shards it is that of `Minibatches` in memory. As there, a minibatch takes as many subjects as fit if all had as
    many rows as the one with the most, a single left-over subject joins the ones before, and every epoch has the same number of steps.

    Args:
        batch: The batch.
        size: Rows a minibatch.
        seed: Seed of the order.
        shuffle: False keeps the order of the subjects, shard by shard.
    """

    def __init__(self, batch: StreamedBatch, size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.n, self.n_subjects = len(batch), max(1, size // batch.most_rows)
        self.window = batch.cohort.window
        self.shards = batch.cohort.shards
        self.seed, self.shuffle = seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return n_minibatches(self.n, self.n_subjects)

    def __iter__(self) -> Iterator[list[int]]:
        # As in memory, the order is made when the first minibatch is asked for.
        yield from (chunk.tolist() for chunk in cut(self._order(), self.n_subjects))

    def _order(self) -> Int[Tensor, "n"]:
        """Subjects in the order in which they are taken."""
        generator = epoch_generator(self.seed, self.epoch)
        sizes = np.unique(self.shards, return_counts=True)[1].tolist()
        if len(sizes) <= self.window:
            return torch.randperm(self.n, generator=generator) if self.shuffle else torch.arange(self.n)
        in_order = torch.from_numpy(np.argsort(self.shards, kind="stable"))
        if not self.shuffle:
            return in_order
        by_shard = in_order.split(sizes)
        windows = [torch.cat([by_shard[k] for k in few.tolist()]) for few in torch.randperm(len(sizes), generator=generator).split(self.window)]
        return torch.cat([window[torch.randperm(len(window), generator=generator)] for window in windows])
