"""A transformer over rows of one atlas, for comparison with encoders that read any."""

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, check_heads
from graphssl.encoders.biases import AttentionBias
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.one_atlas import check_one_atlas
from graphssl.encoders.readout import ClusterReadout


class BrainNetworkTransformer(AbstractEncoder):
    """Attention among regions known by their row, with the clusters readout (Kan et al., NeurIPS 2022).

    The token of a region is a linear map of its row of connections plus a learned vector of its own. No coordinates are read, so the weights belong
    to one atlas, and another is refused.

    Args:
        atlas: Name of the atlas.
        n_regions: Number of its regions.
        width: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        edges: False cuts every edge, so that each region sees only itself: the control of edge ablation.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    def __init__(
        self,
        atlas: str,
        n_regions: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        edges: bool = True,
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.atlas, self.n_regions = atlas, n_regions
        self.width, self.depth, self.heads, self.dropout, self.edges = width, depth, heads, dropout, edges
        self.profile = nn.Linear(n_regions, width)
        self.identity = nn.Parameter(0.02 * torch.randn(n_regions, width))
        self.bias = AttentionBias(heads, ())
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = ClusterReadout(width)
        self.token_width, self.pooled_width = width, self.pool.pooled_width

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes.

        Raises:
            AtlasError: If a connectome is in another atlas.
        """
        check_one_atlas(batch, self.atlas, self.n_regions, type(self).__name__)
        n = batch.mask.shape[1]  # less than all where no row has the last regions
        tokens = F.linear(batch.weights, self.profile.weight[:, :n], self.profile.bias) + self.identity[:n]  # [B, R, D]
        allowed = self.bias(batch) if self.edges else None  # [B, 1, R, R]
        for block in self.blocks:
            tokens = block(tokens, allowed)
        tokens = self.norm(tokens)
        return Embedding(tokens, batch.mask, self.pool(tokens, batch))
