"""Large minibatches in little memory: rows pass the encoder a few at a time, and gradients are those of all rows at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from graphssl.data.batch import Batch
from graphssl.data.population_batch import PopulationBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, joined
from graphssl.errors import ConfigError


@contextmanager
def rows_at_once(encoder: AbstractEncoder, n_rows: int, *, maps: bool = True) -> Iterator[None]:
    """Let batches pass the encoder in parts of a number of rows, while losses and gradients are those of the whole batch.

    Embeddings of all rows are kept, what led to them is not: it is worked out anew, part by part, when the gradient comes back (GradCache; Gao et
    al., 2021, arXiv 2101.06983). So a loss may compare every row with every other, as contrast, clustering and redundancy do; sums of the gradients
    of small minibatches get these wrong. Memory is that of one part, and the price is one more forward pass.

    It is exact because a row's embedding does not depend on the other rows. With batch normalisation in the encoder it would: each part would be
    normalised by itself, which is another network. Heads that stand on pooled vectors see all rows, so theirs is exact. What the batch hides of
    patients of a population is hidden in every part.

    Args:
        encoder: The encoder; within the block its `forward` works in parts.
        n_rows: Rows a part.
        maps: Whether the loss reads feature maps of images; where it does not they are let go with their part.

    Raises:
        ConfigError: If batch normalisation of the encoder is in training mode.
    """
    _check_norms(encoder)
    forward: Callable[[Any], Embedding] = encoder.forward

    def whole(batch: Batch) -> Embedding:
        embedding = forward(batch)
        return embedding if maps else embedding._replace(maps=())

    def in_parts(batch: Batch) -> Embedding:
        if len(batch) <= n_rows:
            return whole(batch)
        anchor = torch.empty(0, device=batch.device)  # tells checkpoint whose random numbers dropout draws
        numbers = [list(range(start, min(start + n_rows, len(batch)))) for start in range(0, len(batch), n_rows)]
        take = batch.share if isinstance(batch, PopulationBatch) else batch.__getitem__
        parts = [take(rows) for rows in numbers]  # kept for the backward pass: what is decoded of them is decoded once
        return joined([checkpoint(lambda part, _: whole(part), part, anchor, use_reentrant=False) for part in parts])

    encoder.forward = in_parts  # type: ignore[method-assign]
    try:
        yield
    finally:
        del encoder.forward


def _check_norms(encoder: AbstractEncoder) -> None:
    norms = [name for name, part in encoder.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]
    if norms:
        raise ConfigError(
            f"Expected an encoder whose rows do not depend on one another where they pass in parts (rows_at_once), found batch normalisation in "
            f"{len(norms)} places of {type(encoder).__name__}, such as {norms[0]!r}. Use group normalisation (norm='group'), "
            "or leave rows_at_once out."
        )
