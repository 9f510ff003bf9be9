"""What a task with labels minimises: cross-entropy of a linear head on an encoder."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.encoders.base import AbstractEncoder


class LabelledLoss(nn.Module):
    """Cross-entropy of a linear head on the pooled vector: a batch and its classes in, a scalar out.

    Args:
        encoder: The encoder.
        n_classes: Number of classes.
    """

    def __init__(self, encoder: AbstractEncoder, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.pooled_width, n_classes)

    def forward(self, labelled: tuple[Any, Int[Tensor, "B"]]) -> Float[Tensor, ""]:
        """The loss of rows and their classes."""
        batch, labels = labelled
        return F.cross_entropy(self.head(self.encoder(batch).pooled), labels)
