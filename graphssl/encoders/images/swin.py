"""MONAI's Swin transformer as an encoder."""

from collections.abc import Sequence

from torch import Tensor

from graphssl.encoders.base import check_heads
from graphssl.encoders.images.image_encoder import AbstractImageEncoder, check_rank
from graphssl.encoders.images.vit import sides
from graphssl.errors import ConfigError
from graphssl.extras import require


class SwinTransformer(AbstractImageEncoder):
    """Attention within windows that shift from block to block, at five scales (Liu et al., ICCV 2021): the encoder of Swin UNETR, as MONAI has it.

    Weights of `swin` are those of `SwinUNETR.swinViT` in MONAI, so either takes the other's.

    Args:
        rank: 2 for images, 3 for volumes and clips.
        in_channels: Channels of the images.
        width: Width of the first scale; each further scale has twice as many. Swin UNETR has 48, its small form 24, its tiny one 12.
        depths: Blocks of each of the four stages.
        heads: Attention heads of each stage.
        window_size: Side of a window in places, one for all axes or one an axis.
        patch_size: Side of a patch in voxels, likewise.
        drop_path: Share of the residual branches that are dropped in training.

    Raises:
        ConfigError: If the rank is unknown, there are not four stages, or heads do not divide a width.
        MissingExtraError: If MONAI is not installed.
    """

    def __init__(
        self,
        rank: int = 3,
        in_channels: int = 1,
        width: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int | Sequence[int] = 7,
        patch_size: int | Sequence[int] = 2,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_rank(rank)
        if not len(depths) == len(heads) == 4:
            raise ConfigError(f"Expected depths and heads of four stages, found {list(depths)} and {list(heads)}.")
        for stage, n_heads in enumerate(heads):
            check_heads(width * 2**stage, n_heads)
        self.rank, self.in_channels, self.width, self.drop_path = rank, in_channels, width, drop_path
        self.depths, self.heads = tuple(depths), tuple(heads)
        self.window_size = window_size if isinstance(window_size, int) else tuple(window_size)
        self.patch_size = patch_size if isinstance(patch_size, int) else tuple(patch_size)
        nets = require("monai.networks.nets.swin_unetr", extra="imaging", purpose="make a SwinTransformer")
        self.swin = nets.SwinTransformer(
            in_channels,
            width,
            sides(window_size, rank),
            sides(patch_size, rank),
            self.depths,
            self.heads,
            drop_path_rate=drop_path,
            spatial_dims=rank,
        )
        self.map_widths = tuple(width * 2**scale for scale in range(5))
        self.token_width = self.pooled_width = self.map_widths[-1]

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised feature maps of the patches and of each stage."""
        return tuple(self.swin(images))
