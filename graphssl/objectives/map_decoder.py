"""From feature maps back to an image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images import AbstractImageEncoder
from graphssl.errors import ConfigError, DataError

_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class MapDecoder(nn.Module):
    """An image from feature maps: from the coarsest up, a convolution, a normalisation, and interpolation to the size of the next finer map.

    The decoder of Swin UNETR's pre-training (Tang et al., CVPR 2022). With skips, finer maps of the encoder join on the way, as in a U-Net.

    Args:
        map_widths: Channels of the maps, the finest first.
        n_channels: Channels of the image.
        rank: Number of axes of the maps, 2 or 3.
        skips: Whether finer maps of the encoder join.
    """

    def __init__(self, map_widths: Sequence[int], n_channels: int, rank: int, skips: bool = False) -> None:
        super().__init__()
        self.rank, self.skips = rank, skips
        convolution, norm = (nn.Conv2d, nn.InstanceNorm2d) if rank == 2 else (nn.Conv3d, nn.InstanceNorm3d)
        coarse_first = list(reversed(map_widths))
        outgoing = [*coarse_first[1:], coarse_first[-1]]
        incoming = [coarse_first[0], *(width * (2 if skips else 1) for width in outgoing[:-1])]
        self.steps = nn.ModuleList(
            nn.Sequential(convolution(before, after, 3, padding=1), norm(after), nn.LeakyReLU())
            for before, after in zip(incoming, outgoing, strict=True)
        )
        self.leave = convolution(outgoing[-1], n_channels, 1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Float[Tensor, "B C *S"]:
        """The image.

        Args:
            maps: Feature maps, the finest first.
            size: Voxels of the image by axis.

        Raises:
            DataError: If one place is left on the coarsest map, which cannot be normalised.
        """
        if maps[-1][0, 0].numel() < 2:
            raise DataError(
                f"Expected images of which more than one place is left on the coarsest map, found size {list(size)}. "
                "Give the builder a larger size, or the encoder fewer scales or a small stem."
            )
        features, finer = maps[-1], list(reversed(maps[:-1]))
        for step, other in zip(self.steps, [*finer, None], strict=True):
            to = tuple(size) if other is None else other.shape[2:]
            features = F.interpolate(step(features), to, mode=_INTERPOLATION[self.rank], align_corners=False)
            if self.skips and other is not None:
                features = torch.cat([features, other], dim=1)
        image: Tensor = self.leave(features)
        return image


def decoder_for(encoder: AbstractEncoder, skips: bool = False) -> MapDecoder:
    """A decoder of what an encoder of images gives.

    Args:
        encoder: The encoder.
        skips: Whether finer maps of the encoder join.

    Raises:
        ConfigError: If it gives no maps of one rank.
    """
    of_images(encoder, "an image that is restored")
    return MapDecoder(encoder.map_widths, encoder.in_channels, encoder.rank, skips)  # type: ignore[arg-type]


def of_images(encoder: AbstractEncoder, what: str) -> AbstractImageEncoder:
    """The encoder, if it reads images of one rank.

    Args:
        encoder: The encoder.
        what: What needs it, for the error.

    Raises:
        ConfigError: If it does not.
    """
    if not isinstance(encoder, AbstractImageEncoder) or not hasattr(encoder, "rank"):
        raise ConfigError(f"Expected an encoder of images of one rank, such as ResNet, for {what}; found {type(encoder).__name__}.")
    return encoder
