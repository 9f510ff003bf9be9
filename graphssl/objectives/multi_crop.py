"""What clustering and distillation by prototypes share: small views beside the two whole ones, and prototypes that wait before they move."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import Loss
from graphssl.objectives.heads import Prototypes
from graphssl.objectives.two_views import AbstractTwoViews, check_positive
from graphssl.views.base import AbstractView


class AbstractMultiCrop(AbstractTwoViews):
    """Two views of every row and a number of smaller ones, which are to agree with the two on a number of prototypes.

    Small views cost little where they are of fewer voxels (multi-crop; Caron et al., NeurIPS 2020, section 3.3); all pass the encoder at once.

    Args:
        view: The look at a row, drawn twice; or one that gives two whole views and small ones, which are of one size.
        n_prototypes: Number of prototypes.
        frozen: Share of the training in which the prototypes do not move.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a share is not in [0, 1], or another number is not positive.
    """

    small_views = True
    progress: Tensor

    def __init__(self, view: AbstractView | None, n_prototypes: int, frozen: float, width: int, hidden: int) -> None:
        super().__init__(view, width, hidden)
        check_positive(n_prototypes=n_prototypes)
        check_share(frozen=frozen)
        self.n_prototypes, self.frozen = n_prototypes, frozen
        self.register_buffer("progress", torch.zeros(()))

    @property
    def selects_epoch(self) -> bool:
        """No: what is aimed at moves with the encoder that is compared with it."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "AbstractMultiCrop":
        """Make projector and prototypes."""
        super().prepare(encoder)
        self.prototypes = Prototypes(self.width, self.n_prototypes)
        return self

    def embedded(self, encoder: AbstractEncoder, views: tuple[Any, ...]) -> tuple[Float[Tensor, "B P"], ...]:
        """Pooled vectors of all views, those of the small ones in one go."""
        whole = super().embedded(encoder, views[:2])
        if len(views) == 2:
            return whole
        return (*whole, *encoder(type(views[2]).cat(views[2:])).pooled.split(len(views[2])))

    @abstractmethod
    def compare(self, projected: tuple[Float[Tensor, "B D"], ...], views: tuple[Any, ...]) -> Loss:
        """The loss of projected views: the first two are whole."""

    def scores(self, projected: tuple[Tensor, ...]) -> list[Float[Tensor, "B K"]]:
        """Cosines of each view to the prototypes, which get no gradient as long as they are frozen."""
        frozen = bool(self.progress < self.frozen)
        return [self.prototypes(vectors, frozen=frozen).float() for vectors in projected]

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Note how far the training is."""
        self.progress.fill_(progress)


def check_share(**values: float) -> None:
    """Check shares of the training.

    Raises:
        ConfigError: If one is not in [0, 1].
    """
    wrong = {name: value for name, value in values.items() if not 0 <= value <= 1}
    if wrong:
        raise ConfigError(f"Expected {', '.join(values)} to be a share of the training in [0, 1], found {wrong}.")


def cross_entropies(scores: Sequence[Float[Tensor, "B K"]], targets: Sequence[Float[Tensor, "B K"]], temperature: float) -> Float[Tensor, ""]:
    """Mean cross-entropy of every view's softmax with what is aimed at in every other whole view, over rows and pairs of views.

    Args:
        scores: Scores of the prototypes by view, the whole ones first.
        targets: Shares of the prototypes by whole view; they get no gradient.
        temperature: Temperature of the softmax.
    """
    logs = torch.log_softmax(torch.stack(list(scores), dim=1) / temperature, dim=2)  # [B, V, K]
    with torch.autocast(logs.device.type, enabled=False):  # sums over thousands of prototypes in full precision
        products = torch.stack(list(targets), dim=1).detach().to(logs) @ logs.mT  # [B, W, V]
    n_pairs = len(targets) * (len(scores) - 1)
    return -(products.mean(dim=0).sum() - products.diagonal(dim1=1, dim2=2).mean(dim=0).sum()) / n_pairs
