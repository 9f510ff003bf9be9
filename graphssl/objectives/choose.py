"""Random choices of what to hide, every set alike."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def random_rank(eligible: Bool[Tensor, "*B N"], generator: torch.Generator) -> Int[Tensor, "*B N"]:
    """A random rank from 0 along the last dimension, those who are not eligible behind all others."""
    return torch.rand(eligible.shape, generator=generator).masked_fill(~eligible, 2.0).argsort(dim=-1).argsort(dim=-1)


def choose_share(eligible: Bool[Tensor, "*B N"], ratio: float, generator: torch.Generator) -> Bool[Tensor, "*B N"]:
    """A share of those eligible along the last dimension; one at least, and one is left where there are two."""
    count = eligible.sum(dim=-1, keepdim=True)
    n_chosen = torch.minimum((ratio * count.double()).round().long().clamp(min=1), (count - 1).clamp(min=1))
    return eligible & (random_rank(eligible, generator) < n_chosen)


def choose_patients(eligible: Bool[Tensor, "B"], ratio: float, generator: torch.Generator) -> Bool[Tensor, "B"]:
    """A share of the patients of a batch, one at least; those who are not eligible come last."""
    return random_rank(eligible, generator) < max(1, round(ratio * len(eligible)))
