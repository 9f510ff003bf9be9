"""Where a region stands in its connectome: random walks and the spectrum, as vectors that are added to tokens.

Both read visible connections only, so nothing hidden leaks, and both are zero for a region without any: hidden, missing and padding are alike.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import check_parts

EncodingKind = Literal["spectral", "random_walk"]

# Eigenvalues of a normalised Laplacian lie in [0, 2]; regions without connections are put out of the way.
_OUTSIDE = 4.0


class RandomWalkEncoding(nn.Module):
    """How likely a walk along the connections comes back after 2, 3, … steps (Dwivedi et al., ICLR 2022), by a linear map.

    A step goes to a neighbour in proportion to the absolute weight: strong connections of either sign are ways, and a walk needs probabilities.
    Probabilities are compared with those of a walk without preference, `1 / n` for `n` connected regions, so atlases of any size agree.

    Args:
        width: Width of the tokens.
        steps: Longest walk, at least 2; without self-loops none comes back after one step.
    """

    def __init__(self, width: int, steps: int = 8) -> None:
        super().__init__()
        self.steps = steps
        self.project = nn.Linear(steps - 1, width)

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B R D"]:
        """What to add to the tokens of a batch."""
        returned, connected = return_probabilities(batch, self.steps)
        excess = returned * connected.sum(dim=1)[:, None, None] - 1
        return self.project(excess) * connected.unsqueeze(-1)


class SpectralEncoding(nn.Module):
    """How a region shares in the eigenvectors of the connectome's Laplacian, slow ones and fast ones, by a learned function of the eigenvalue.

    The encoding of region `i` is `Σₖ vᵢₖ² ψ(λₖ)`, with a small network `ψ`: the diagonal of a learned filter of the Laplacian. Eigenvectors are known
    up to their sign, and those of one eigenvalue up to a rotation, but sums of their squares are not: no random flips are needed, as in the invariant
    networks of Lim et al. (ICLR 2023) and Huang et al. (ICLR 2024). The squares of a region sum to one in any atlas.

    Eigenvectors are not differentiated, because their gradient is infinite where eigenvalues meet: saliency does not see this path.

    Args:
        width: Width of the tokens.
        hidden: Inner width of `ψ`.
    """

    def __init__(self, width: int, hidden: int = 32) -> None:
        super().__init__()
        self.filter = nn.Sequential(nn.Linear(1, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B R D"]:
        """What to add to the tokens of a batch."""
        values, vectors, connected = signed_spectrum(batch)
        return torch.matmul(vectors.square(), self.filter(values.unsqueeze(-1))) * connected.unsqueeze(-1)


def return_probabilities(batch: ConnectomeBatch, steps: int) -> tuple[Float[Tensor, "B R S"], Bool[Tensor, "B R"]]:
    """Probability that a walk of 2, …, `steps` steps from a region ends there, and which regions have connections to walk on.

    The walk's matrix `D⁻¹|W|` has the diagonal of the symmetric `S = D^(-1/2) |W| D^(-1/2)` in every power, and that of `S^(a+b)` is the row sum of
    `Sᵃ ∘ Sᵇ`: half of the powers are enough.

    Args:
        batch: Connectomes.
        steps: Longest walk, at least 2.
    """
    step, connected = _normalised(batch.weights.abs())
    returns, power, longer = [], step, step
    for length in range(2, steps + 1):
        if length % 2:
            longer = torch.matmul(power, step)
        else:
            power = longer
        returns.append((power * longer).sum(dim=-1))
    return torch.stack(returns, dim=-1), connected


@torch.no_grad()
def signed_spectrum(batch: ConnectomeBatch) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R R"], Bool[Tensor, "B R"]]:
    """Eigenvalues and eigenvectors (in columns) of the signed normalised Laplacian `I − D^(-1/2) W D^(-1/2)`, and which regions have connections.

    The degrees of signed weights may vanish or be negative; absolute ones keep the Laplacian positive semidefinite with eigenvalues in [0, 2], and a
    negative connection drives its two ends apart (Kunegis et al., SDM 2010). For positive weights it is the usual one. Regions without connections
    have eigenvectors of their own, with eigenvalues above 2.

    Args:
        batch: Connectomes.
    """
    adjacency, connected = _normalised(batch.weights)
    diagonal = torch.where(connected, 1.0, _OUTSIDE).to(adjacency.dtype)
    values, vectors = torch.linalg.eigh(torch.diag_embed(diagonal) - adjacency)
    return values, vectors, connected


def make_encodings(kinds: tuple[EncodingKind, ...], width: int) -> nn.ModuleList:
    """The encodings of those names.

    Raises:
        ConfigError: If one is unknown or named twice.
    """
    check_parts("encodings", kinds, get_args(EncodingKind))
    makers = {"spectral": SpectralEncoding, "random_walk": RandomWalkEncoding}
    return nn.ModuleList(makers[kind](width) for kind in kinds)


def _normalised(weights: Float[Tensor, "B R R"]) -> tuple[Float[Tensor, "B R R"], Bool[Tensor, "B R"]]:
    degree = weights.abs().sum(dim=-1)
    connected = degree > 0
    root = torch.where(connected, degree, 1.0).rsqrt()
    return root.unsqueeze(2) * weights * root.unsqueeze(1), connected
