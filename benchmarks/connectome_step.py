"""One pre-training step: ours against PyTorch Geometric's layers on the same fully connected graphs.

All sides hide the same regions and have the same tokens, width, depth, feed-forward layers, readout, decoders and loss; only what mixes the regions
differs. Ours reads weight and distance of a pair as a bias of attention, the peers read them as features of edges. The second case leaves both out,
so that the whole step of ours and of `TransformerConv` must agree: losses and gradients are compared, and a layer of ours with one of `GPSConv`
when both have the same weights. The floor is the attention of the layers (PyTorch's own, no bias) and their products with weights, forward and
backward.

Forward and backward of a second step. `TransformerConv` needs about 6 GiB.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GINEConv, GPSConv, TransformerConv

from graphssl.data import ConnectomeBatch
from graphssl.encoders import AbstractEncoder, Embedding, GraphTransformer
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.mlp import feed_forward
from graphssl.encoders.readout import make_readout
from graphssl.encoders.tokens import SpatialTokens
from graphssl.objectives import MaskedRegions

WIDTH, DEPTH, HEADS = 64, 4, 4
# Into and out of the products of a layer.
SHAPES = ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH))
TOLERANCE = 1e-4


class Graph(NamedTuple):
    """Connectomes as one graph: every pair of regions of a connectome is an edge."""

    edge_index: Tensor
    edge_attr: Tensor | None
    connectome: Tensor


class ConvBlock(Block):
    """Our block with `TransformerConv` in the place of its attention.

    Args:
        edge_dim: Number of features of an edge.
    """

    def __init__(self, edge_dim: int | None) -> None:
        super().__init__(WIDTH, HEADS, 0.0)
        del self.qkv
        self.conv = TransformerConv(WIDTH, WIDTH // HEADS, HEADS, edge_dim=edge_dim, root_weight=False)

    def _attend(self, tokens: Tensor, bias: Graph) -> Tensor:
        return self.conv(tokens, bias.edge_index, bias.edge_attr)

    def take(self, block: Block) -> None:
        """Take the weights of a block of ours."""
        for linear, weight, offset in zip(
            (self.conv.lin_query, self.conv.lin_key, self.conv.lin_value), block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True
        ):
            linear.load_state_dict({"weight": weight, "bias": offset})
        self.load_state_dict({name: value for name, value in block.state_dict().items() if not name.startswith("qkv")}, strict=False)


class GPSLayer(nn.Module):
    """`GPSConv` with edge features read by `GINEConv` and its own attention, normalisation and feed-forward layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GPSConv(WIDTH, GINEConv(feed_forward(WIDTH), edge_dim=2), heads=HEADS, act="gelu")

    def forward(self, nodes: Tensor, graph: Graph) -> Tensor:
        return self.conv(nodes, graph.edge_index, graph.connectome, edge_attr=graph.edge_attr)


class OtherLayers(AbstractEncoder):
    """Our tokens and our readout with other layers between.

    Args:
        layers: Layers that take nodes and a graph.
        n_rows: Connectomes of a batch.
        n_regions: Regions of a connectome.
        structured: Whether edges tell weight and distance.
    """

    def __init__(self, layers: list[nn.Module], n_rows: int, n_regions: int, *, structured: bool) -> None:
        super().__init__()
        self.structured = structured
        self.tokens = SpatialTokens(WIDTH)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(WIDTH)
        self.pool = make_readout("anchors", WIDTH)
        self.token_width, self.pooled_width = WIDTH, self.pool.pooled_width
        first = torch.arange(n_rows).view(-1, 1, 1) * n_regions
        source, target = torch.arange(n_regions).view(1, 1, -1), torch.arange(n_regions).view(1, -1, 1)
        pairs = torch.broadcast_tensors(first + source, first + target)
        self.edge_index = torch.stack([ends.flatten() for ends in pairs])
        self.connectome = torch.arange(n_rows).repeat_interleave(n_regions)

    def forward(self, batch: ConnectomeBatch) -> Embedding:
        graph = Graph(self.edge_index, self._edge_attr(batch) if self.structured else None, self.connectome)
        nodes = self.tokens(batch).flatten(end_dim=1)
        for layer in self.layers:
            nodes = layer(nodes, graph)
        tokens = self.norm(nodes).unflatten(0, batch.mask.shape)
        return Embedding(tokens, batch.mask, self.pool(tokens, batch))

    def _edge_attr(self, batch: ConnectomeBatch) -> Tensor:
        distance = torch.cdist(batch.centroids, batch.centroids) / 100
        return torch.stack([batch.weights.flatten(), distance.flatten()], dim=1)


def random_batch(n_regions: int, n_rows: int = 32) -> ConnectomeBatch:
    """Connectomes of independent weights, all regions observed, as one in the same places."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(n_rows, n_regions, n_regions, generator=generator).triu(diagonal=1)
    visible = ~torch.eye(n_regions, dtype=torch.bool).expand(n_rows, -1, -1)
    centroids = torch.tensor([0.0, -17.0, 12.0]) + 35 * torch.randn(n_regions, 3, generator=generator)
    return ConnectomeBatch(
        tuple(map(str, range(n_rows))),
        weights + weights.mT,
        visible.contiguous(),
        torch.ones(n_rows, n_regions, dtype=torch.bool),
        centroids.expand(n_rows, -1, -1).contiguous(),
        torch.full((n_rows, n_regions), -1),
        ("random",) * n_rows,
    )


def ours(batch: ConnectomeBatch) -> AbstractEncoder:
    return GraphTransformer(WIDTH, DEPTH, HEADS, dropout=0.0)


def ours_without_structure(batch: ConnectomeBatch) -> AbstractEncoder:
    return GraphTransformer(WIDTH, DEPTH, HEADS, dropout=0.0, biases=())


def transformer_conv(batch: ConnectomeBatch) -> OtherLayers:
    return OtherLayers([ConvBlock(edge_dim=2) for _ in range(DEPTH)], *batch.mask.shape, structured=True)


def transformer_conv_without_structure(batch: ConnectomeBatch) -> OtherLayers:
    return OtherLayers([ConvBlock(edge_dim=None) for _ in range(DEPTH)], *batch.mask.shape, structured=False)


def gps_conv(batch: ConnectomeBatch) -> OtherLayers:
    return OtherLayers([GPSLayer() for _ in range(DEPTH)], *batch.mask.shape, structured=True)


def step(encoder: AbstractEncoder, objective: nn.Module, batch: ConnectomeBatch) -> Tensor:
    """Forward and backward; gives the loss."""
    loss = objective(encoder, batch, torch.Generator().manual_seed(0)).total
    loss.backward()
    return loss.detach()


def ready(make: Callable[[ConnectomeBatch], AbstractEncoder], batch: ConnectomeBatch) -> Callable[[], Tensor]:
    """A step of an encoder that is made."""
    torch.manual_seed(0)
    encoder = make(batch)
    return partial(step, encoder, MaskedRegions().prepare(encoder), batch)


def bare_layers(batch: ConnectomeBatch, device: str) -> Callable[[], object]:
    """Attention and products with weights of all layers, forward and backward."""
    tokens = torch.randn(len(batch), batch.mask.shape[1], WIDTH, device=device, requires_grad=True)
    weights = [torch.randn(out, into, device=device, requires_grad=True) for into, out in SHAPES]

    def work() -> None:
        nodes = tokens
        for _ in range(DEPTH):
            query, key, value = F.linear(nodes, weights[0]).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            nodes = F.linear(F.linear(F.linear(mixed, weights[1]), weights[2]), weights[3])
        nodes.sum().backward()

    return work


def check(batch: ConnectomeBatch) -> dict[str, Agreement]:
    """The whole step of ours and of `TransformerConv` with the same weights; differences relative to the largest value."""
    torch.manual_seed(0)
    mine, peer = ours_without_structure(batch), transformer_conv_without_structure(batch)
    peer.load_state_dict({name: value for name, value in mine.state_dict().items() if not name.startswith("blocks.")}, strict=False)
    for block, layer in zip(mine.blocks, peer.layers, strict=True):
        layer.take(block)
    objective = MaskedRegions().prepare(mine)
    found = []
    for encoder in (mine, peer):
        objective.zero_grad()
        loss = step(encoder, objective, batch)
        gradients = [parameter.grad.flatten() for module in (encoder.tokens, encoder.pool, objective) for parameter in module.parameters()]
        found.append((loss, torch.cat(gradients)))
    (loss, gradient), (peer_loss, peer_gradient) = found
    return {
        "TransformerConv": Agreement("loss and gradients, same weights", max(relative(peer_loss, loss), relative(peer_gradient, gradient)), TOLERANCE)
    }


def check_of_a_layer(batch: ConnectomeBatch) -> dict[str, Agreement]:
    torch.manual_seed(0)
    gap = gps_difference(ours_without_structure(batch).blocks[0], batch)
    return {"GPSConv": Agreement("a layer without biases and local part, same weights", gap, TOLERANCE)}


def gps_difference(block: Block, batch: ConnectomeBatch) -> float:
    """A block of ours without normalisation, which GPSConv places elsewhere, against GPSConv without a local part."""
    layer = GPSConv(WIDTH, None, heads=HEADS, act="gelu", norm=None)
    layer.attn.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight,
            "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
    )
    for mine, theirs in ((0, 0), (2, 3)):
        layer.mlp[theirs].load_state_dict(block.feed[mine].state_dict())
    block.norm_attention = block.norm_feed = nn.Identity()
    n_rows, n_regions = batch.mask.shape
    tokens = torch.randn(n_rows, n_regions, WIDTH)
    allowed = batch.mask.view(n_rows, 1, 1, n_regions)
    with torch.no_grad():
        found = layer(tokens.flatten(end_dim=1), torch.empty(2, 0, dtype=torch.long), torch.arange(n_rows).repeat_interleave(n_regions))
        return relative(found.view_as(tokens), block(tokens, allowed))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


SIZES = {"sizes": (50, 100, 200), "smoke": (5, 10), "inputs": random_batch, "unit": "regions"}
FLOOR = Bare("attention and products of the layers", bare_layers)
CASES = [
    Case(
        "pre-training step, 32 connectomes × {} regions",
        **SIZES,
        ours=partial(ready, ours),
        peers=[
            Peer("TransformerConv", partial(ready, transformer_conv), Goal(ratio=5), differs="weight and distance as features of edges", repeats=1),
            Peer("GPSConv", partial(ready, gps_conv), Goal(ratio=5)),
        ],
        check=check_of_a_layer,
        floor=FLOOR,
    ),
    Case(
        "the same without weight and distance, {} regions",
        **SIZES,
        ours=partial(ready, ours_without_structure),
        peers=[Peer("TransformerConv", partial(ready, transformer_conv_without_structure), Goal(ratio=5), repeats=1)],
        check=check,
        floor=FLOOR,
    ),
]

if __name__ == "__main__":
    main(__doc__, CASES)
