"""From tokens to one vector a sample."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.tokens import SpatialBasis
from graphssl.errors import ConfigError

ReadoutKind = Literal["mean", "anchors"]


class MeanReadout(nn.Module):
    """The mean over observed regions; keeps what the regions share and forgets where it was."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pooled_width = width

    def forward(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B D"]:
        """Mean over the real tokens."""
        weights = batch.mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class AnchorReadout(nn.Module):
    """Means around fixed points of MNI space, side by side: keeps where things are, for any atlas.

    Args:
        width: Width `D` of the tokens.
        pooled_width: Width of the result.
        channels: Width of each token after a linear map; `anchors × channels` numbers are then mapped to the result.
        spacing_mm: Spacing of the anchor points in mm.
    """

    def __init__(self, width: int, pooled_width: int = 128, channels: int = 8, spacing_mm: float = 24.0) -> None:
        super().__init__()
        self.basis = SpatialBasis(spacing_mm)
        self.channels = nn.Linear(width, channels)
        self.project = nn.Linear(len(self.basis) * channels, pooled_width)
        self.pooled_width = pooled_width

    def forward(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B P"]:
        """Weighted means around every anchor, mapped to one vector."""
        basis = self.basis(batch.centroids) * batch.mask.unsqueeze(-1)  # [B, R, A]
        share = basis / basis.sum(dim=1, keepdim=True).clamp(min=1e-2)
        around = torch.matmul(share.transpose(1, 2), self.channels(tokens))  # [B, A, channels]
        return self.project(around.flatten(start_dim=1))


def make_readout(kind: ReadoutKind, width: int) -> MeanReadout | AnchorReadout:
    """The readout of that name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if kind == "mean":
        return MeanReadout(width)
    if kind == "anchors":
        return AnchorReadout(width)
    raise ConfigError(f"Expected the readout to be 'mean' or 'anchors', found {kind!r}.")
