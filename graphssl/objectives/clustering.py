"""Views of a subject belong to the same clusters, which are learned on the way."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import Loss
from graphssl.objectives.heads import used_share
from graphssl.objectives.multi_crop import AbstractMultiCrop, check_share, cross_entropies
from graphssl.objectives.queue import Queue
from graphssl.objectives.two_views import check_positive
from graphssl.views.base import AbstractView

_LARGEST_EXPONENT = 80.0


class SwAV(AbstractMultiCrop):
    """Predict from one view to which prototypes the other was assigned, where assignments use all prototypes alike.

    Swapping assignments between views (Caron et al., NeurIPS 2020), of two views and of small ones, which are assigned nothing themselves. Prototypes
    are directions: they are normalised whenever they are used. Where a minibatch is smaller than the number of prototypes, a queue of earlier
    vectors is assigned with it.

    Args:
        view: The look at a row, drawn twice; or one that gives two whole views and small ones, such as `MultiCrop`.
        n_prototypes: Number of prototypes; assignments of a minibatch and of the queue fill all of them alike, so have no more than these have rows.
        temperature: Temperature of the softmax that predicts.
        epsilon: Softness of the assignments; lower is harder.
        n_iterations: Rounds of Sinkhorn and Knopp.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.
        queue_size: Rows whose vectors are remembered; 0 for no queue. It is used as soon as it is full.
        queue_from: Share of the training after which the queue begins to fill.
        frozen: Share of the training in which the prototypes do not move.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        view: AbstractView | None = None,
        n_prototypes: int = 16,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        n_iterations: int = 3,
        width: int = 64,
        hidden: int = 128,
        queue_size: int = 0,
        queue_from: float = 0.0,
        frozen: float = 0.0,
    ) -> None:
        super().__init__(view, n_prototypes, frozen, width, hidden)
        check_positive(temperature=temperature, epsilon=epsilon, n_iterations=n_iterations)
        check_share(queue_from=queue_from)
        if queue_size < 0:
            raise ConfigError(f"Expected a queue_size of 0 or more, found {queue_size}.")
        self.temperature, self.epsilon, self.n_iterations = temperature, epsilon, n_iterations
        self.queue_size, self.queue_from = queue_size, queue_from

    def prepare(self, encoder: AbstractEncoder) -> "SwAV":
        """Make projector, prototypes, and an empty queue."""
        super().prepare(encoder)
        if self.queue_size:
            self.queue = Queue(self.queue_size, vectors=torch.zeros(self.queue_size, 2, self.width))
        return self

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The mean loss of every view against the assignment of every other whole view, and how evenly the predictions use the prototypes."""
        scores = self.scores(projected)
        with torch.no_grad():
            assigned = [self._assigned(each, view) for view, each in enumerate(scores[:2])]
        if self.queue_size and self.training and self.progress >= self.queue_from:
            self.queue.note(vectors=torch.stack(projected[:2], dim=1))
        used = used_share(torch.softmax(torch.cat(scores[:2]).detach() / self.temperature, dim=1))
        return Loss(cross_entropies(scores, assigned, self.temperature), {"prototypes_used": used})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Note how far the training is, and let the queue take in the vectors of the step."""
        super().after_step(encoder, progress)
        if self.queue_size:
            self.queue.take()

    def _assigned(self, scores: Float[Tensor, "B K"], view: int) -> Float[Tensor, "B K"]:
        if self.queue_size and self.queue.full:
            earlier = self.prototypes(self.queue["vectors"][:, view]).float()
            return sinkhorn(torch.cat([scores, earlier]), self.epsilon, self.n_iterations)[: len(scores)]
        return sinkhorn(scores, self.epsilon, self.n_iterations)


def sinkhorn(scores: Float[Tensor, "B K"], epsilon: float = 0.05, n_iterations: int = 3) -> Float[Tensor, "B K"]:
    """Shares of prototypes that sum to 1 a row and use all prototypes alike, as near to the scores as that allows (SwAV, equation 3).

    Args:
        scores: Scores of the prototypes.
        epsilon: Softness.
        n_iterations: Rounds of normalising columns, then rows.
    """
    low, high = torch.aminmax(scores)
    if float(high - low) > _LARGEST_EXPONENT * epsilon:  # exponentials would leave single precision
        return _sinkhorn_of_logarithms(scores / epsilon, n_iterations)
    kernel = torch.exp(torch.add(-high / epsilon, scores, alpha=1 / epsilon))
    n_rows, n_prototypes = kernel.shape
    rows = kernel.new_ones(n_rows)
    with torch.autocast(kernel.device.type, enabled=False):  # in full precision, also where the training is in half of it
        for _ in range(n_iterations):
            columns = n_rows / n_prototypes / (rows @ kernel)
            rows = 1 / (kernel @ columns)
    return rows.unsqueeze(1) * kernel * columns


def _sinkhorn_of_logarithms(logs: Float[Tensor, "B K"], n_iterations: int) -> Float[Tensor, "B K"]:
    for _ in range(n_iterations):
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()
