"""A linear map of all connections of one atlas: what an encoder with layers has to beat."""

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.one_atlas import check_one_atlas
from graphssl.errors import ConfigError


class LinearEncoder(AbstractEncoder):
    """Every region has a matrix of its own for its row of connections; the pooled vector is the sum over regions.

    There is nothing between connections and pooled vector but a linear map, so that with a head it is a logistic regression whose weights can be
    pre-trained, shared by sources and adapted. Connections are dropped at random in training, which is what keeps thousands of weights from few
    subjects. Maps from each region's row are the edge-to-node filters of BrainNetCNN (Kawahara et al., NeuroImage 2017). No coordinates are read, so
    the weights belong to one atlas, and another is refused.

    Args:
        atlas: Name of the atlas.
        n_regions: Number of its regions.
        width: Width of the tokens, and of the pooled vector.
        dropout: Share of the connections that is dropped in training.

    Raises:
        ConfigError: If the width or the number of regions is below one, or the dropout not in [0, 1).
    """

    def __init__(self, atlas: str, n_regions: int, width: int = 32, dropout: float = 0.5) -> None:
        super().__init__()
        if min(width, n_regions) < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                f"Expected a width and regions from 1 and a dropout in [0, 1), found width={width}, n_regions={n_regions}, dropout={dropout}."
            )
        self.atlas, self.n_regions, self.width, self.dropout = atlas, n_regions, width, dropout
        self.filters = nn.Parameter(torch.randn(n_regions, n_regions, width) / n_regions)  # region, region it is connected with, width
        self.token_width = self.pooled_width = width

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes.

        Raises:
            AtlasError: If a connectome is in another atlas.
        """
        check_one_atlas(batch, self.atlas, self.n_regions, type(self).__name__)
        n = batch.mask.shape[1]  # less than all where no row has the last regions
        weights = F.dropout(batch.weights, self.dropout, self.training)
        tokens = torch.einsum("brc,rcd->brd", weights, self.filters[:n, :n])  # [B, R, D]
        return Embedding(tokens, batch.mask, tokens.sum(dim=1))
