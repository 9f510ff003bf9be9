"""What every encoder is and what it returns."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder


class Embedding(NamedTuple):
    """What an encoder makes of a batch.

    Attributes:
        tokens: One vector a token `[B, N, D]`; a token is a brain region, a column of a table, a bin of time, an event, or a place of an image.
        mask: Which tokens are real `[B, N]`.
        pooled: One vector a sample `[B, P]`.
        maps: Feature maps of images by scale `[B, C, *S]`, the finest first; none of anything else.
    """

    tokens: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"]
    pooled: Float[Tensor, "B P"]
    maps: tuple[Tensor, ...] = ()


def joined(parts: Sequence[Embedding]) -> Embedding:
    """Embeddings of parts of a batch, below one another; where one has fewer tokens, tokens that are not real come behind."""
    n_tokens = max(part.mask.shape[1] for part in parts)
    tokens = torch.cat([F.pad(part.tokens, (0, 0, 0, n_tokens - part.tokens.shape[1])) for part in parts])
    mask = torch.cat([F.pad(part.mask, (0, n_tokens - part.mask.shape[1])) for part in parts])
    maps: list[Tensor] = [torch.cat(scale) for scale in zip(*(part.maps for part in parts), strict=True)]
    return Embedding(tokens, mask, torch.cat([part.pooled for part in parts]), tuple(maps))


class AbstractEncoder(nn.Module, ABC):
    """A module that turns a batch into an [`Embedding`][graphssl.encoders.Embedding].

    Subclasses keep every constructor argument as an attribute of the same name, so that `arguments()` can rebuild them from disk.
    """

    token_width: int
    pooled_width: int
    rows_at_once: int = 64  # outside of training

    @abstractmethod
    def forward(self, batch: Any) -> Embedding:
        """Embed a batch: a `ConnectomeBatch`, records (`TableBatch`, `TimelineBatch`, `EventBatch`), or a `PopulationBatch` of them."""

    def for_builder(self, builder: AbstractBuilder) -> "AbstractEncoder":
        """The encoder for what a fitted builder gives; itself where it takes any.

        Raises:
            ConfigError: If the builder gives covariates, which only some encoders read.
        """
        if isinstance(builder, ConnectomeBuilder) and builder.covariates_ is not None:
            raise ConfigError(
                f"Expected an encoder that reads the builder's covariates, such as GraphTransformer; found {type(self).__name__}. "
                "Use that one, or leave covariates out of the builder."
            )
        return self

    def default_builder(self) -> AbstractBuilder:
        """A builder, not fitted, of the batches that it reads."""
        return ConnectomeBuilder()

    def once(self, batch: Batch) -> Batch:
        """The batch with what need not be computed anew in every step of a training; itself where there is nothing of the kind.

        Args:
            batch: All rows of the training.
        """
        return batch

    @property
    def reader(self) -> "AbstractEncoder":
        """What reads a subject's data: the encoder itself, or its part for a patient alone where patients learn from others.

        What that is made for (columns, codes, bins) is what objectives can hide and predict; widths are those of the encoder itself.
        """
        return self

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, for `config.json`."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


class Written(Protocol):
    """A module whose constructor's arguments are plain values."""

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments."""


Made = TypeVar("Made", bound=Written)
Kind = TypeVar("Kind")


def written(module: Written) -> dict[str, Any]:
    """Class and arguments of an encoder, or of a part of one, as plain values, for JSON."""
    return {"class": type(module).__name__, "arguments": module.arguments()}


def made_of(kind: type[Made], given: Made | Mapping[str, Any], what: str) -> Made:
    """One with new random weights of the class and arguments of one that is given or was `written`.

    Args:
        kind: What it must be.
        given: One of the kind, or what was written of it.
        what: What to call it in an error.

    Raises:
        ConfigError: If there is no such class, or its arguments are others.
    """
    record = given if isinstance(given, Mapping) else written(given)
    kinds = {known.__name__: known for known in subclasses(kind)}
    try:
        return kinds[record["class"]](**record["arguments"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"Expected {what} with its arguments, found {dict(record)} ({error}). Give {what}.") from error


def subclasses(kind: type[Kind]) -> list[type[Kind]]:
    """All classes below one, however far."""
    return [each for child in kind.__subclasses__() for each in (child, *subclasses(child))]


def check_heads(width: int, heads: int) -> None:
    """Check that attention heads share the width evenly.

    Raises:
        ConfigError: If they do not.
    """
    if heads < 1 or width % heads:
        raise ConfigError(f"Expected the width to be a multiple of the {heads} heads, found {width}.")


def check_parts(what: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    """Check a choice of parts by name: each is known and named once.

    Raises:
        ConfigError: If one is not.
    """
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        raise ConfigError(f"Expected {what} among {', '.join(known)}, each at most once; found {list(chosen)}.")
