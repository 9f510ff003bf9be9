"""Clip gradients by the size of what they change."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.errors import ConfigError


def clip_adaptively(parameters: Iterable[nn.Parameter], factor: float = 0.01, eps: float = 1e-3) -> None:
    """Scale down the gradient of each unit whose norm exceeds a share of the norm of the unit's weights; others stay as they are.

    Adaptive gradient clipping (Brock et al., ICML 2021). A unit is an output of a linear layer or of a convolution, and a whole tensor where that is
    a vector or a number. The output layer is to be left out of the parameters.

    Args:
        parameters: Parameters with gradients.
        factor: The share.
        eps: Norm of weights at least, so that weights of zero can move.

    Raises:
        ConfigError: If the share is not positive.
    """
    if factor <= 0:
        raise ConfigError(f"Expected a share above 0 to clip gradients by, found {factor}.")
    for parameter in parameters:
        if parameter.grad is None:
            continue
        most = factor * _unit_norms(parameter.detach()).clamp(min=eps)
        norms = _unit_norms(parameter.grad)
        parameter.grad.mul_(torch.where(norms > most, most / norms.clamp(min=1e-12), 1.0))


def _unit_norms(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Norms of the units in a shape that multiplies the values."""
    if values.dim() <= 1:
        return values.norm()
    return values.flatten(1).norm(dim=1).view(-1, *(1,) * (values.dim() - 1))
