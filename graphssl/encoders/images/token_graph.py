"""A graph inside an image: its patches or slices as nodes that learn along edges, and one vector of all."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import Embedding, check_heads, made_of, written
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.encoders.images.vit import VisionTransformer
from graphssl.encoders.readout import AttentionReadout
from graphssl.errors import ConfigError

Edges = Literal["grid", "nearest", "none"]


class TokenGraph(AbstractImageEncoder):
    """The tokens of an image encoder, such as patches of an image or slices of a volume, as a graph: each attends to itself and to its neighbours.

    Edges are those of the grid on which tokens lie, corners included, as in Patch-GCN (Chen et al., MICCAI 2021), or lead to the tokens most like
    each, as in Vision GNN (Han et al., NeurIPS 2022). What goes along edges is attention, by the block of our graph transformer with a mask in place
    of a bias. A few learned queries make one vector of the nodes. As the image encoder of patients in a population this is a graph of graphs: patches
    inside of patients, patients among patients. Patches that are hidden are not heard. `maps` are those of the network.

    Args:
        network: The encoder of images whose tokens are the nodes: an encoder whose arguments are used, with new weights.
        width: Width of nodes and of the pooled vector; as wide as the network's tokens when left out.
        depth: Rounds along edges.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        edges: `"grid"`, `"nearest"` by the cosine of what the network makes of them, or `"none"`: each sees only itself, the control without the
            graph.
        n_neighbors: Neighbours of a token where edges lead to the nearest; an edge is taken in both directions.
        n_queries: Queries that make the pooled vector.

    Raises:
        ConfigError: If the network is none, heads do not divide the width, edges are unknown, or there is no neighbour.
    """

    def __init__(
        self,
        network: AbstractImageEncoder | Mapping[str, Any],
        width: int | None = None,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        edges: Edges = "grid",
        n_neighbors: int = 8,
        n_queries: int = 4,
    ) -> None:
        super().__init__()
        self.network = made_of(AbstractImageEncoder, network, "an encoder of images")  # type: ignore[type-abstract]
        wide = self.network.token_width if width is None else width
        check_heads(wide, heads)
        if edges not in get_args(Edges) or n_neighbors < 1:
            raise ConfigError(f"Expected edges among {', '.join(get_args(Edges))} and a neighbour or more, found {edges!r} and {n_neighbors}.")
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.edges, self.n_neighbors, self.n_queries = edges, n_neighbors, n_queries
        self.rank, self.in_channels, self.map_widths = self.network.rank, self.network.in_channels, self.network.map_widths
        self.into = nn.Linear(self.network.token_width, wide)
        self.blocks = nn.ModuleList(Block(wide, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(wide)
        self.pool = AttentionReadout(wide, pooled_width=wide, n_queries=n_queries)
        self.token_width = self.pooled_width = wide

    def forward(self, batch: ImageBatch) -> Embedding:
        """Embed a batch of images; a token a node.

        Raises:
            ConfigError: If the images have another rank or number of channels, or the network's tokens lie on no grid.
        """
        found: Embedding = self.network(batch)
        tokens = self.norm(self.mix(self.into(found.tokens), self.edges_of(found, batch)))
        nodes = Embedding(tokens, found.mask, found.pooled, found.maps)
        return nodes._replace(pooled=self.pool(tokens, nodes))  # all it reads of nodes is the mask

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the network."""
        return self.network.scales(images)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, the network by class and arguments."""
        return {**super().arguments(), "network": written(self.network)}

    def edges_of(self, embedding: Embedding, batch: ImageBatch) -> Bool[Tensor, "B N N"]:
        """Whom each token hears (a row), itself among them.

        Args:
            embedding: What the network made of the images.
            batch: The images.

        Raises:
            ConfigError: If edges are those of a grid and the network's tokens lie on none.
        """
        mask = embedding.mask
        n = mask.shape[1]
        itself = torch.eye(n, dtype=torch.bool, device=mask.device)
        if self.edges == "none":
            return itself.expand(len(mask), n, n)
        if self.edges == "grid":
            edges = grid_edges(self._grid(embedding, batch)).to(mask.device)
        else:
            edges = nearest_edges(embedding.tokens, mask, self.n_neighbors)
        return (edges & mask.unsqueeze(1)) | itself

    def mix(self, tokens: Float[Tensor, "B N D"], edges: Bool[Tensor, "B N N"]) -> Float[Tensor, "B N D"]:
        """What tokens are after they have learned along edges."""
        for block in self.blocks:
            tokens = block(tokens, edges.unsqueeze(1))
        return tokens

    def _grid(self, embedding: Embedding, batch: ImageBatch) -> tuple[int, ...]:
        n = embedding.mask.shape[1]
        if isinstance(self.network, VisionTransformer):
            return self.network.grid(batch.shape[2:])
        size = tuple(embedding.maps[-1].shape[2:]) if embedding.maps else ()
        for grid in (size, size[:1]):  # places of the map, or its slices
            if grid and math.prod(grid) == n:
                return grid
        raise ConfigError(
            f"Expected a {type(self.network).__name__} whose {n} tokens are places of its last map or its slices, found a map of {list(size)}. "
            "Take edges='nearest', or another network."
        )


def grid_edges(grid: Sequence[int]) -> Bool[Tensor, "N N"]:
    """Which places of a grid touch one another, at corners too; a place touches itself.

    Args:
        grid: Places by axis.
    """
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(math.prod(grid), len(grid))
    return (places.unsqueeze(0) - places.unsqueeze(1)).abs().amax(dim=2) <= 1


def nearest_edges(tokens: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"], n_neighbors: int) -> Bool[Tensor, "B N N"]:
    """Which tokens are among the nearest of one another by the cosine, in either direction; those that are not real are nobody's.

    Args:
        tokens: The tokens; edges have no gradient.
        mask: Which of them are real.
        n_neighbors: Neighbours of each; all others where there are fewer.
    """
    unit = F.normalize(tokens.detach(), dim=2)
    n = tokens.shape[1]
    cosine = (unit @ unit.mT).masked_fill(torch.eye(n, dtype=torch.bool, device=tokens.device), -math.inf)
    cosine = cosine.masked_fill(~mask.unsqueeze(1), -math.inf)
    best = cosine.topk(min(n_neighbors, n - 1), dim=2)
    edges = torch.zeros_like(cosine, dtype=torch.bool).scatter(2, best.indices, best.values > -math.inf)
    return (edges | edges.mT) & mask.unsqueeze(1) & mask.unsqueeze(2)
