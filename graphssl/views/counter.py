"""Random numbers that are a function of a seed and a place: the same on every device, and made where they are needed."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw_seeds(n: int, generator: torch.Generator) -> Int[Tensor, "b"]:
    """A seed for each of some rows, on the CPU."""
    return torch.randint(-(2**31), 2**31, (n,), generator=generator, dtype=torch.int64).to(torch.int32)


def uniform(seeds: Int[Tensor, "b"], n: int) -> Float[Tensor, "b n"]:
    """Numbers in (0, 1), evenly spread, of each seed.

    Places are hashed, then hashed again together with the seed, by the finaliser of MurmurHash3 (Appleby, 2011) in wrapping arithmetic of 32 bits: a
    handful of operations on whole tensors, wherever the seeds are.

    Args:
        seeds: Any whole numbers of 32 bits.
        n: How many of each.
    """
    places = _mixed(torch.arange(n, dtype=torch.int32, device=seeds.device) * _GOLDEN)
    hashed = _mixed(places ^ seeds.to(torch.int32).unsqueeze(1))
    return (_shifted(hashed, 8).float() + 0.5) * 2.0**-24


def normal(seeds: Int[Tensor, "b"], n: int) -> Float[Tensor, "b n"]:
    """Standard normal numbers of each seed, by the Box–Muller transform of `uniform`."""
    half = -(-n // 2)
    numbers = uniform(seeds, 2 * half)
    radius, angle = (-2.0 * numbers[:, :half].log()).sqrt_(), numbers[:, half:].mul_(2.0 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :n]


def permutations(seeds: Int[Tensor, "b"], n: int) -> Int[Tensor, "b n"]:
    """An order of `n` things of each seed."""
    return uniform(seeds, n).argsort(dim=1, stable=True)


# As signed numbers of 32 bits.
_GOLDEN = 0x9E3779B9 - 2**32
_FIRST, _SECOND = 0x85EBCA6B - 2**32, 0xC2B2AE35 - 2**32


def _mixed(numbers: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    numbers = (numbers ^ _shifted(numbers, 16)) * _FIRST
    numbers = (numbers ^ _shifted(numbers, 13)) * _SECOND
    return numbers ^ _shifted(numbers, 16)


def _shifted(numbers: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """Bits moved down, zeros filled in."""
    return (numbers >> bits) & (2 ** (32 - bits) - 1)
