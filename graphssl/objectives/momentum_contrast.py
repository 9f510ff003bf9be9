"""Find the other view of a subject among the views of many earlier ones, which a queue remembers."""

import hashlib
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.batch import Batch
from graphssl.encoders.base import AbstractEncoder
from graphssl.objectives.base import Loss
from graphssl.objectives.queue import Queue
from graphssl.objectives.teacher import Teacher, check_momentum
from graphssl.objectives.two_views import AbstractTwoViews, check_positive, subject_names
from graphssl.views.base import AbstractView


class MoCo(AbstractTwoViews):
    """Momentum contrast: the encoder's vector of one view is to be nearest to the teacher's vector of the other, among those of earlier minibatches.

    MoCo v2 (He et al., CVPR 2020; Chen et al., 2020, arXiv 2003.04297). The number of negatives is the size of the queue, whatever the minibatch is.
    Vectors of the same subject in the queue are left out, since in a cohort that is smaller than ImageNet they come round often. The teacher
    normalises by running means, so that nothing of a minibatch is known by its statistics, for which the papers shuffle it among devices.

    Args:
        view: The look at a row, drawn twice.
        temperature: Temperature of the softmax.
        queue_size: Vectors that are remembered. The paper's 65,536 are for a million images; have no more than the cohort has rows.
        momentum: Share of the teacher that stays at a step. The paper's 0.999 is for hundreds of thousands of steps.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If the momentum is not in [0, 1], or another number is not positive.
    """

    def __init__(
        self,
        view: AbstractView | None = None,
        temperature: float = 0.2,
        queue_size: int = 1024,
        momentum: float = 0.99,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__(view, width, hidden)
        check_positive(temperature=temperature, queue_size=queue_size)
        check_momentum(momentum)
        self.temperature, self.queue_size, self.momentum = temperature, queue_size, momentum

    @property
    def selects_epoch(self) -> bool:
        """No: teacher and queue move with the encoder that they are compared with."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "MoCo":
        """Make the projector, the teacher as a copy of encoder and projector, and a queue of random vectors, which belong to nobody."""
        super().prepare(encoder)
        self.teacher = Teacher(encoder, self.projector, batch_statistics=False)
        vectors = F.normalize(torch.randn(self.queue_size, self.width), dim=1)
        self.queue = Queue(self.queue_size, keys=vectors, owners=torch.full((self.queue_size,), -1))
        return self

    def embedded(self, encoder: AbstractEncoder, views: tuple[Any, ...]) -> tuple[Float[Tensor, "B P"], ...]:
        """Pooled vectors of the first view; the second is the teacher's."""
        return (encoder(views[0]).pooled,)

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The loss, and how often the other view was the most alike."""
        keys = F.normalize(self.teacher(views[1]).float(), dim=1)
        owners = owner_numbers(views[1])
        left_out = owners.unsqueeze(1) == self.queue["owners"]
        logits = momentum_logits(projected[0], keys, self.queue["keys"], left_out, self.temperature)
        if self.training:
            self.queue.note(keys=keys, owners=owners)
        target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return Loss(F.cross_entropy(logits, target), {"accuracy": (logits.detach().argmax(dim=1) == 0).float().mean()})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Let the teacher follow, and the queue take in the vectors of the step."""
        self.teacher.follow(encoder, self.projector, self.momentum)
        self.queue.take()


def momentum_logits(
    queries: Float[Tensor, "B D"],
    keys: Float[Tensor, "B D"],
    queue: Float[Tensor, "Q D"],
    left_out: Tensor,
    temperature: float,
) -> Float[Tensor, "B one_and_Q"]:
    """Scaled cosines of each query to its own key, which is the first column, and to the queue (MoCo, algorithm 1).

    Args:
        queries: Projected views; their gradient is the only one.
        keys: The teacher's vectors of the other views, of length 1.
        queue: Vectors of earlier minibatches, of length 1.
        left_out: Which of them a query is not compared with `[B, Q]`.
        temperature: Temperature of the softmax.
    """
    vectors = F.normalize(queries.to(keys.dtype), dim=1)
    own = (vectors * keys.detach()).sum(dim=1, keepdim=True)
    others = (vectors @ queue.T).masked_fill(left_out, float("-inf"))
    return torch.cat([own, others], dim=1) / temperature


def owner_numbers(batch: Batch) -> Int[Tensor, "B"]:
    """A number a subject that is the same in every minibatch and every run: 63 bits of a hash of its id."""
    numbers = {subject: int.from_bytes(hashlib.blake2b(subject.encode(), digest_size=8).digest()) >> 1 for subject in set(subject_names(batch))}
    return torch.tensor([numbers[subject] for subject in subject_names(batch)], device=batch.device)
