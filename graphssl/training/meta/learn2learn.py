"""learn2learn's algorithms on our encoders: the library whose shape `MAML` keeps, as a yardstick and for code that is written for it."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.errors import ConfigError, MissingExtraError
from graphssl.training.meta.inner import check_adaptable, twice_differentiable

Algorithm = Literal["MAML", "MetaSGD", "GBML"]


def learn2learn_algorithm(algorithm: Algorithm, encoder: AbstractEncoder, **arguments: Any) -> Any:
    """One of learn2learn's gradient-based algorithms around an encoder (Arnold et al., 2020).

    Its clones are called with a batch and give an `Embedding`, so they take the place of the encoder in any objective.

    Args:
        algorithm: `"MAML"`, `"MetaSGD"` or `"GBML"`.
        encoder: The encoder; its parameters are those that are trained.
        arguments: What the algorithm takes beside the module, such as `lr`, `first_order`, or the `transform` of `GBML`.

    Raises:
        ConfigError: If the algorithm is none of these, or a layer of the encoder cannot be in an inner loop.
        MissingExtraError: If learn2learn is not installed.
    """
    if algorithm not in ("MAML", "MetaSGD", "GBML"):
        raise ConfigError(f"Expected the algorithm 'MAML', 'MetaSGD' or 'GBML', found {algorithm!r}.")
    check_adaptable(encoder, first_order=bool(arguments.get("first_order", False)))
    return getattr(load_learn2learn().algorithms, algorithm)(Learnable(encoder), **arguments)


class Learnable(nn.Module):
    """An encoder as learn2learn can train it: every parameter is used in every call, and attention has a second derivative.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: AbstractEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Any) -> Embedding:
        """Embed a batch."""
        with twice_differentiable():
            embedding: Embedding = self.encoder(batch)
        # Some algorithms refuse parameters that a loss does not use, such as the vector of regions that are hidden where none is.
        nothing = 0 * torch.stack([parameter.sum() for parameter in self.encoder.parameters()]).sum()
        return embedding._replace(tokens=embedding.tokens + nothing, pooled=embedding.pooled + nothing)

    def __getattr__(self, name: str) -> Any:
        """What is asked of the encoder, such as `pooled_width`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("encoder"), name)


def load_learn2learn() -> ModuleType:
    """learn2learn without its environments and image data sets, which want packages that do not go with current torch.

    Raises:
        MissingExtraError: If it is not installed.
    """
    left_out = [name for name in ("learn2learn.gym", "learn2learn.vision") if name not in sys.modules]
    for name in left_out:
        sys.modules[name] = ModuleType(name)
    try:
        return import_module("learn2learn")
    except ImportError as error:
        raise MissingExtraError(
            f"learn2learn is needed to run its algorithms and could not be imported ({error}). Install it with `make learn2learn`, or with "
            "`pip install cython wheel setuptools` and then `pip install --use-pep517 --no-deps --no-build-isolation "
            "--config-settings=--build-option=build_ext learn2learn==0.2.0`."
        ) from error
    finally:
        for name in left_out:  # whoever asks for these gets the real ones, or their error
            sys.modules.pop(name, None)
