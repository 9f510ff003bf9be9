"""Two views of a connectome belong to the same clusters, which are learned on the way."""

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.objectives.base import Loss
from graphssl.objectives.heads import Prototypes, used_share
from graphssl.objectives.two_views import AbstractTwoViews, check_positive
from graphssl.views.base import AbstractView


class SwAV(AbstractTwoViews):
    """Predict from one view to which prototypes the other was assigned, where assignments use all prototypes alike.

    Swapping assignments between views (Caron et al., NeurIPS 2020) with two views and without a queue. Prototypes are directions: they are normalised
    whenever they are used.

    Args:
        view: The look at a connectome, drawn twice.
        n_prototypes: Number of prototypes; assignments of a minibatch fill all of them alike, so have no more than it has connectomes.
        temperature: Temperature of the softmax that predicts.
        epsilon: Softness of the assignments; lower is harder.
        n_iterations: Rounds of Sinkhorn and Knopp.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a number is not positive.
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
    ) -> None:
        super().__init__(view, width, hidden)
        check_positive(n_prototypes=n_prototypes, temperature=temperature, epsilon=epsilon, n_iterations=n_iterations)
        self.n_prototypes, self.temperature, self.epsilon, self.n_iterations = n_prototypes, temperature, epsilon, n_iterations

    @property
    def selects_epoch(self) -> bool:
        """No: assignments move with the encoder that they are compared with."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "SwAV":
        """Make projector and prototypes."""
        super().prepare(encoder)
        self.prototypes = Prototypes(self.width, self.n_prototypes)
        return self

    def compare(self, projected: tuple[Tensor, Tensor], views: tuple[ConnectomeBatch, ConnectomeBatch]) -> Loss:
        """The loss of both directions, and how evenly the predictions use the prototypes."""
        scores = [self.prototypes(vectors).float() for vectors in projected]
        assigned = [sinkhorn(each.detach(), self.epsilon, self.n_iterations) for each in scores]
        used = used_share(torch.softmax(torch.cat(scores).detach() / self.temperature, dim=1))
        losses = swapped(scores[0], assigned[1], self.temperature), swapped(scores[1], assigned[0], self.temperature)
        return Loss((losses[0] + losses[1]) / 2, {"prototypes_used": used})


def sinkhorn(scores: Float[Tensor, "B K"], epsilon: float = 0.05, n_iterations: int = 3) -> Float[Tensor, "B K"]:
    """Shares of prototypes that sum to 1 a row and use all prototypes alike, as near to the scores as that allows (SwAV, equation 3).

    Args:
        scores: Scores of the prototypes.
        epsilon: Softness.
        n_iterations: Rounds of normalising columns, then rows.
    """
    logs = scores / epsilon
    for _ in range(n_iterations):  # logarithms, since exp(1 / epsilon) leaves single precision soon
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def swapped(scores: Float[Tensor, "B K"], assigned: Float[Tensor, "B K"], temperature: float = 0.1) -> Float[Tensor, ""]:
    """Cross-entropy of a view's softmax with the assignment of the other view (SwAV, equation 2)."""
    return -(assigned * torch.log_softmax(scores / temperature, dim=1)).sum(dim=1).mean()
