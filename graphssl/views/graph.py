"""Random looks at connections: regions or connections out of sight, and noise on weights."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import ConfigError
from graphssl.views.base import AbstractView


@dataclass(frozen=True)
class HideRegions(AbstractView):
    """Hide whole regions: every visible connection of a random share of the observed regions of each connectome.

    Args:
        ratio: Share of the observed regions to hide, in (0, 1); at least one is hidden and at least two stay.

    Raises:
        ConfigError: If the ratio is out of range.
    """

    ratio: float = 0.3

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
        """What is hidden, a symmetric subset of `batch.visible`."""
        observed = batch.visible.any(dim=-1).cpu()
        count = observed.sum(dim=1, keepdim=True)
        n_hidden = torch.minimum((self.ratio * count).round().clamp(min=1), (count - 2).clamp(min=0))
        rank = torch.rand(observed.shape, generator=generator).masked_fill(~observed, 2.0).argsort(dim=1).argsort(dim=1)
        chosen = (rank < n_hidden).to(batch.device)
        return batch.visible & (chosen.unsqueeze(1) | chosen.unsqueeze(2))

    def apply(self, batch: ConnectomeBatch, draw: Bool[Tensor, "B R R"]) -> ConnectomeBatch:
        """The batch with these connections out of sight."""
        return batch.hide(draw)


@dataclass(frozen=True)
class HideConnections(AbstractView):
    """Hide single connections, each visible one with the same probability, and its mirror with it.

    Args:
        ratio: Probability of hiding a connection, in (0, 1).

    Raises:
        ConfigError: If the ratio is out of range.
    """

    ratio: float = 0.3

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Bool[Tensor, "B R R"]:
        """What is hidden, a symmetric subset of `batch.visible`."""
        upper = torch.rand(batch.visible.shape, generator=generator).lt(self.ratio).triu(diagonal=1).to(batch.device)
        return batch.visible & (upper | upper.transpose(1, 2))

    def apply(self, batch: ConnectomeBatch, draw: Bool[Tensor, "B R R"]) -> ConnectomeBatch:
        """The batch with these connections out of sight."""
        return batch.hide(draw)


@dataclass(frozen=True)
class WeightNoise(AbstractView):
    """Add independent normal noise to every visible weight, the same to its mirror.

    Args:
        deviation: Standard deviation of the noise, in units of the weights (those of the builder: the spread of connections over subjects).

    Raises:
        ConfigError: If the deviation is not positive.
    """

    deviation: float = 0.3

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise ConfigError(f"Expected a deviation of the noise above 0, found {self.deviation}.")

    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Float[Tensor, "B R R"]:
        """What is added, symmetric, zero where nothing is visible."""
        upper = self.deviation * torch.randn(batch.weights.shape, generator=generator).triu(diagonal=1).to(batch.device)
        return (upper + upper.mT).masked_fill(~batch.visible, 0.0)

    def apply(self, batch: ConnectomeBatch, draw: Float[Tensor, "B R R"]) -> ConnectomeBatch:
        """The batch with the noise on what is visible."""
        return replace(batch, weights=batch.weights + draw.masked_fill(~batch.visible, 0.0))


def check_ratio(ratio: float) -> None:
    """Check a share that is taken away.

    Raises:
        ConfigError: If it is not between 0 and 1.
    """
    if not 0 < ratio < 1:
        raise ConfigError(f"Expected a masking ratio between 0 and 1, found {ratio}.")
