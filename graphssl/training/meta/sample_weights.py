"""A weight for every pair of views, learned: pairs that teach what clean pairs need count more."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from graphssl.data.batch import Batch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import Loss
from graphssl.objectives.contrastive import contrast, nt_xent_logits
from graphssl.objectives.heads import spread
from graphssl.objectives.two_views import AbstractTwoViews, check_looks, check_positive, check_subjects, looks_of, subject_index
from graphssl.training.meta.inner import GradientStep, InnerLoop, Parameters, query_losses
from graphssl.views.base import AbstractView
from graphssl.views.clip import FramePair

_BETAS = 0.9, 0.999
_FEWEST_SUBJECTS = 4  # two to contrast, and two that say what is clean


class PairWeights(nn.Module):
    """A weight between 0 and 1 of a pair, from the pooled vectors of its two views: the CMW-Net of Meta-USCL (Chen et al., IEEE TMI 2022).

    Args:
        width: Width of the pooled vectors.
        hidden: Width of the inner layer.
    """

    def __init__(self, width: int, hidden: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid())

    def forward(self, first: Float[Tensor, "B P"], second: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
        """The weights of pairs."""
        weights: Tensor = self.layers(torch.cat([first, second], dim=1))
        return weights.squeeze(1)


class MetaContrast(AbstractTwoViews):
    """Contrast of two views of a clip, in which every pair has a learned weight (Meta-USCL, Chen et al., IEEE TMI 2022).

    Two views of a clip that are made of different frames may show different things. In every training step a few subjects of the minibatch are set
    aside, and give clean pairs: two looks at one frame. A step of gradient descent on the weighted contrast of the others is tried; how much better
    the clean pairs are told after it is differentiated through that step, and moves the network of the weights (Adam). Then encoder and projector
    learn from the weighted contrast. Where fewer than four subjects are in a minibatch, weights are used and not learned; validation weighs all
    alike.

    Args:
        view: What makes two views of a clip; mixed frames as in the publication when left out.
        clean: What makes clean pairs; two looks at the first frame when left out.
        clean_share: Share of the subjects of a minibatch that are set aside, two at least.
        temperature: Temperature of the softmax.
        inner_rate: Learning rate of the step that is tried.
        inner_decay: Weight decay of that step.
        weight_rate: Learning rate of the network of the weights.
        weight_hidden: Width of its inner layer.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a number is out of range, or a view gives another number of looks.
    """

    moments: Tensor
    n_moves: Tensor

    def __init__(
        self,
        view: AbstractView | None = None,
        clean: AbstractView | None = None,
        clean_share: float = 0.25,
        temperature: float = 0.5,
        inner_rate: float = 0.1,
        inner_decay: float = 1e-4,
        weight_rate: float = 1e-3,
        weight_hidden: int = 10,
        width: int = 128,
        hidden: int = 512,
    ) -> None:
        view = view or FramePair()
        super().__init__(view, width, hidden)
        check_positive(temperature=temperature, inner_rate=inner_rate, weight_rate=weight_rate, weight_hidden=weight_hidden)
        check_looks(clean, small_views=False)
        if not 0 < clean_share < 1 or inner_decay < 0:
            raise ConfigError(f"Expected clean_share between 0 and 1 and no negative inner_decay, found {clean_share} and {inner_decay}.")
        self.clean = clean or FramePair(n_frames=1, then=getattr(view, "then", None))
        self.clean_share, self.temperature = clean_share, temperature
        self.inner_rate, self.inner_decay, self.weight_rate, self.weight_hidden = inner_rate, inner_decay, weight_rate, weight_hidden

    def prepare(self, encoder: AbstractEncoder) -> "MetaContrast":
        """Make the projector and the network of the weights."""
        super().prepare(encoder)
        self.pair_weights = PairWeights(encoder.pooled_width, self.weight_hidden)
        n = parameters_to_vector(self.pair_weights.parameters()).numel()
        self.register_buffer("moments", torch.zeros(2, n))
        self.register_buffer("n_moves", torch.zeros(()))
        return self

    def compare(self, projected: tuple[Float[Tensor, "B D"], ...], views: tuple[Any, ...]) -> Loss:
        """The contrast in which all pairs weigh alike."""
        return contrast(projected, views[0], self.temperature)

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The contrast of a batch: in training that of the subjects that are not set aside, weighted.

        Raises:
            ConfigError: If `prepare` was not called, or a minibatch passes the encoder in parts.
            DataError: If the batch holds one subject only, or none of which the view makes two.
        """
        if not self.training:
            return super().forward(encoder, batch, generator)
        self.check_prepared("pair_weights")
        check_subjects(batch)
        aside = set_aside(batch, self.clean_share, generator)
        views = self.look(batch[~aside], generator)
        parts = {"clean_loss": self._learn_weights(encoder, views, looks_of(self.clean, batch[aside], generator))} if aside.any() else {}
        pooled = self.embedded(encoder, views)
        with torch.no_grad():
            weights = self.pair_weights(*pooled)
        projected = self.projector(pooled[0]), self.projector(pooled[1])
        logits, target = nt_xent_logits(projected[0], projected[1], subject_index(views[0]), self.temperature)
        parts |= {"accuracy": (logits.detach().argmax(dim=1) == target).float().mean()}
        parts |= {"weight_mean": weights.mean(), "weight_spread": weights.std(correction=0)}
        parts |= {"pooled_spread": spread(pooled[0]), "projected_spread": spread(projected[0])}
        return Loss(weighted_contrast(logits, target, weights), parts)

    def clean_gradient(self, encoder: AbstractEncoder, views: Sequence[Any], clean: Sequence[Any]) -> tuple[Tensor, Parameters]:
        """Contrast of clean pairs after the step that is tried, and its gradient with respect to the network of the weights.

        Args:
            encoder: The encoder; neither its weights nor its running means are changed.
            views: Two views of the subjects that are learned from.
            clean: Two views of those that are set aside.
        """
        module = _Contrast(encoder, self.projector, self.pair_weights, self.temperature)
        statistics = {name: buffer.clone() for name, buffer in module.named_buffers()}  # batch normalisation moves these copies

        def loss(parameters: Parameters, pairs: _Pairs) -> Tensor:
            value: Tensor = functional_call(module, {**statistics, **parameters}, (pairs,))
            return value

        own = {name: value for name, value in module.named_parameters() if value.requires_grad}
        theta = {name: value.detach().requires_grad_() for name, value in own.items() if not name.startswith("pair_weights.")}
        phi = {name: value for name, value in own.items() if name.startswith("pair_weights.")}
        inner = InnerLoop(GradientStep(self.inner_rate, self.inner_decay), adapted=list(theta))
        with torch.enable_grad():
            found = query_losses(loss, {**theta, **phi}, [_Pairs(views, True)], [_Pairs(clean, False)], inner, path="sequential")[0]
            gradients = torch.autograd.grad(found, list(phi.values()))
        return found.detach(), dict(zip(phi, gradients, strict=True))

    def _learn_weights(self, encoder: AbstractEncoder, views: Sequence[Any], clean: Sequence[Any]) -> Tensor:
        """Move the network of the weights by a step of Adam (Kingma & Ba, ICLR 2015), whose moments are saved with the objective."""
        if "forward" in vars(encoder):
            raise ConfigError("Expected whole minibatches for MetaContrast, whose trial steps cannot be cut in parts. Leave rows_at_once out.")
        loss, gradients = self.clean_gradient(encoder, views, clean)
        with torch.no_grad():
            gradient = parameters_to_vector(gradients.values())
            self.n_moves += 1
            for moment, beta, power in zip(self.moments, _BETAS, (1, 2), strict=True):
                moment.lerp_(gradient**power, 1 - beta)
            mean, square = (moment / (1 - beta**self.n_moves) for moment, beta in zip(self.moments, _BETAS, strict=True))
            steps = self.weight_rate * mean / (square.sqrt() + 1e-8)
            parameters = list(self.pair_weights.parameters())
            for parameter, step in zip(parameters, steps.split([parameter.numel() for parameter in parameters]), strict=True):
                parameter.sub_(step.view_as(parameter))
        return loss


class _Pairs(NamedTuple):
    views: Sequence[Any]
    weighted: bool


class _Contrast(nn.Module):
    """The contrast of two views as a module of all that has weights."""

    def __init__(self, encoder: AbstractEncoder, projector: nn.Module, pair_weights: PairWeights, temperature: float) -> None:
        super().__init__()
        self.encoder, self.projector, self.pair_weights, self.temperature = encoder, projector, pair_weights, temperature

    def forward(self, pairs: _Pairs) -> Float[Tensor, ""]:
        first, second = (self.encoder(view).pooled for view in pairs.views)
        logits, target = nt_xent_logits(self.projector(first), self.projector(second), subject_index(pairs.views[0]), self.temperature)
        if not pairs.weighted:
            return F.cross_entropy(logits, target)
        # The weights say how much a pair counts, not what its vectors should be: nothing flows back from them into the encoder.
        return weighted_contrast(logits, target, self.pair_weights(first.detach(), second.detach()))


def weighted_contrast(logits: Float[Tensor, "2B 2B"], target: Int[Tensor, "2B"], weights: Float[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean over all anchors, each times the weight of its pair divided by the sum of the weights; alike they give NT-Xent.

    Args:
        logits: Scaled cosines of every view to every other.
        target: The column to find.
        weights: Weight of each pair.
    """
    each = F.cross_entropy(logits, target, reduction="none")
    both = weights.repeat(2)
    return (both * each).sum() / both.sum()


def set_aside(batch: Batch, share: float, generator: torch.Generator) -> Tensor:
    """Rows of a random share of the subjects, two at least and two fewer than all; of none where there are fewer than four.

    Args:
        batch: Rows of some subjects.
        share: Share of the subjects.
        generator: Source of randomness.
    """
    subjects = subject_index(batch).cpu()
    n = int(subjects.max()) + 1
    n_aside = 0 if n < _FEWEST_SUBJECTS else min(n - 2, max(2, round(share * n)))
    chosen = torch.randperm(n, generator=generator) < n_aside
    return chosen[subjects].to(batch.device)
