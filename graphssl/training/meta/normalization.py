"""Normalisation whose second derivative is right where tasks are mapped."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_NORMALISATIONS = (F.layer_norm, F.batch_norm, F.instance_norm)


class ScaleAfterwards(TorchFunctionMode):
    """Inside of it layer, batch and instance normalisation scale and shift their result in steps of their own.

    The backward pass of the fused forms is mapped by a rule that loses how the statistics depend on the input, so that a gradient of a gradient
    through `torch.func.vmap` is wrong, without an error (pytorch/functorch, issue 534). Without weights the rule is right.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run a function of torch; normalisation with weights in two steps."""
        named = kwargs or {}
        if func not in _NORMALISATIONS or named.get("weight") is None:
            return func(*args, **named)
        weight, bias = named["weight"], named.get("bias")
        normalised: Tensor = func(*args, **{**named, "weight": None, "bias": None})
        if func is not F.layer_norm:  # one weight a channel, and channels come second
            weight, bias = (None if part is None else part.view(-1, *[1] * (normalised.dim() - 2)) for part in (weight, bias))
        return normalised * weight if bias is None else normalised * weight + bias
