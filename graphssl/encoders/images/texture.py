"""Texture without layout: descriptors of a feature map that do not ask where something is."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import Embedding
from graphssl.encoders.images.image_encoder import AbstractImageEncoder, embedding_of
from graphssl.encoders.images.resnet import Norm, ResNet
from graphssl.errors import ConfigError

DescriptorKind = Literal["gram", "residual", "statistics"]


class TextureEncoder(AbstractImageEncoder):
    """A shallow residual network, whose small receptive field knows no layout, and an orderless descriptor of its last map as pooled vector.

    The texture branch of contrastive texture learning (Chen, Wang & Ma, 2022, arXiv 2108.05081), whose abstract says what it does and not how it is
    built: network and descriptors are a reconstruction.

    Args:
        rank: 2 for images, 3 for volumes and clips.
        in_channels: Channels of the images.
        width: Channels of the first scale of the network.
        blocks: Residual blocks of each scale; fewer scales see less of the surroundings.
        norm: `"batch"` or `"group"`.
        descriptor: `"gram"` of which channels fire together, `"residual"` from learned words, or `"statistics"` of each channel.
        n_channels: Channels that the descriptor reads; the map is reduced to them.
        n_words: Words of the dictionary of `"residual"`.

    Raises:
        ConfigError: If the descriptor is unknown.
    """

    def __init__(
        self,
        rank: int = 2,
        in_channels: int = 1,
        width: int = 32,
        blocks: Sequence[int] = (2, 2),
        norm: Norm = "batch",
        descriptor: DescriptorKind = "gram",
        n_channels: int = 32,
        n_words: int = 8,
    ) -> None:
        super().__init__()
        if descriptor not in ("gram", "residual", "statistics"):
            raise ConfigError(f"Expected the descriptor 'gram', 'residual' or 'statistics', found {descriptor!r}.")
        self.rank, self.in_channels, self.width, self.blocks, self.norm = rank, in_channels, width, tuple(blocks), norm
        self.descriptor, self.n_channels, self.n_words = descriptor, n_channels, n_words
        self.network = ResNet(rank, in_channels, width, blocks, stem="small", norm=norm)
        self.reduce = nn.Linear(self.network.map_widths[-1], n_channels)
        self.describe = _descriptor(descriptor, n_channels, n_words)
        self.map_widths = self.network.map_widths
        self.token_width, self.pooled_width = n_channels, self.describe.width

    def forward(self, batch: ImageBatch) -> Embedding:
        """Embed a batch of images; the pooled vector is the descriptor.

        Raises:
            ConfigError: If the images have another rank or number of channels.
        """
        embedding = embedding_of(self.scales(self.readable(batch)))
        tokens = self.reduce(embedding.tokens)
        return embedding._replace(tokens=tokens, pooled=self.describe(tokens))

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the network."""
        return self.network.scales(images)


class Gram(nn.Module):
    """How often channels fire together: products of all pairs averaged over the map, with signed roots, of length 1 (Lin et al., ICCV 2015).

    Args:
        n_channels: Channels of the map.
    """

    pairs: Int[Tensor, "2 P"]

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.register_buffer("pairs", torch.triu_indices(n_channels, n_channels), persistent=False)
        self.width = self.pairs.shape[1]

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B P"]:
        """Descriptors of maps."""
        gram = tokens.transpose(1, 2) @ tokens / tokens.shape[1]  # [B, C, C]
        return F.normalize(signed_root(gram[:, self.pairs[0], self.pairs[1]]), dim=1)


class ResidualEncoding(nn.Module):
    """How far the places of a map lie from the learned words that they are assigned to, summed over the map, of length 1 (Zhang et al., CVPR 2017).

    Args:
        n_channels: Channels of the map.
        n_words: Words of the dictionary.
    """

    def __init__(self, n_channels: int, n_words: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(n_words, n_channels) / n_channels**0.5)
        self.sharpness = nn.Parameter(torch.rand(n_words) + 0.5)
        self.width = n_words * n_channels

    def assignments(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N K"]:
        """How much each place is assigned to each word: which texture is where."""
        squared = tokens.square().sum(dim=2, keepdim=True) - 2 * tokens @ self.words.T + self.words.square().sum(dim=1)
        return (-self.sharpness * squared).softmax(dim=2)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B D"]:
        """Descriptors of maps."""
        shares = self.assignments(tokens)
        residuals = shares.transpose(1, 2) @ tokens - shares.sum(dim=1).unsqueeze(2) * self.words  # [B, K, C]
        return F.normalize(residuals.flatten(start_dim=1), dim=1)


class Statistics(nn.Module):
    """Mean, standard deviation and skewness of each channel over the map.

    Args:
        n_channels: Channels of the map.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.width = 3 * n_channels

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B D"]:
        """Descriptors of maps."""
        mean = tokens.mean(dim=1)
        apart = tokens - mean.unsqueeze(1)
        deviation = (apart.square().mean(dim=1) + 1e-6).sqrt()
        skewness = (apart / deviation.unsqueeze(1)).pow(3).mean(dim=1)
        return torch.cat([mean, deviation, skewness], dim=1)


def signed_root(values: Tensor) -> Tensor:
    """Square root of the size with the sign kept; its slope stays finite at zero."""
    return values.sign() * ((values.abs() + 1e-6).sqrt() - 1e-3)


def _descriptor(kind: DescriptorKind, n_channels: int, n_words: int) -> Gram | ResidualEncoding | Statistics:
    if kind == "gram":
        return Gram(n_channels)
    return ResidualEncoding(n_channels, n_words) if kind == "residual" else Statistics(n_channels)
