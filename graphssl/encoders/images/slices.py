"""A volume as the sequence of its slices."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.encoders.images.resnet import Norm, ResNet, Stem
from graphssl.errors import ConfigError

Axis = Literal["slice", "feature"]


class SliceTransformer(AbstractImageEncoder):
    """Each slice of a volume, or frame of a clip, is embedded alone by a 2D network; then slices learn from one another by deformable attention.

    The joint image–volume model of Nguyen et al. (AAAI 2023, arXiv 2212.01893). A slice is the means of all feature maps of the network, each of
    length 1, through one linear layer: `slice_tokens`. `mix` gives what slices have learned from one another, and is the part that a masked slice
    trains. The pooled vector is the mean over slices. Slices that are wholly hidden are one learned vector. `maps` are those of the slices, side by
    side along depth. Weights of `network` come from, and go to, a `ResNet` of rank 2.

    Args:
        in_channels: Channels of the volumes.
        width: Width of the tokens, and of the pooled vector.
        depth: Number of layers among slices.
        heads: Attention heads; divides `width`, or `n_slices` where the axis is the feature.
        dropout: Dropout behind each layer.
        slice_width: Channels of the first scale of the network.
        blocks: Residual blocks of each scale of the network.
        stem: `"large"` or `"small"`, of the network.
        norm: `"batch"` or `"group"`, of the network.
        axis: `"slice"` lets slices attend to slices. `"feature"` is what the authors' code does: slices are channels, and places along the feature
            attend to one another, for volumes of `n_slices` only.
        n_slices: Slices of every volume, for the axis `"feature"`.
        stride: Places from one key to the next.

    Raises:
        ConfigError: If the axis is unknown or lacks `n_slices`, or heads do not divide the width.
    """

    rank = 3

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
        slice_width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        stem: Stem = "large",
        norm: Norm = "batch",
        axis: Axis = "slice",
        n_slices: int | None = None,
        stride: int = 4,
    ) -> None:
        super().__init__()
        if axis not in ("slice", "feature") or (axis == "feature") == (n_slices is None):
            raise ConfigError(f"Expected the axis 'slice', or 'feature' with n_slices; found {axis!r} with n_slices={n_slices}.")
        self.in_channels, self.width, self.depth, self.heads, self.dropout = in_channels, width, depth, heads, dropout
        self.slice_width, self.blocks, self.stem, self.norm = slice_width, tuple(blocks), stem, norm
        self.axis, self.n_slices, self.stride = axis, n_slices, stride
        self.network = ResNet(2, in_channels, slice_width, blocks, stem=stem, norm=norm)
        scales = self.network.map_widths[-len(self.blocks) :]
        self.gather = nn.Linear(sum(scales) + scales[-1], width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(SliceLayer(width, heads, dropout, stride, n_slices) for _ in range(depth))
        self.token_width = self.pooled_width = width
        self.map_widths = self.network.map_widths

    def forward(self, batch: ImageBatch) -> Embedding:
        """Embed a batch of volumes; a token a slice, the pooled vector is their mean.

        Raises:
            ConfigError: If they are no volumes, have another number of channels, or of slices where the axis is the feature.
        """
        maps = self.scales(self.readable(batch))
        hidden = None if batch.visible is None else ~batch.visible.flatten(start_dim=2).any(dim=2)
        tokens = self.mix(self._tokens(maps), hidden)
        return Embedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), tokens.mean(dim=1), maps)

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all slices, side by side along depth."""
        n = images.shape[2]
        maps = self.network.scales(images.transpose(1, 2).flatten(0, 1))  # [B · D, C, H, W]
        return tuple(each.unflatten(0, (-1, n)).transpose(1, 2) for each in maps)

    def slice_tokens(self, images: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B D W"]:
        """What each slice is alone."""
        return self._tokens(self.scales(images))

    def mix(self, tokens: Float[Tensor, "B D W"], hidden: Bool[Tensor, "B D"] | None = None) -> Float[Tensor, "B D W"]:
        """What slices are after they have learned from one another.

        Args:
            tokens: What they are alone.
            hidden: Slices that are not to be read.

        Raises:
            ConfigError: If there is another number of slices where the axis is the feature.
        """
        if self.n_slices not in (None, tokens.shape[1]):
            raise ConfigError(f"Expected {self.n_slices} slices, found {tokens.shape[1]}. Crop the volumes, or take the axis 'slice'.")
        if hidden is not None:
            tokens = torch.where(hidden.unsqueeze(2), self.hidden, tokens)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens

    def _tokens(self, maps: tuple[Tensor, ...]) -> Tensor:
        means = [each.mean(dim=(3, 4)).transpose(1, 2) for each in maps[-len(self.blocks) :]]  # each [B, D, C]
        return self.gather(torch.cat([*(F.normalize(mean, dim=2) for mean in means), means[-1]], dim=2))


class SliceLayer(nn.Module):
    """Deformable attention and feed-forward, with normalisation behind each (post-norm).

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        dropout: Dropout behind each.
        stride: Places from one key to the next.
        n_slices: Number of slices where attention runs along the feature; None where it runs along slices.
    """

    def __init__(self, width: int, heads: int, dropout: float, stride: int, n_slices: int | None) -> None:
        super().__init__()
        self.along_feature = n_slices is not None
        self.attention = DeformableAttention(width if n_slices is None else n_slices, heads, stride)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        inner = width * 9 // 8
        self.feed = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B D W"]) -> Float[Tensor, "B D W"]:
        """Tokens after one round."""
        mixed = self.attention(tokens.transpose(1, 2)).transpose(1, 2) if self.along_feature else self.attention(tokens)
        tokens = self.drop(self.norm_attention(tokens + mixed))
        return self.drop(self.norm_feed(tokens + self.feed(tokens)))


class DeformableAttention(nn.Module):
    """Attention of a sequence to few of its places, which move to where something is (Xia et al., CVPR 2022, in one dimension).

    The places of the keys lie `stride` apart and are moved by offsets that are read from the queries around them, by each head for itself; between
    places values are interpolated. Logits get a bias from how far query and key lie apart.

    Args:
        width: Width of the sequence.
        heads: Attention heads; divides `width`.
        stride: Places from one key to the next before they move.
        reach: How far a key moves at most, in places.

    Raises:
        ConfigError: If heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, stride: int = 4, reach: float = 2.0) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.stride, self.reach = heads, stride, reach
        inner = width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.around = nn.Conv1d(inner, inner, stride + 2, stride=stride, padding=1, groups=inner)
        self.offset = nn.Conv1d(inner, 1, 1, bias=False)
        self.distance = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, heads))

    def forward(self, sequence: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The sequence after attention."""
        query = self.query(sequence).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, H, N, D / H]
        places = self.places(query)  # [B, H, K]
        moved = interpolated(sequence.unflatten(2, (self.heads, -1)).transpose(1, 2), places)
        moved = moved.transpose(1, 2).flatten(start_dim=2)  # [B, K, D]
        key, value = (layer(moved).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias(places, sequence.shape[1]))
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(start_dim=2))
        return attended

    def places(self, query: Float[Tensor, "B H N E"]) -> Float[Tensor, "B H K"]:
        """Where the keys of each head lie, in places of the sequence and between them."""
        n = query.shape[2]
        start = torch.arange(min(self.stride // 2, n - 1), n, self.stride, device=query.device)
        flat = query.flatten(0, 1).transpose(1, 2)  # [B · H, E, N]
        flat = F.pad(flat, (0, len(start) * self.stride - n)) if len(start) * self.stride > n else flat
        offset = self.offset(F.gelu(self.around(flat)))[:, 0, : len(start)].tanh() * self.reach
        return (start + offset).clamp(0, n - 1).unflatten(0, query.shape[:2])

    def _bias(self, places: Tensor, n: int) -> Float[Tensor, "B H N K"]:
        apart = torch.arange(n, device=places.device).unsqueeze(1) - places.unsqueeze(2)  # [B, H, N, K]
        by_head = self.distance((apart.sign() * apart.abs().log1p()).unsqueeze(4))  # [B, H, N, K, H]
        return by_head.diagonal(dim1=1, dim2=4).permute(0, 3, 1, 2)


def interpolated(sequence: Float[Tensor, "B H N E"], places: Float[Tensor, "B H K"]) -> Float[Tensor, "B H K E"]:
    """Values between the places of a sequence, on the line through their two neighbours."""
    lower = places.detach().floor().long().clamp(0, sequence.shape[2] - 1)
    upper = (lower + 1).clamp(max=sequence.shape[2] - 1)
    share = (places - lower).unsqueeze(3)
    below, above = (sequence.gather(2, rows.unsqueeze(3).expand(-1, -1, -1, sequence.shape[3])) for rows in (lower, upper))
    return below + share * (above - below)
