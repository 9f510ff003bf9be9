"""Attention roll-out: how much of each region arrives at each token after all layers of attention."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import DataError

_ROWS = 32


def attention_rollout(encoder: AbstractEncoder, batch: ConnectomeBatch) -> Float[Tensor, "B R R"]:
    """Roll-out of Abnar & Zuidema (ACL 2020): the product of the layers' attention, each averaged over heads and mixed by halves with the identity.

    Half of each layer stands for its residual connection. Entry `(i, j)` is the share of region `j` in the token of region `i`; rows sum to one, or
    to what the covariates leave where these are tokens behind the regions.
    Roll-out knows nothing of the head nor of the sign of an effect: it says where information may come from, not what is made of it.

    Attention is read where it is computed, so any encoder built on `scaled_dot_product_attention` between regions can be rolled out.

    Args:
        encoder: The encoder.
        batch: Connectomes.

    Raises:
        DataError: If the encoder computes no attention between regions.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            parts = [_rolled(encoder, batch[rows.tolist()], batch.mask.shape[1]) for rows in torch.arange(len(batch)).split(_ROWS)]
    finally:
        encoder.train(was_training)
    return torch.cat(parts)


def _rolled(encoder: AbstractEncoder, part: ConnectomeBatch, width: int) -> Tensor:
    n = part.mask.shape[1]
    with _Recorder((n, n + (0 if part.covariates is None else part.covariates.measured.shape[1]))) as recorder:
        encoder(part)
    if not recorder.layers:
        raise DataError(
            f"Expected an encoder with attention between regions to roll out, found {type(encoder).__name__} without. Use integrated gradients."
        )
    return F.pad(rollout(torch.stack(recorder.layers))[:, :n, :n], (0, width - n, 0, width - n))


def rollout(attention: Float[Tensor, "L B R R"]) -> Float[Tensor, "B R R"]:
    """Product of layers of attention, first layer first, each mixed by halves with the identity; rows of the input sum to one."""
    identity = torch.eye(attention.shape[-1], dtype=attention.dtype)
    rolled = identity.expand(attention.shape[1:])
    for layer in attention:
        rolled = (layer + identity) / 2 @ rolled
    return rolled


class _Recorder(TorchFunctionMode):
    """Keeps the attention between regions, averaged over heads, of every call of `scaled_dot_product_attention`.

    Args:
        n_tokens: How many tokens there may be: the regions, or regions and covariates.
    """

    def __init__(self, n_tokens: tuple[int, ...]) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.layers: list[Tensor] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = args[:2]
            logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            bias = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
            if bias is not None:
                logits = logits.masked_fill(~bias, float("-inf")) if bias.dtype == torch.bool else logits + bias
            weights = logits.softmax(dim=-1).mean(dim=1)
            if weights.shape[-2] == weights.shape[-1] in self.n_tokens:
                self.layers.append(weights)
        return func(*args, **kwargs)
