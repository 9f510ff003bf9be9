"""Random looks at connectomes: draws of what to hide. Drawing and applying are apart, so that any step replays from its seed."""

import torch
from jaxtyping import Bool
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import ConfigError


def draw_regions(batch: ConnectomeBatch, ratio: float, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
    """Hide whole regions: every visible connection of a random share of the observed regions of each connectome.

    Args:
        batch: Connectomes.
        ratio: Share of the observed regions to hide, in (0, 1); at least one is hidden and at least two stay.
        generator: Source of randomness, on the CPU, so that draws do not depend on the device.

    Returns:
        What is hidden, a symmetric subset of `batch.visible`.

    Raises:
        ConfigError: If the ratio is out of range.
    """
    _check_ratio(ratio)
    observed = batch.visible.any(dim=-1).cpu()
    count = observed.sum(dim=1, keepdim=True)
    n_hidden = torch.minimum((ratio * count).round().clamp(min=1), (count - 2).clamp(min=0))
    rank = torch.rand(observed.shape, generator=generator).masked_fill(~observed, 2.0).argsort(dim=1).argsort(dim=1)
    chosen = (rank < n_hidden).to(batch.device)
    return batch.visible & (chosen.unsqueeze(1) | chosen.unsqueeze(2))


def draw_connections(batch: ConnectomeBatch, ratio: float, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
    """Hide single connections, each visible one with the given probability, and its mirror with it.

    Args:
        batch: Connectomes.
        ratio: Probability of hiding a connection, in (0, 1).
        generator: Source of randomness, on the CPU.

    Returns:
        What is hidden, a symmetric subset of `batch.visible`.

    Raises:
        ConfigError: If the ratio is out of range.
    """
    _check_ratio(ratio)
    upper = torch.rand(batch.visible.shape, generator=generator).lt(ratio).triu(diagonal=1).to(batch.device)
    return batch.visible & (upper | upper.transpose(1, 2))


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio < 1:
        raise ConfigError(f"Expected a masking ratio between 0 and 1, found {ratio}.")
