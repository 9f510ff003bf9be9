"""Predict what a slow copy of the encoder makes of another view."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.encoders.base import AbstractEncoder
from graphssl.objectives.base import Loss
from graphssl.objectives.heads import projector, used_share
from graphssl.objectives.multi_crop import AbstractMultiCrop, check_share, cross_entropies
from graphssl.objectives.teacher import Teacher, check_momentum, momentum_at
from graphssl.objectives.two_views import AbstractTwoViews, check_positive
from graphssl.views.base import AbstractView


class BYOL(AbstractTwoViews):
    """Predict the teacher's projection of one view from the encoder's projection of the other.

    Bootstrap Your Own Latent (Grill et al., NeurIPS 2020). There are no negatives; the predictor and the slow teacher keep vectors from collapsing.

    Args:
        view: The look at a connectome, drawn twice.
        momentum: Share of the teacher that stays at a step; rises to 1 along a cosine. The paper's 0.996 is for a hundred thousand steps.
        width: Width of the projected vectors.
        hidden: Width of the inner layers of projector and predictor.

    Raises:
        ConfigError: If the momentum is not in [0, 1], or a width is not positive.
    """

    def __init__(self, view: AbstractView | None = None, momentum: float = 0.98, width: int = 64, hidden: int = 128) -> None:
        super().__init__(view, width, hidden)
        check_momentum(momentum)
        self.momentum = momentum

    @property
    def selects_epoch(self) -> bool:
        """No: a loss against a teacher compares epochs only if the teacher stands still."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "BYOL":
        """Make projector and predictor, and the teacher as a copy of the encoder and the projector."""
        super().prepare(encoder)
        self.predictor = projector(self.width, self.hidden, self.width)
        self.teacher = Teacher(encoder, self.projector)
        return self

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The loss of both directions."""
        first, second = self.predictor(projected[0]), self.predictor(projected[1])
        return Loss(byol(first, self.teacher(views[1])) + byol(second, self.teacher(views[0])), {})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Let the teacher follow."""
        self.teacher.follow(encoder, self.projector, momentum_at(self.momentum, progress))


class DINO(AbstractMultiCrop):
    """Agree with the teacher, which sees another view, on how alike a row is to each of a number of prototypes.

    DINO (Caron et al., ICCV 2021). The teacher sees two views, the encoder those and the small ones. The teacher's answers are centred, so that not
    one prototype gets everybody, and sharpened, so that not all get everybody alike: each alone would collapse.

    Args:
        view: The look at a row, drawn twice; or one that gives two whole views and small ones, such as `MultiCrop`.
        n_prototypes: Number of prototypes.
        temperature: Temperature of the encoder's softmax.
        teacher_temperature: Temperature of the teacher's softmax; lower than the other.
        momentum: Share of the teacher that stays at a step; rises to 1 along a cosine.
        center_momentum: Share of the centre that stays at a step.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.
        first_teacher_temperature: Temperature of the teacher's softmax at the beginning, the paper's 0.04; the same as later when left out.
        warmup: Share of the training in which the temperature goes from the first to the later one on a line.
        frozen: Share of the training in which the prototypes do not move; the paper's first epoch.

    Raises:
        ConfigError: If a momentum is not in [0, 1], another number is out of range.
    """

    center: Tensor

    lasting = ("center",)

    def __init__(
        self,
        view: AbstractView | None = None,
        n_prototypes: int = 64,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        momentum: float = 0.98,
        center_momentum: float = 0.9,
        width: int = 64,
        hidden: int = 128,
        first_teacher_temperature: float | None = None,
        warmup: float = 0.0,
        frozen: float = 0.0,
    ) -> None:
        super().__init__(view, n_prototypes, frozen, width, hidden)
        check_positive(temperature=temperature, teacher_temperature=teacher_temperature)
        if first_teacher_temperature is not None:
            check_positive(first_teacher_temperature=first_teacher_temperature)
        check_momentum(momentum)
        check_momentum(center_momentum)
        check_share(warmup=warmup)
        self.temperature, self.teacher_temperature, self.first_teacher_temperature = temperature, teacher_temperature, first_teacher_temperature
        self.momentum, self.center_momentum, self.warmup = momentum, center_momentum, warmup
        self.register_buffer("center", torch.zeros(n_prototypes))
        self._taught: list[Tensor] = []

    def prepare(self, encoder: AbstractEncoder) -> "DINO":
        """Make projector and prototypes, and the teacher as a copy of the encoder and both."""
        super().prepare(encoder)
        self.teacher = Teacher(encoder, self._head())
        return self

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The mean loss of every view against the teacher's answer to every other whole view, and how evenly the teacher uses the prototypes.

        That is the entropy of the prototypes' mean shares as a part of the largest, 1 where all are used alike.
        """
        taught = [self.teacher(view).float() for view in views[:2]]
        return self.agreement([(self.scores(projected), taught)])

    def agreement(self, compared: list[tuple[list[Tensor], list[Tensor]]]) -> Loss:
        """The sum, over scores of views and what the teacher says of the whole ones, of the mean loss of all pairs of two views."""
        temperature = self.teacher_temperature_now()
        losses = [
            cross_entropies(scores, [torch.softmax((answer - self.center) / temperature, dim=1) for answer in taught], self.temperature)
            for scores, taught in compared
        ]
        answers = torch.cat([answer for _, taught in compared for answer in taught])
        if self.training:  # the centre moves after the step, so that the same step gives the same loss
            self._taught.append(answers)
        return Loss(torch.stack(losses).sum(), {"prototypes_used": used_share(torch.softmax((answers - self.center) / temperature, dim=1))})

    def teacher_temperature_now(self) -> float:
        """Temperature of the teacher's softmax at this point of the training."""
        first, last = self.first_teacher_temperature, self.teacher_temperature
        progress = float(self.progress)
        return last if first is None or progress >= self.warmup else first + (last - first) * progress / self.warmup

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Let the teacher follow, and the centre its last answers."""
        super().after_step(encoder, progress)
        if self._taught:
            self.center.lerp_(torch.cat(self._taught).mean(dim=0), 1 - self.center_momentum)
            self._taught = []
        self.teacher.follow(encoder, self._head(), momentum_at(self.momentum, progress))

    def _head(self) -> nn.Sequential:
        return nn.Sequential(self.projector, self.prototypes)


def byol(predicted: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Mean squared distance of normalised vectors, `2 - 2 cos` (BYOL, equation 2); no gradient reaches the target."""
    return 2 - 2 * F.cosine_similarity(predicted.float(), target.detach().float(), dim=1).mean()
