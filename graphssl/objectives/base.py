"""What every objective is and what it returns."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError


class Loss(NamedTuple):
    """What training minimises, and what to write down beside it.

    Attributes:
        total: Scalar to minimise.
        parts: Named scalars for the history, detached.
    """

    total: Tensor
    parts: dict[str, Tensor]


class AbstractObjective(nn.Module, ABC):
    """Encoder and batch in, [`Loss`][graphssl.objectives.Loss] out.

    It takes the encoder as an argument and never holds it. `prepare` makes the parts whose size depends on the encoder; call it once before training.
    Subclasses keep every constructor argument as an attribute of the same name.
    """

    def prepare(self, encoder: AbstractEncoder) -> "AbstractObjective":
        """Make decoders and heads for this encoder; returns the objective."""
        return self

    @abstractmethod
    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """The loss on a batch; everything random comes from the generator."""

    def check_prepared(self, part: str) -> None:
        """Check that `prepare` was called.

        Args:
            part: Name of a module that `prepare` makes.

        Raises:
            ConfigError: If it was not.
        """
        if part not in self._modules:
            raise ConfigError(f"Expected a {type(self).__name__} prepared for an encoder, found one without {part!r}. Call prepare(encoder) first.")

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
