"""What stands between the pooled vector and a loss: projectors, prototypes, and how far vectors are spread."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def projector(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """Two layers with batch normalisation between them, as in SimCLR and BYOL; it is thrown away after pre-training.

    Args:
        width_in: Width of what comes in.
        hidden: Width of the inner layer.
        width_out: Width of what comes out.
    """
    return nn.Sequential(nn.Linear(width_in, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width_out))


class Prototypes(nn.Module):
    """Cosine of a vector to each of a number of learned directions.

    Args:
        width: Width of the vectors.
        n_prototypes: Number of directions.
    """

    def __init__(self, width: int, n_prototypes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(F.normalize(torch.randn(n_prototypes, width), dim=1))

    def forward(self, vectors: Float[Tensor, "B D"], *, frozen: bool = False) -> Float[Tensor, "B K"]:
        """Cosines; only the directions of the parameters matter, and they get no gradient where they are frozen."""
        directions = self.directions.detach() if frozen else self.directions
        return F.linear(F.normalize(vectors, dim=1), F.normalize(directions, dim=1))


def spread(vectors: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """How far directions of vectors are spread: 0 where all are the same (collapse), 1 where they point anywhere alike.

    The root mean square over the widths of the standard deviation of normalised vectors, times `√D` (Chen & He, CVPR 2021, section 4.1).
    """
    directions = F.normalize(vectors.detach().float(), dim=1)
    return directions.var(dim=0, correction=0).sum().sqrt()


def used_share(shares: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Entropy of the mean shares of prototypes divided by its largest value: 1 where all are used alike, 0 where one gets everybody."""
    mean = shares.detach().mean(dim=0)
    return torch.special.entr(mean).sum() / math.log(max(2, len(mean)))
