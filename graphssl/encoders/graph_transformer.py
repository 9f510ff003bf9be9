"""A dense graph transformer over brain regions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.readout import ReadoutKind, make_readout
from graphssl.encoders.tokens import SpatialTokens
from graphssl.errors import ConfigError


class GraphTransformer(AbstractEncoder):
    """Every region attends to every other, drawn to those it is connected with and those that lie near.

    Attention logits get a bias per head, `a · weight − b · distance`, as Graphormer adds structure to attention (Ying et al., NeurIPS 2021).
    Slopes are fixed and differ by head, as in ALiBi (Press et al., ICLR 2022); `learn_bias` trains them at about twice the cost.

    Args:
        width: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: `"anchors"` keeps where things are, `"mean"` is the plain mean.
        learn_bias: Whether the slopes of the attention bias are trained.
        edges: False cuts every edge, so that each region sees only itself: the control of edge ablation.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        spacing_mm: float = 20.0,
        readout: ReadoutKind = "anchors",
        learn_bias: bool = False,
        edges: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"Expected the width to be a multiple of the {heads} heads, found {width}.")
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.spacing_mm, self.readout, self.learn_bias, self.edges = spacing_mm, readout, learn_bias, edges
        self.tokens = SpatialTokens(width, spacing_mm)
        self.bias = AttentionBias(heads, learned=learn_bias)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = make_readout(readout, width)
        self.token_width, self.pooled_width = width, self.pool.pooled_width

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes."""
        tokens = self.tokens(batch)  # [B, R, D]
        bias = self.bias(batch) if self.edges else None  # [B, H, R, R]
        for block in self.blocks:
            tokens = block(tokens, bias)
        tokens = self.norm(tokens)
        return Embedding(tokens, batch.mask, self.pool(tokens, batch))


class AttentionBias(nn.Module):
    """Bias of the attention logits `[B, H, R, R]` from connection weight and distance; minus infinity towards padding.

    Args:
        heads: Number of heads; the first is without preference, the others grow steeper.
        learned: Whether the slopes are trained.
    """

    slopes: Tensor

    def __init__(self, heads: int, *, learned: bool = False) -> None:
        super().__init__()
        steps = torch.arange(heads, dtype=torch.float32)
        slopes = torch.stack([steps / max(1, heads - 1) * 2, (steps % 2) * 4])  # of weight (per SD), of distance (per 100 mm)
        if learned:
            self.slopes = nn.Parameter(slopes)
        else:
            self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B H R R"]:
        """The bias of a batch."""
        allowed = batch.mask.unsqueeze(1) & torch.ones_like(batch.visible)
        itself = torch.eye(batch.mask.shape[1], dtype=torch.bool, device=batch.device)
        distance = torch.cdist(batch.centroids, batch.centroids) / 100  # [B, R, R]
        slope_weight, slope_distance = self.slopes[:, None, :, None, None]  # each [1, H, 1, 1]
        bias = slope_weight * batch.weights.clamp(-3, 3).unsqueeze(1) - slope_distance * distance.unsqueeze(1)
        return bias.masked_fill(~(allowed | itself).unsqueeze(1), float("-inf"))


class Block(nn.Module):
    """Attention and feed-forward with normalisation before each (pre-LN).

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        dropout: Dropout of both outputs.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B R D"], bias: Float[Tensor, "B H R R"] | None) -> Float[Tensor, "B R D"]:
        """One round of attention; without a bias each region attends to itself alone."""
        tokens = tokens + self.drop(self.out(self._attend(self.norm_attention(tokens), bias)))
        return tokens + self.drop(self.feed(self.norm_feed(tokens)))

    def _attend(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, H, R, D / H]
        if bias is None:
            return value.transpose(1, 2).flatten(start_dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(start_dim=2)
