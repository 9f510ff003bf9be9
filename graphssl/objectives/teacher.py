"""A slow copy of an encoder and its head, which follows them and is never trained itself."""

import copy
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError


class Teacher(nn.Module):
    """An exponential moving average of an encoder and a head, as in BYOL and DINO.

    It starts as their copy. Its encoder has no dropout; its batch normalisation uses the minibatch in training, as in the papers.

    Args:
        encoder: The encoder to follow; it is copied.
        head: What stands on the pooled vector; it is copied.
        batch_statistics: Whether batch normalisation uses the minibatch in training; the running means of the one that is followed when not.
    """

    encoder: AbstractEncoder

    def __init__(self, encoder: AbstractEncoder, head: nn.Module, *, batch_statistics: bool = True) -> None:
        super().__init__()
        self.encoder, self.head = copy.deepcopy(encoder), copy.deepcopy(head)
        self.batch_statistics = batch_statistics
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """Switch batch normalisation to training; all else stays without dropout."""
        super().train(mode)
        for part in (self.encoder,) if self.batch_statistics else (self.encoder, self.head):
            part.eval()
        if self.batch_statistics:
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(mode)
        return self

    @torch.no_grad()
    def forward(self, batch: Any) -> Float[Tensor, "B D"]:
        """What the head makes of the pooled vectors."""
        taught: Tensor = self.head(self.encoder(batch).pooled)
        return taught

    @torch.no_grad()
    def follow(self, encoder: AbstractEncoder, head: nn.Module, momentum: float) -> None:
        """Move every parameter to `momentum · own + (1 - momentum) · theirs`; buffers are copied.

        Args:
            encoder: The encoder after a step.
            head: The head after a step.
            momentum: Share that stays.
        """
        for own, other in ((self.encoder, encoder), (self.head, head)):
            for mine, theirs in zip(own.parameters(), other.parameters(), strict=True):
                mine.lerp_(theirs, 1 - momentum)
            for old, new in zip(own.buffers(), other.buffers(), strict=True):
                old.copy_(new)


def momentum_at(start: float, progress: float) -> float:
    """Momentum that rises from `start` to 1 along half a cosine (BYOL, section 3.3).

    Args:
        start: Momentum at the beginning.
        progress: Share of the training that is done, in [0, 1].
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def check_momentum(momentum: float) -> None:
    """Check a momentum.

    Raises:
        ConfigError: If it is not in [0, 1].
    """
    if not 0 <= momentum <= 1:
        raise ConfigError(f"Expected a momentum in [0, 1], found {momentum}.")
