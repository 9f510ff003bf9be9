"""Two views of a connectome agree in every number of their vectors, and no number repeats another."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.errors import ConfigError
from graphssl.objectives.base import Loss
from graphssl.objectives.two_views import AbstractTwoViews
from graphssl.views.base import AbstractView

# Beside the variance of a number over the minibatch, so that a constant one gives no infinite gradient (the ε of batch normalisation).
_SMALLEST_VARIANCE = 1e-5


class BarlowTwins(AbstractTwoViews):
    """Make the cross-correlation of two views' vectors over the minibatch the identity.

    Barlow Twins (Zbontar et al., ICML 2021). The sum of the paper is divided by the width.

    Args:
        view: The look at a connectome, drawn twice.
        redundancy: Weight of the entries off the diagonal. The paper's 0.005 belongs to a width of 8192; `1 / width` is a fair start.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If the weight is negative, or a width is not positive.
    """

    def __init__(self, view: AbstractView | None = None, redundancy: float = 0.02, width: int = 64, hidden: int = 128) -> None:
        super().__init__(view, width, hidden)
        if redundancy < 0:
            raise ConfigError(f"Expected the weight of redundancy to be 0 or more, found {redundancy}.")
        self.redundancy = redundancy

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The loss, and its two terms."""
        agreement, repetition = barlow_twins(projected[0], projected[1])
        return Loss(agreement + self.redundancy * repetition, {"agreement_error": agreement.detach(), "redundancy_error": repetition.detach()})


def barlow_twins(first: Float[Tensor, "B D"], second: Float[Tensor, "B D"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The two terms of Barlow Twins: `Σ (1 - C_ii)² / D` and `Σ_{i≠j} C_ij² / D`, where `C` is the cross-correlation of two views over the batch."""
    correlation = _standardised(first.float()).T @ _standardised(second.float()) / len(first)
    diagonal = torch.diagonal(correlation)
    agreement = (1 - diagonal).square().mean()
    repetition = (correlation.square().sum() - diagonal.square().sum()) / len(correlation)
    return agreement, repetition


def _standardised(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    centred = vectors - vectors.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + _SMALLEST_VARIANCE).sqrt()
