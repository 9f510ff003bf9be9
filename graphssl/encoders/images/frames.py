"""A network of images that reads clips frame by frame."""

from collections.abc import Sequence

from torch import Tensor

from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.encoders.images.resnet import Norm, ResNet, Stem
from graphssl.errors import ConfigError


class FrameEncoder(AbstractImageEncoder):
    """A residual network of images that reads clips and volumes too: frame by frame, the pooled vector being the mean of all.

    For what pre-trains on frames of a clip and is asked about clips, as in Meta-USCL (Chen et al., IEEE TMI 2022). Frames learn nothing from one
    another; `SliceTransformer` lets them. Weights of `network` come from, and go to, a `ResNet` of rank 2.

    Args:
        in_channels: Channels of the images.
        width: Channels of the first scale; each further scale has twice as many.
        blocks: Residual blocks of each scale.
        stem: `"large"` or `"small"`.
        norm: `"batch"` or `"group"`.
    """

    def __init__(
        self, in_channels: int = 1, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2), stem: Stem = "large", norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.in_channels, self.width, self.blocks, self.stem, self.norm = in_channels, width, tuple(blocks), stem, norm
        self.network = ResNet(2, in_channels, width, blocks, stem=stem, norm=norm)
        self.map_widths = self.network.map_widths
        self.token_width, self.pooled_width = self.network.token_width, self.network.pooled_width

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of an image, or of all frames, side by side along time or depth."""
        if images.ndim == 4:
            return self.network.scales(images)
        maps = self.network.scales(images.transpose(1, 2).flatten(0, 1))  # [B · T, C, H, W]
        return tuple(each.unflatten(0, (-1, images.shape[2])).transpose(1, 2) for each in maps)

    def check_images(self, images: Tensor) -> None:
        """Check that images or frames have the encoder's channels.

        Raises:
            ConfigError: If they have others.
        """
        if images.ndim not in (4, 5) or images.shape[1] != self.in_channels:
            raise ConfigError(
                f"Expected images [B, {self.in_channels}, H, W], or frames [B, {self.in_channels}, T, H, W], before FrameEncoder, "
                f"found {list(images.shape)}. Give it the in_channels of the images."
            )
