"""What minibatches in memory and of shards have in common: where their order comes from, and where it is cut."""

import torch
from jaxtyping import Int
from torch import Tensor

from graphssl.training.seeds import nth_seed


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Source of the order of an epoch."""
    return torch.Generator().manual_seed(nth_seed(seed, epoch))


def cut(order: Int[Tensor, "n"], n_subjects: int) -> list[Int[Tensor, "m"]]:
    """An order in minibatches; the last may have fewer, but a single left-over subject joins the ones before.

    Args:
        order: Subjects in their order.
        n_subjects: Subjects a minibatch.
    """
    chunks = list(order.split(n_subjects))
    if len(chunks) > 1 and len(order) % n_subjects == 1:
        chunks[-2:] = [torch.cat(chunks[-2:])]
    return chunks


def n_minibatches(n: int, n_subjects: int) -> int:
    """How many minibatches `cut` makes of `n` subjects."""
    return max(1, -(-n // n_subjects) - (n % n_subjects == 1))
