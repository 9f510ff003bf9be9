"""From the vector of an operation to the tensors that it owns, of any shape."""

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.initializers.architecture import Weight


class WeightDecoder(nn.Module):
    """Kernels, scales and shifts from vectors: a block of a fixed size is predicted, cut to the shape, and repeated where the shape is larger.

    A kernel is predicted voxel by voxel around its centre, as in GHN-2 (Knyazev et al., NeurIPS 2021); the slices of a volume kernel differ by a
    learned vector of their place. What is predicted is normalised as there: kernels by the root of `gain / fan_in`, scales to `2 σ(x / 2)`, shifts to
    `tanh(x / 5)`.

    Args:
        width: Width of the vectors. The block is twice as wide on both sides.
        side: Voxels of the block along each axis; larger kernels are interpolated.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side, self.block = side, 2 * width
        self.slices = nn.Parameter(torch.randn(side, width) / 2)
        self.spread = nn.Linear(width, 4 * width * side**2)
        self.mix = nn.Linear(4 * width, 8 * width)
        self.pairs = nn.Linear(8 * width, self.block**2)
        self.rows = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * self.block))
        self._start()

    def _start(self) -> None:
        """So that at first what is predicted has the variance of Kaiming's."""
        for layer, gain in ((self.spread, 1.0), (self.mix, 2.0), (self.pairs, 2.0)):
            nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Float[Tensor, "M D"], weights: Sequence[Weight]) -> list[Tensor]:
        """The tensors, each in its shape; those of one size of kernel are decoded together.

        Args:
            vectors: Vector of the operation that owns each.
            weights: What to predict.
        """
        together: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, weight in enumerate(weights):
            together[self._block_of(weight)].append(place)
        found: dict[int, Tensor] = {}
        for size, places in together.items():
            blocks = self._kernels(vectors[places], size) if size else self._rows(vectors[places])
            for place, block in zip(places, blocks, strict=True):
                found[place] = _in_shape(block, weights[place])
        return [found[place] for place in range(len(weights))]

    def _block_of(self, weight: Weight) -> tuple[int, ...]:
        """The part of the block that a kernel needs; nothing for scales and shifts."""
        if weight.role != "kernel":
            return ()
        outgoing, incoming, *voxels = weight.size
        return min(outgoing, self.block), min(incoming, self.block), *voxels

    def _rows(self, vectors: Float[Tensor, "M D"]) -> Float[Tensor, "M 2 W"]:
        return self.rows(vectors).unflatten(1, (2, self.block))

    def _kernels(self, vectors: Float[Tensor, "M D"], size: tuple[int, ...]) -> Float[Tensor, "M O I Z Y X"]:
        """Blocks of kernels: what lies around the centre, or all of it where the kernel is larger."""
        outgoing, incoming, *voxels = size
        depth, height, width = (self._centre(n) for n in voxels)
        parts = self.slices[depth] if voxels[0] > 1 else torch.zeros_like(self.slices[:1])
        sliced = vectors.unsqueeze(1) + parts  # [M, Z, D]
        grid = self.spread.weight.unflatten(0, (-1, self.side, self.side))[:, height][:, :, width]
        bias = self.spread.bias.unflatten(0, (-1, self.side, self.side))[:, height][:, :, width].permute(1, 2, 0)
        hidden = F.relu(torch.einsum("mzd,cyxd->mzyxc", sliced, grid) + bias)
        hidden = F.relu(self.mix(hidden))
        pairs = self.pairs.weight.unflatten(0, (self.block, self.block))[:outgoing, :incoming]
        shift = self.pairs.bias.unflatten(0, (self.block, self.block))[:outgoing, :incoming]
        blocks = torch.einsum("mzyxc,oic->moizyx", hidden, pairs) + shift[:, :, None, None, None]
        if list(blocks.shape[3:]) == voxels:
            return blocks
        return F.interpolate(blocks.flatten(0, 1), size=voxels, mode="trilinear", align_corners=False).unflatten(0, blocks.shape[:2])

    def _centre(self, n: int) -> slice:
        start = (self.side - min(n, self.side)) // 2
        return slice(start, start + min(n, self.side))


def _in_shape(block: Tensor, weight: Weight) -> Tensor:
    """A block repeated and cut to the shape of a tensor, and normalised."""
    if weight.role != "kernel":
        row = block[0 if weight.role == "scale" else 1]
        values = row[torch.arange(weight.size[0], device=row.device) % len(row)].reshape(weight.shape)
        return 2 * torch.sigmoid(values / 2) if weight.role == "scale" else torch.tanh(values / 5)
    outgoing, incoming = (torch.arange(n, device=block.device) for n in weight.size[:2])
    if len(outgoing) > len(block):
        block = block[outgoing % len(block)]
    if len(incoming) > block.shape[1]:
        block = block[:, incoming % block.shape[1]]
    kernel = block.transpose(0, 1) if weight.transposed else block
    return kernel.reshape(weight.shape) * math.sqrt(weight.gain / weight.fan_in)
