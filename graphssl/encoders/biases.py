"""What draws a region's attention to another: how strongly they are connected, how near they lie, whether they share a network."""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import check_parts

BiasKind = Literal["weight", "distance", "network"]
_KINDS: tuple[BiasKind, ...] = get_args(BiasKind)


class AttentionBias(nn.Module):
    """Bias of the attention logits `[B, H, R, R]`, a sum of slopes times relations of two regions; minus infinity towards padding.

    - `"weight"`: the connection in units of its spread, cut off at ±3; zero where it is hidden;
    - `"distance"`: the distance of the centroids in units of 100 mm, counted against;
    - `"network"`: 1 where both regions belong to the same known network, else 0.

    Args:
        heads: Number of heads; the first is without preference. That for connections grows from head to head, every second head prefers near regions,
            and the upper half of them the own network.
        kinds: The relations that count.
        learned: Whether the slopes are trained.

    Raises:
        ConfigError: If a relation is unknown or named twice.
    """

    slopes: Tensor

    def __init__(self, heads: int, kinds: tuple[BiasKind, ...] = ("weight", "distance"), *, learned: bool = False) -> None:
        super().__init__()
        check_parts("biases", kinds, _KINDS)
        self.kinds = kinds
        slopes = _slopes(heads)[[_KINDS.index(kind) for kind in kinds]]  # [K, H]
        if learned:
            self.slopes = nn.Parameter(slopes)
        else:
            self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B H R R"] | Bool[Tensor, "B 1 R R"]:
        """The bias of a batch; where no relation counts, only which regions may be attended to."""
        itself = torch.eye(batch.mask.shape[1], dtype=torch.bool, device=batch.device)
        allowed = (batch.mask.unsqueeze(1) | itself).unsqueeze(1)  # [B, 1, R, R]
        if not self.kinds:
            return allowed
        relations = [_relation(kind, batch).unsqueeze(1) for kind in self.kinds]  # each [B, 1, R, R]
        slopes = self.slopes[:, None, :, None, None]  # each [1, H, 1, 1]
        bias = slopes[0] * relations[0]
        for slope, relation in zip(slopes[1:], relations[1:], strict=True):
            bias = bias + slope * relation
        return bias.masked_fill(~allowed, float("-inf"))


def _relation(kind: BiasKind, batch: ConnectomeBatch) -> Float[Tensor, "B R R"]:
    if kind == "weight":
        return batch.weights.clamp(-3, 3)
    if kind == "distance":
        return -torch.cdist(batch.centroids, batch.centroids) / 100
    same = batch.networks.unsqueeze(1) == batch.networks.unsqueeze(2)
    return (same & (batch.networks >= 0).unsqueeze(1)).to(batch.weights.dtype)


def _slopes(heads: int) -> Float[Tensor, "3 H"]:
    head = torch.arange(heads, dtype=torch.float32)
    weight = head / max(1, heads - 1) * 2  # a standard deviation is up to e² times the attention
    distance = (head % 2) * 4
    network = 2.0 * (head >= heads / 2)
    return torch.stack([weight, distance, network])
