"""Message-passing networks of PyTorch Geometric on the strongest connections, for comparison with the transformer."""

from abc import abstractmethod
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, check_heads
from graphssl.encoders.mlp import feed_forward
from graphssl.encoders.readout import ReadoutKind, make_readout
from graphssl.encoders.tokens import SpatialTokens
from graphssl.errors import ConfigError
from graphssl.graphs.sparsify import densest

SignPolicy = Literal["positive", "absolute"]


class AbstractMessagePassing(AbstractEncoder):
    """Rounds of message passing along the strongest connections, each with normalisation before it and a residual around it.

    All graphs of a batch are one graph without edges between them; padding is nodes without edges.

    Args:
        width: Width of the tokens.
        depth: Number of rounds.
        dropout: Dropout of what a round adds.
        density: Share of the visible connections that are edges, the strongest first, in (0, 1].
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: How tokens become one vector: `"anchors"`, `"mean"`, `"attention"` or `"clusters"`.
        edges: False leaves each region only itself: the control of edge ablation.

    Raises:
        ConfigError: If the density is out of range.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.1,
        density: float = 0.1,
        spacing_mm: float = 20.0,
        readout: ReadoutKind = "anchors",
        edges: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < density <= 1:
            raise ConfigError(f"Expected a density in (0, 1], found {density}. It is the share of the visible connections that are edges.")
        self.width, self.depth, self.dropout, self.density = width, depth, dropout, density
        self.spacing_mm, self.readout, self.edges = spacing_mm, readout, edges
        self.tokens = SpatialTokens(width, spacing_mm)
        self.layers = nn.ModuleList(self.make_layer() for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.pool = make_readout(readout, width)
        self.token_width, self.pooled_width = width, self.pool.pooled_width

    @abstractmethod
    def make_layer(self) -> nn.Module:
        """A layer of PyTorch Geometric from `width` to `width`, one a round; it sees to a region's own part."""

    @abstractmethod
    def edge_weights(self, weights: Float[Tensor, "B R R"]) -> Float[Tensor, "B R R"]:
        """What connection weights mean as weights of edges; zero is no edge."""

    @abstractmethod
    def pass_messages(
        self, layer: nn.Module, nodes: Float[Tensor, "N D"], edge_index: Int[Tensor, "2 E"], weight: Float[Tensor, "E"]
    ) -> Float[Tensor, "N D"]:
        """One round.

        Args:
            layer: The layer of the round.
            nodes: What the nodes hold `[N, D]`, all graphs of the batch below one another.
            edge_index: Source and target of each edge `[2, E]`.
            weight: Weight of each edge `[E]`.
        """

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        """Embed a batch of connectomes."""
        edge_index, weight = block_diagonal(*self._edges(batch))
        nodes = self.tokens(batch).flatten(end_dim=1)  # [B R, D]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            nodes = nodes + self.drop(F.gelu(self.pass_messages(layer, norm(nodes), edge_index, weight)))
        tokens = self.norm(nodes).unflatten(0, batch.mask.shape)
        return Embedding(tokens, batch.mask, self.pool(tokens, batch))

    def _edges(self, batch: ConnectomeBatch) -> tuple[Tensor, Tensor]:
        if not self.edges:
            return torch.zeros_like(batch.visible), batch.weights
        weights = self.edge_weights(batch.weights)
        return densest(replace(batch, weights=weights), self.density) & (weights != 0), weights


class GCN(AbstractMessagePassing):
    """Graph convolution (Kipf & Welling, ICLR 2017), PyTorch Geometric's `GCNConv`.

    Messages are divided by the roots of the degrees at both ends. Degrees are sums of weights, so negative connections could make them negative and
    the root NaN: a sign policy says what becomes of them.

    Args:
        width: Width of the tokens.
        depth: Number of rounds.
        dropout: Dropout of what a round adds.
        density: Share of the visible connections that are edges, in (0, 1].
        signed: `"positive"` takes the strongest positive connections only, `"absolute"` the strongest of either sign with absolute weights.
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: How tokens become one vector: `"anchors"`, `"mean"`, `"attention"` or `"clusters"`.
        edges: False leaves each region only itself: the control of edge ablation.

    Raises:
        ConfigError: If the density is out of range or the sign policy unknown.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.1,
        density: float = 0.1,
        signed: SignPolicy = "positive",
        spacing_mm: float = 20.0,
        readout: ReadoutKind = "anchors",
        edges: bool = True,
    ) -> None:
        if signed not in ("positive", "absolute"):
            raise ConfigError(f"Expected the sign policy of a GCN to be 'positive' or 'absolute', found {signed!r}: its degrees cannot be negative.")
        super().__init__(width, depth, dropout, density, spacing_mm, readout, edges)
        self.signed = signed

    def make_layer(self) -> nn.Module:
        """A `GCNConv`."""
        from torch_geometric.nn import GCNConv

        return GCNConv(self.width, self.width)

    def edge_weights(self, weights: Float[Tensor, "B R R"]) -> Float[Tensor, "B R R"]:
        """Weights without their negative part, or without their sign."""
        return weights.clamp(min=0) if self.signed == "positive" else weights.abs()

    def pass_messages(
        self, layer: nn.Module, nodes: Float[Tensor, "N D"], edge_index: Int[Tensor, "2 E"], weight: Float[Tensor, "E"]
    ) -> Float[Tensor, "N D"]:
        """Sums over neighbours, weighted and divided by the roots of the degrees."""
        return layer(nodes, edge_index, weight)


class GAT(AbstractMessagePassing):
    """Graph attention (Brody et al., ICLR 2022), PyTorch Geometric's `GATv2Conv`; connections of either sign are edges, their weight is a feature.

    Args:
        width: Width of the tokens.
        depth: Number of rounds.
        heads: Attention heads; divides `width`.
        dropout: Dropout of what a round adds.
        density: Share of the visible connections that are edges, in (0, 1].
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: How tokens become one vector: `"anchors"`, `"mean"`, `"attention"` or `"clusters"`.
        edges: False leaves each region only itself: the control of edge ablation.

    Raises:
        ConfigError: If the density is out of range or the heads do not divide the width.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        density: float = 0.1,
        spacing_mm: float = 20.0,
        readout: ReadoutKind = "anchors",
        edges: bool = True,
    ) -> None:
        check_heads(width, heads)
        self.heads = heads  # before the layers, which are made with it
        super().__init__(width, depth, dropout, density, spacing_mm, readout, edges)

    def make_layer(self) -> nn.Module:
        """A `GATv2Conv`, whose self-loops have weight zero."""
        from torch_geometric.nn import GATv2Conv

        return GATv2Conv(self.width, self.width // self.heads, self.heads, edge_dim=1, fill_value=0.0)

    def edge_weights(self, weights: Float[Tensor, "B R R"]) -> Float[Tensor, "B R R"]:
        """Weights as they are."""
        return weights

    def pass_messages(
        self, layer: nn.Module, nodes: Float[Tensor, "N D"], edge_index: Int[Tensor, "2 E"], weight: Float[Tensor, "E"]
    ) -> Float[Tensor, "N D"]:
        """Means over neighbours, weighted by attention."""
        return layer(nodes, edge_index, weight.unsqueeze(1))


class GIN(AbstractMessagePassing):
    """Graph isomorphism network (Xu et al., ICLR 2019) with weights as features of edges (Hu et al., ICLR 2020), PyTorch Geometric's `GINEConv`.

    A round is `f((1 + ε) x + Σ ReLU(x' + a w + b))` over the neighbours `x'` with their connections `w` of either sign. It sums where GCN and GAT
    average, so a region also learns how many strong connections it has.

    Args:
        width: Width of the tokens.
        depth: Number of rounds.
        dropout: Dropout of what a round adds.
        density: Share of the visible connections that are edges, in (0, 1].
        spacing_mm: Spacing in mm of the spatial neighbourhoods that make the tokens.
        readout: How tokens become one vector: `"anchors"`, `"mean"`, `"attention"` or `"clusters"`.
        edges: False leaves each region only itself: the control of edge ablation.

    Raises:
        ConfigError: If the density is out of range.
    """

    def make_layer(self) -> nn.Module:
        """A `GINEConv` with a feed-forward network."""
        from torch_geometric.nn import GINEConv

        return GINEConv(feed_forward(self.width), train_eps=True, edge_dim=1)

    def edge_weights(self, weights: Float[Tensor, "B R R"]) -> Float[Tensor, "B R R"]:
        """Weights as they are."""
        return weights

    def pass_messages(
        self, layer: nn.Module, nodes: Float[Tensor, "N D"], edge_index: Int[Tensor, "2 E"], weight: Float[Tensor, "E"]
    ) -> Float[Tensor, "N D"]:
        """Sums over neighbours, through a network of two layers."""
        return layer(nodes, edge_index, weight.unsqueeze(1))


def block_diagonal(kept: Bool[Tensor, "B R R"], weights: Float[Tensor, "B R R"]) -> tuple[Int[Tensor, "2 E"], Float[Tensor, "E"]]:
    """Edges of all graphs of a batch as one graph over `B · R` nodes, and their weights."""
    graph, source, target = kept.nonzero().unbind(dim=1)
    first = graph * kept.shape[1]
    return torch.stack([first + source, first + target]), weights[graph, source, target]
