"""Two views of a subject are more alike than views of different subjects."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.batch import Batch
from graphssl.objectives.base import Loss
from graphssl.objectives.two_views import AbstractTwoViews, check_positive, subject_index
from graphssl.views.base import AbstractView


class NTXent(AbstractTwoViews):
    """Normalised, temperature-scaled cross-entropy: find the other view of a connectome among the views of the other subjects of the minibatch.

    SimCLR (Chen et al., ICML 2020). Other rows of the same subject (its other atlases) are neither sought nor shunned.

    Args:
        view: The look at a connectome, drawn twice.
        temperature: Temperature of the softmax; lower looks at the hardest others.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.
    """

    def __init__(self, view: AbstractView | None = None, temperature: float = 0.2, width: int = 64, hidden: int = 128) -> None:
        super().__init__(view, width, hidden)
        check_positive(temperature=temperature)
        self.temperature = temperature

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The loss, and how often the other view was the most alike."""
        return contrast(projected, views[0], self.temperature)


def contrast(projected: tuple[Float[Tensor, "B D"], ...], batch: Batch, temperature: float) -> Loss:
    """NT-Xent of two projected views of a batch, and how often the other view was the most alike."""
    logits, target = nt_xent_logits(projected[0], projected[1], subject_index(batch), temperature)
    found = (logits.detach().argmax(dim=1) == target).float().mean()
    return Loss(F.cross_entropy(logits, target), {"accuracy": found})


def nt_xent(first: Float[Tensor, "B D"], second: Float[Tensor, "B D"], subjects: Int[Tensor, "B"], temperature: float = 0.2) -> Float[Tensor, ""]:
    """NT-Xent of two views, the mean over all `2B` anchors (SimCLR, equation 1).

    Args:
        first: Projected first views.
        second: Projected second views, row by row of the same connectomes.
        subjects: A number a subject, by row; other rows of an anchor's subject are left out of its softmax.
        temperature: Temperature of the softmax.
    """
    return F.cross_entropy(*nt_xent_logits(first, second, subjects, temperature))


def nt_xent_logits(first: Tensor, second: Tensor, subjects: Tensor, temperature: float) -> tuple[Float[Tensor, "2B 2B"], Int[Tensor, "2B"]]:
    """Scaled cosines of every view to every other, minus infinity where there is nothing to tell apart, and the column to find."""
    n = len(first)
    both_views = torch.cat([first, second])
    vectors = F.normalize(both_views.to(torch.promote_types(both_views.dtype, torch.float32)), dim=1)
    target = (torch.arange(2 * n, device=first.device) + n) % (2 * n)
    both = subjects.repeat(2)
    left_out = (both.unsqueeze(0) == both.unsqueeze(1)).scatter(1, target.unsqueeze(1), value=False)
    return (vectors @ vectors.T / temperature).masked_fill(left_out, float("-inf")), target
