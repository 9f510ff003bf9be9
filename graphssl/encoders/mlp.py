"""A network without a graph: every region is embedded alone."""

from torch import nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.readout import ReadoutKind, make_readout
from graphssl.encoders.tokens import SpatialTokens


class MLP(AbstractEncoder):
    """Residual feed-forward blocks on each token alone; regions meet in the pooled vector only.

    A token still holds its region's profile of connections: what is missing is that regions learn from one another. A control of ours.

    Args:
        width: Width of the tokens.
        depth: Number of blocks.
        dropout: Dropout of what a block adds.
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: How tokens become one vector: `"anchors"`, `"mean"`, `"attention"` or `"clusters"`.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.1,
        spacing_mm: float = 20.0,
        readout: ReadoutKind = "anchors",
    ) -> None:
        super().__init__()
        self.width, self.depth, self.dropout, self.spacing_mm, self.readout = width, depth, dropout, spacing_mm, readout
        self.tokens = SpatialTokens(width, spacing_mm)
        self.blocks = nn.ModuleList(residual_block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = make_readout(readout, width)
        self.token_width, self.pooled_width = width, self.pool.pooled_width

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes."""
        tokens = self.tokens(batch)  # [B, R, D]
        for block in self.blocks:
            tokens = tokens + block(tokens)
        tokens = self.norm(tokens)
        return Embedding(tokens, batch.mask, self.pool(tokens, batch))


def feed_forward(width: int, expansion: int = 2) -> nn.Sequential:
    """Two layers on each token alone, `expansion` times as wide between them."""
    return nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))


def residual_block(width: int, dropout: float) -> nn.Sequential:
    """What a block adds: normalisation, two layers, dropout."""
    return nn.Sequential(nn.LayerNorm(width), *feed_forward(width), nn.Dropout(dropout))
