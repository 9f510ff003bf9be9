"""A network that reads an architecture and predicts its weights."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.encoders.base import AbstractEncoder, Embedding, check_heads
from graphssl.encoders.graph_transformer import Block
from graphssl.errors import ConfigError
from graphssl.initializers.architecture import OPERATIONS, Architecture
from graphssl.initializers.architecture_batch import FARTHEST, ArchitectureBatch
from graphssl.initializers.weight_decoder import WeightDecoder

_MOST_EDGES = 8  # of an operation that are told apart
_FREQUENCIES = 4


class HyperNetwork(AbstractEncoder):
    """A graph transformer over the operations of a network, and a decoder of their weights.

    Operations attend to one another with a bias that is learned of the distances along the flow of data, forwards and backwards, as in GHN-3 (Knyazev
    et al., ICML 2023). There is no order among operations but that of the graph: branches side by side may be named in any order. Sizes are read as
    sines of their logarithms, so that every width lies between two others.

    Args:
        width: Width of the vectors; weights of up to `2 · width` channels are predicted without repetition.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        side: Voxels of the largest kernel that is predicted voxel by voxel, along each axis.

    Raises:
        ConfigError: If the heads do not divide the width.
    """

    def __init__(self, width: int = 32, depth: int = 3, heads: int = 8, side: int = 7) -> None:
        super().__init__()
        check_heads(width, heads)
        self.width, self.depth, self.heads, self.side = width, depth, heads, side
        self.token_width = self.pooled_width = width
        self.kind = nn.Embedding(len(OPERATIONS), width)
        self.size = nn.Linear(5 * (2 * _FREQUENCIES + 1), width)
        self.degrees = nn.ModuleList(nn.Embedding(_MOST_EDGES + 1, width) for _ in range(2))
        self.from_input = nn.Embedding(FARTHEST + 2, width)
        self.bias = DistanceBias(width, heads)
        self.blocks = nn.ModuleList(Block(width, heads, 0.0, expansion=4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.decoder = WeightDecoder(width, side)

    def forward(self, batch: ArchitectureBatch) -> Embedding:
        """Embed architectures; a token an operation.

        Raises:
            ConfigError: If it is given anything else.
        """
        if not isinstance(batch, ArchitectureBatch):
            raise ConfigError(
                f"Expected architectures before a HyperNetwork, found {type(batch).__name__}. "
                "Give a network its weights with graphssl.initialize, and embed with that."
            )
        tokens = self.kind(batch.kinds) + self.size(_waves(batch.sizes)) + self.from_input(batch.distances[:, 0] + 1)
        for embed, degree in zip(self.degrees, batch.degrees.clamp(max=_MOST_EDGES).unbind(dim=-1), strict=True):
            tokens = tokens + embed(degree)
        bias = self.bias(batch)
        for block in self.blocks:
            tokens = block(tokens, bias)
        tokens = self.norm(tokens)
        share = batch.mask / batch.mask.sum(dim=1, keepdim=True)
        return Embedding(tokens, batch.mask, torch.einsum("bn,bnd->bd", share, tokens))

    def predict(self, architectures: Sequence[Architecture]) -> list[dict[str, Tensor]]:
        """Weights of some architectures, by name of the parameter; gradients reach the network through them.

        Args:
            architectures: The architectures.

        Raises:
            DataError: If there is none.
        """
        batch = ArchitectureBatch.of(architectures).to(self.kind.weight.device)
        tokens = self(batch).tokens
        owners = [
            (row, place, weight)
            for row, each in enumerate(architectures)
            for place, operation in enumerate(each.operations)
            for weight in operation.weights
        ]
        rows, places = torch.tensor([(row, place) for row, place, _ in owners], device=tokens.device).reshape(-1, 2).unbind(dim=1)
        found = self.decoder(tokens[rows, places], [weight for _, _, weight in owners])
        predicted: list[dict[str, Tensor]] = [{} for _ in architectures]
        for (row, _, weight), tensor in zip(owners, found, strict=True):
            predicted[row][weight.name] = tensor
        return predicted


class DistanceBias(nn.Module):
    """Bias of the attention logits `[B, H, N, N]` from the distances of two operations in both directions; minus infinity towards padding.

    Args:
        width: Width of the vectors of distances; they start as sines and are trained.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.distance = nn.Embedding(FARTHEST + 2, width)  # the first where there is no way
        with torch.no_grad():
            self.distance.weight.copy_(_sines(FARTHEST + 2, width))
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, heads))

    def forward(self, batch: ArchitectureBatch) -> Float[Tensor, "B H N N"]:
        """The bias of a batch."""
        known = torch.arange(FARTHEST + 2, device=batch.distances.device)
        there, back = torch.meshgrid(known, known, indexing="ij")
        # Every pair of distances once, for there are fewer than pairs of operations.
        table = self.mix(torch.cat([self.distance(there), self.distance(back)], dim=-1))  # [F, F, H]
        forward = batch.distances + 1
        bias = table[forward, forward.transpose(1, 2)].permute(0, 3, 1, 2)
        itself = torch.eye(batch.mask.shape[1], dtype=torch.bool, device=bias.device)
        return bias.masked_fill(~(batch.mask.unsqueeze(1) | itself).unsqueeze(1), float("-inf"))


def _waves(sizes: Float[Tensor, "B N 5"]) -> Float[Tensor, "B N W"]:
    """Sines and cosines of logarithms, and whether there is a size at all."""
    present = (sizes >= 0).to(sizes.dtype).unsqueeze(-1)
    angle = sizes.unsqueeze(-1) * math.pi / 2 ** torch.arange(1, _FREQUENCIES + 1, device=sizes.device)
    return torch.cat([angle.sin() * present, angle.cos() * present, present], dim=-1).flatten(start_dim=2)


def _sines(n: int, width: int) -> Float[Tensor, "n W"]:
    places = torch.arange(n).unsqueeze(1) * 10000 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([places.sin(), places.cos()], dim=2).flatten(start_dim=1)[:, :width]
