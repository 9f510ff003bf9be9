"""A dense graph transformer over brain regions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.builder import AbstractBuilder
from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, check_heads
from graphssl.encoders.biases import AttentionBias, BiasKind
from graphssl.encoders.covariates import Covariates, CovariateTokens, described_covariates, with_covariates
from graphssl.encoders.encodings import EncodingKind, make_encodings
from graphssl.encoders.mlp import feed_forward
from graphssl.encoders.readout import ReadoutKind, make_readout
from graphssl.encoders.tokens import SpatialTokens
from graphssl.graphs import ConnectomeBuilder


class GraphTransformer(AbstractEncoder):
    """Every region attends to every other, drawn to those it is connected with and those that lie near.

    Attention logits get a bias per head, such as `a · weight − b · distance`, as Graphormer adds structure to attention (Ying et al., NeurIPS 2021).
    Slopes are fixed and differ by head, as in ALiBi (Press et al., ICLR 2022); `learn_bias` trains them at about twice the cost. Each bias and each
    encoding is switched by its name, so that what it is worth can be told by leaving it out.

    Covariates of the subject are tokens beside the regions, if the builder gives any: regions attend to them, they attend to regions, and they are
    added to the pooled vector. `tokens` of the embedding are those of the regions all the same.

    Args:
        width: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: How tokens become one vector: `"anchors"`, `"mean"`, `"attention"` or `"clusters"`.
        biases: What draws attention: `"weight"` of the connection, `"distance"` in mm, same `"network"`.
        encodings: What tokens tell beside profile and place: `"spectral"`, `"random_walk"`.
        learn_bias: Whether the slopes of the attention biases are trained.
        edges: False cuts every edge, so that each region sees only itself, without biases and encodings: the control of edge ablation. Covariates
            are then read by the pooled vector alone.
        covariates: Pieces of each number and categories of each other covariate, by name; `for_builder` fills it in.

    Raises:
        ConfigError: If the heads do not divide the width, a bias, encoding or readout is unknown, or covariates differ in pieces.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        spacing_mm: float = 20.0,
        readout: ReadoutKind = "anchors",
        biases: tuple[BiasKind, ...] = ("weight", "distance"),
        encodings: tuple[EncodingKind, ...] = (),
        learn_bias: bool = False,
        edges: bool = True,
        covariates: Covariates | None = None,
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.spacing_mm, self.readout, self.learn_bias, self.edges = spacing_mm, readout, learn_bias, edges
        self.biases, self.encodings = tuple(biases), tuple(encodings)
        self.tokens = SpatialTokens(width, spacing_mm)
        self.added = make_encodings(self.encodings if edges else (), width)
        self.bias = AttentionBias(heads, self.biases, learned=learn_bias)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = make_readout(readout, width)
        self.token_width, self.pooled_width = width, self.pool.pooled_width
        self.covariates = {name: known if isinstance(known, int) else tuple(known) for name, known in covariates.items()} if covariates else None
        self.beside = CovariateTokens(self.covariates, width, self.pooled_width) if self.covariates else None

    def for_builder(self, builder: AbstractBuilder) -> "GraphTransformer":
        """One of the same size that reads the covariates of a fitted builder, with new random weights; itself where it does already."""
        covariates = described_covariates(builder.covariates_) if isinstance(builder, ConnectomeBuilder) else None
        if list((covariates or {}).items()) == list((self.covariates or {}).items()):
            return self
        return type(self)(**{**self.arguments(), "covariates": covariates})

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes.

        Raises:
            DataError: If it reads covariates that the batch lacks.
        """
        tokens = self.tokens(batch)  # [B, R, D]
        for encoding in self.added:
            tokens = tokens + encoding(batch)
        bias = self.bias(batch) if self.edges else None  # [B, H, R, R]
        if self.beside is not None:
            known = self.beside(batch)  # [B, C, D]
            bias = None if bias is None else with_covariates(bias, batch.mask, known.shape[1])
            tokens = torch.cat([tokens, known], dim=1)
        for block in self.blocks:
            tokens = block(tokens, bias)
        tokens = self.norm(tokens)
        if self.beside is None:
            return Embedding(tokens, batch.mask, self.pool(tokens, batch))
        tokens, known = tokens.split([batch.mask.shape[1], tokens.shape[1] - batch.mask.shape[1]], dim=1)
        return Embedding(tokens, batch.mask, self.pool(tokens, batch) + self.beside.pooled(known))


class Block(nn.Module):
    """Attention and feed-forward with normalisation before each (pre-LN).

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        dropout: Dropout of both outputs.
        expansion: How many times as wide the feed-forward is inside.
    """

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = feed_forward(width, expansion)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B R D"], bias: Tensor | None) -> Float[Tensor, "B R D"]:
        """One round of attention with a bias `[B, H, R, R]` or a mask `[B, 1, R, R]`; without either each token attends to itself alone."""
        tokens = tokens + self.drop(self.out(self._attend(self.norm_attention(tokens), bias)))
        return tokens + self.drop(self.feed(self.norm_feed(tokens)))

    def _attend(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, H, R, D / H]
        if bias is None:
            return value.transpose(1, 2).flatten(start_dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(start_dim=2)
