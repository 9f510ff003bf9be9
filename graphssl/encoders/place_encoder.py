"""A linear map of connections between places: the linear encoder for every atlas."""

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.tokens import SpatialBasis
from graphssl.errors import ConfigError

_SPARSE = 1e-2


class PlaceEncoder(AbstractEncoder):
    """Connections are averaged between neighbourhoods of MNI space and mapped linearly; the same weights serve every atlas.

    A neighbourhood is connected with another as the regions near the one are with those near the other, on average, over visible connections. What
    `LinearEncoder` is for one atlas this is for all: no layers, so that what an encoder with layers adds can be told. The token of a region is that
    of the places it lies in. A control of ours.

    Args:
        width: Width of the tokens, and of the pooled vector.
        spacing_mm: Spacing of the neighbourhoods in mm.
        dropout: Share of the connections between places that is dropped in training.

    Raises:
        ConfigError: If the width is below one, or the dropout not in [0, 1).
    """

    def __init__(self, width: int = 32, spacing_mm: float = 24.0, dropout: float = 0.5) -> None:
        super().__init__()
        if width < 1 or not 0 <= dropout < 1:
            raise ConfigError(f"Expected a width from 1 and a dropout in [0, 1), found width={width}, dropout={dropout}.")
        self.width, self.spacing_mm, self.dropout = width, spacing_mm, dropout
        self.basis = SpatialBasis(spacing_mm)
        n = len(self.basis)
        self.filters = nn.Parameter(torch.randn(n, n, width) / n)  # place, place it is connected with, width
        self.token_width = self.pooled_width = width

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes."""
        basis = self.basis(batch.centroids) * batch.mask.unsqueeze(-1)  # [B, R, K]
        total, count = (basis.mT @ values @ basis for values in (batch.weights, batch.visible.to(basis.dtype)))  # each [B, K, K]
        between = F.dropout(total / (count + _SPARSE), self.dropout, self.training)
        places = torch.einsum("bkl,kld->bkd", between, self.filters)  # [B, K, D]
        shares = basis / basis.sum(dim=2, keepdim=True).clamp(min=_SPARSE)
        return Embedding(shares @ places, batch.mask, places.sum(dim=1))
