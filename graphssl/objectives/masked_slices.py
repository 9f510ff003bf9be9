"""Hide slices of a volume and predict from the others what they are alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.slices import SliceTransformer
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.choose import choose_share
from graphssl.views.base import AbstractView

LossOn = Literal["all", "masked"]


class MaskedSlices(AbstractObjective):
    """Hide slices' vectors and predict them from those of the other slices (second stage of Nguyen et al., AAAI 2023, arXiv 2212.01893).

    What a slice is alone comes from a network that is not trained here, and neither is what is predicted; the layers among slices are, so there is no
    way to collapse. Slices are drawn for each of the two views.

    Args:
        ratio: Share of the slices that is hidden; one at least.
        loss_on: `"all"` slices count, as in the authors' code, or the `"masked"` ones alone, as one reads the paper.
        view: The look at a volume, drawn twice; the volume as it is, once, when left out.

    Raises:
        ConfigError: If the ratio is not in (0, 1), or the slices that count are told by another word.
    """

    def __init__(self, ratio: float = 0.1, loss_on: LossOn = "all", view: AbstractView | None = None) -> None:
        super().__init__()
        if not 0 < ratio < 1 or loss_on not in ("all", "masked"):
            raise ConfigError(f"Expected 0 < ratio < 1 and loss_on 'all' or 'masked', found {ratio} and {loss_on!r}.")
        self.ratio, self.loss_on, self.view = ratio, loss_on, view

    def prepare(self, encoder: AbstractEncoder) -> "MaskedSlices":
        """Make the decoder.

        Raises:
            ConfigError: If the encoder is no `SliceTransformer`.
        """
        if not isinstance(encoder, SliceTransformer):
            raise ConfigError(f"Expected a SliceTransformer, whose slices learn from one another, found {type(encoder).__name__}.")
        self.decoder = nn.Linear(encoder.width, encoder.width)
        return self

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """Mean squared error of the slices' vectors, the mean over the views.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("decoder")
        views = [batch] if self.view is None else [self.view(batch, generator), self.view(batch, generator)]
        losses, means = [], []
        assert isinstance(encoder, SliceTransformer)
        for view in views:
            with torch.no_grad(), running_statistics(encoder):
                alone = encoder.slice_tokens(view.images)
            hidden = choose_share(torch.ones(alone.shape[:2], dtype=torch.bool), self.ratio, generator).to(alone.device)
            losses.append(self.error(self.decoder(encoder.mix(alone, hidden)), alone, hidden))
            means.append(self.error(alone.mean(dim=(0, 1)).expand_as(alone), alone, hidden))
        return Loss(torch.stack(losses).mean(), {"mean_error": torch.stack(means).mean()})

    def error(self, predicted: Float[Tensor, "B D W"], alone: Float[Tensor, "B D W"], hidden: Bool[Tensor, "B D"]) -> Float[Tensor, ""]:
        """Mean squared error over the slices that count.

        Args:
            predicted: Predicted vectors of the slices `[B, D, W]`.
            alone: What the encoder makes of each slice alone `[B, D, W]`.
            hidden: Which slices were hidden `[B, D]`.
        """
        squared = (predicted - alone).square().mean(dim=2)
        return squared.mean() if self.loss_on == "all" else squared[hidden].mean()


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Without dropout, and with batch normalisation by running means that stay as they are."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
