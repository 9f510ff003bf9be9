"""What encoders of images share: one rank, one number of channels, and feature maps by scale."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.builder import AbstractBuilder
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.mixed_images import MixedImageBuilder
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.errors import ConfigError

AXES = {2: "H, W", 3: "D, H, W"}


class AbstractImageEncoder(AbstractEncoder):
    """An encoder of images `[B, C, H, W]` or volumes `[B, C, D, H, W]`, whose tokens are the places of its coarsest feature map.

    Voxels that an objective hides are read as zero, the mean of a normalised image.

    Attributes:
        rank: Number of spatial axes, 2 or 3.
        in_channels: Number of channels.
        map_widths: Channels of each feature map, the finest first.
    """

    rank: int
    in_channels: int
    map_widths: tuple[int, ...]
    rows_at_once = 16

    def forward(self, batch: ImageBatch) -> Embedding:
        """Embed a batch of images; a token a place of the coarsest map, the pooled vector is their mean.

        Raises:
            ConfigError: If the images have another rank or number of channels.
        """
        return embedding_of(self.scales(self.readable(batch)))

    @abstractmethod
    def scales(self, images: Float[Tensor, "B C *S"]) -> tuple[Tensor, ...]:
        """Feature maps of images, the finest first."""

    def default_builder(self) -> AbstractBuilder:
        """An `ImageBuilder`."""
        return ImageBuilder()

    def for_builder(self, builder: AbstractBuilder) -> "AbstractImageEncoder":
        """The encoder itself; rank and channels are its arguments, since views may make volumes of images.

        Raises:
            ConfigError: If the builder makes no images.
        """
        if not isinstance(builder, ImageBuilder | MixedImageBuilder):
            own, found = type(self).__name__, type(builder).__name__
            raise ConfigError(f"Expected ImageBuilder before {own}, found {found}. Give builder=ImageBuilder().")
        return self

    def readable(self, batch: ImageBatch) -> Float[Tensor, "B C *S"]:
        """The images with zero where an objective hides them.

        Raises:
            ConfigError: If they have another rank or number of channels.
        """
        self.check_images(batch.images)
        return batch.images if batch.visible is None else batch.images * batch.visible.unsqueeze(1)

    def check_images(self, images: Tensor) -> None:
        """Check that images have the encoder's rank and channels.

        Raises:
            ConfigError: If they have others.
        """
        if images.ndim != self.rank + 2 or images.shape[1] != self.in_channels:
            raise ConfigError(
                f"Expected images [B, {self.in_channels}, {AXES[self.rank]}] before {type(self).__name__}, found {list(images.shape)}. "
                "Give it the rank and the in_channels of the images."
            )


def check_rank(rank: int) -> None:
    """Check that a number of spatial axes is one there is.

    Raises:
        ConfigError: If it is not.
    """
    if rank not in AXES:
        raise ConfigError(f"Expected rank 2 for images or 3 for volumes and clips, found {rank}.")


def embedding_of(maps: tuple[Tensor, ...]) -> Embedding:
    """The embedding whose tokens are the places of the last map, and whose pooled vector is their mean."""
    tokens = maps[-1].flatten(start_dim=2).transpose(1, 2)  # [B, N, D]
    return Embedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), tokens.mean(dim=1), maps)
