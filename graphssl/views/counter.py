"""Random numbers that belong to a seed: a view draws a seed a row, and the numbers are made where it is applied, however many are needed there."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw_seeds(n: int, generator: torch.Generator) -> Int[Tensor, "b"]:
    """A seed for each of some rows, on the CPU."""
    return torch.randint(2**62, (n,), generator=generator)


def uniform(seeds: Int[Tensor, "b"], n: int) -> Float[Tensor, "b n"]:
    """Numbers in [0, 1), evenly spread, of each seed."""
    return _filled(seeds, n, Tensor.uniform_)


def normal(seeds: Int[Tensor, "b"], n: int) -> Float[Tensor, "b n"]:
    """Standard normal numbers of each seed."""
    return _filled(seeds, n, Tensor.normal_)


def _filled(seeds: Int[Tensor, "b"], n: int, fill: Callable[..., Tensor]) -> Float[Tensor, "b n"]:
    """Rows filled one by one on the CPU, so that they are the same on every device and whatever else is in the batch."""
    rows, generator = torch.empty(len(seeds), n), torch.Generator()
    for row, seed in zip(rows, seeds.tolist(), strict=True):
        fill(row, generator=generator.manual_seed(seed))
    return rows.to(seeds.device, non_blocking=True)
