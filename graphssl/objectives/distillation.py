"""Predict what a slow copy of the encoder makes of another view."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.objectives.base import Loss
from graphssl.objectives.heads import Prototypes, projector, used_share
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

    def compare(self, projected: tuple[Tensor, Tensor], views: tuple[ConnectomeBatch, ConnectomeBatch]) -> Loss:
        """The loss of both directions."""
        first, second = self.predictor(projected[0]), self.predictor(projected[1])
        return Loss(byol(first, self.teacher(views[1])) + byol(second, self.teacher(views[0])), {})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Let the teacher follow."""
        self.teacher.follow(encoder, self.projector, momentum_at(self.momentum, progress))


class DINO(AbstractTwoViews):
    """Agree with the teacher, which sees the other view, on how alike a connectome is to each of a number of prototypes.

    DINO (Caron et al., ICCV 2021) with two views. The teacher's answers are centred, so that not one prototype gets everybody, and sharpened, so that
    not all get everybody alike: each alone would collapse.

    Args:
        view: The look at a connectome, drawn twice.
        n_prototypes: Number of prototypes.
        temperature: Temperature of the encoder's softmax.
        teacher_temperature: Temperature of the teacher's softmax; lower than the other.
        momentum: Share of the teacher that stays at a step; rises to 1 along a cosine.
        center_momentum: Share of the centre that stays at a step.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a momentum is not in [0, 1], or another number is not positive.
    """

    center: Tensor
    taught_mean: Tensor

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
    ) -> None:
        super().__init__(view, width, hidden)
        check_positive(n_prototypes=n_prototypes, temperature=temperature, teacher_temperature=teacher_temperature)
        check_momentum(momentum)
        check_momentum(center_momentum)
        self.n_prototypes, self.temperature, self.teacher_temperature = n_prototypes, temperature, teacher_temperature
        self.momentum, self.center_momentum = momentum, center_momentum
        self.register_buffer("center", torch.zeros(n_prototypes))
        self.register_buffer("taught_mean", torch.zeros(n_prototypes), persistent=False)

    @property
    def selects_epoch(self) -> bool:
        """No: a loss against a teacher compares epochs only if the teacher stands still."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "DINO":
        """Make projector and prototypes, and the teacher as a copy of the encoder and both."""
        super().prepare(encoder)
        self.prototypes = Prototypes(self.width, self.n_prototypes)
        self.teacher = Teacher(encoder, self._head())
        return self

    def compare(self, projected: tuple[Tensor, Tensor], views: tuple[ConnectomeBatch, ConnectomeBatch]) -> Loss:
        """The loss of both directions, and the entropy of the prototypes' mean shares as a part of the largest, 1 where all are used alike."""
        taught = self.teacher(views[0]).float(), self.teacher(views[1]).float()
        scores = self.prototypes(projected[0]), self.prototypes(projected[1])
        temperatures = self.temperature, self.teacher_temperature
        losses = dino(scores[0], taught[1], self.center, *temperatures), dino(scores[1], taught[0], self.center, *temperatures)
        used = used_share(torch.softmax((torch.cat(taught) - self.center) / self.teacher_temperature, dim=1))
        if self.training:  # the centre moves after the step, so that the same step gives the same loss
            self.taught_mean.copy_(torch.cat(taught).mean(dim=0))
        return Loss((losses[0] + losses[1]) / 2, {"prototypes_used": used})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Let the teacher follow, and the centre its last answers."""
        self.center.lerp_(self.taught_mean, 1 - self.center_momentum)
        self.teacher.follow(encoder, self._head(), momentum_at(self.momentum, progress))

    def _head(self) -> nn.Sequential:
        return nn.Sequential(self.projector, self.prototypes)


def byol(predicted: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Mean squared distance of normalised vectors, `2 - 2 cos` (BYOL, equation 2); no gradient reaches the target."""
    return 2 - 2 * F.cosine_similarity(predicted.float(), target.detach().float(), dim=1).mean()


def dino(
    scores: Float[Tensor, "B K"],
    taught: Float[Tensor, "B K"],
    center: Float[Tensor, "K"],
    temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    """Cross-entropy of the encoder's shares with the teacher's centred and sharpened ones (DINO, algorithm 1); no gradient reaches the teacher.

    Args:
        scores: The encoder's scores of the prototypes.
        taught: The teacher's scores of another view.
        center: What is taken from the teacher's scores.
        temperature: Temperature of the encoder's softmax.
        teacher_temperature: Temperature of the teacher's softmax.
    """
    target = torch.softmax((taught.detach() - center) / teacher_temperature, dim=1)
    return -(target * torch.log_softmax(scores.float() / temperature, dim=1)).sum(dim=1).mean()
