"""From feature maps back to voxels: decoders of any encoder with maps, and whole images by sliding windows."""

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.encoders.images.vit import VisionTransformer
from graphssl.errors import ConfigError, DataError
from graphssl.extras import require

DecoderKind = Literal["unet", "unetr"]


class SegmentationDecoder(nn.Module):
    """Class logits of every voxel from the maps of an encoder and the image itself, built of MONAI's residual blocks.

    From the coarsest map on, features are interpolated to the size of the next finer one, put beside it, and go through a block (U-Net, Ronneberger
    et al., MICCAI 2015); so any scales and odd sizes will do. Where all maps have one scale, shallow ones are first made finer by transposed
    convolutions (UNETR, Hatamizadeh et al., WACV 2022).

    Args:
        n_classes: Number of classes, the background among them.
        rank: 2 for images, 3 for volumes and clips.
        in_channels: Channels of the images.
        map_widths: Channels of each map of the encoder, the finest first.
        width: Channels at the scale of the image; each coarser scale has twice as many, 320 at most.
        patch: Sides of the patches by axis where all maps have one scale, the last being the deepest; None for maps of several scales.
        deep_supervision: Whether coarser scales give logits too, so that they learn by themselves.

    Raises:
        MissingExtraError: If MONAI is not installed.
    """

    def __init__(
        self,
        n_classes: int,
        rank: int,
        in_channels: int,
        map_widths: Sequence[int],
        width: int = 16,
        patch: Sequence[int] | None = None,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.n_classes, self.rank, self.in_channels, self.map_widths = n_classes, rank, in_channels, tuple(map_widths)
        self.width, self.patch, self.deep_supervision = width, None if patch is None else tuple(patch), deep_supervision
        self.n_scales = len(self.map_widths) if self.patch is None else min(len(self.map_widths), max(1, halvings(self.patch)))
        widths = [min(320, width * 2**scale) for scale in range(self.n_scales + 1)]
        skips = [in_channels, *self.map_widths[-self.n_scales :]]
        self.lifts = nn.ModuleList() if self.patch is None else _lifts(self.patch, skips[1:], widths[1:], rank)
        if self.patch is not None:
            skips[1:] = widths[1:]
        self.skips = nn.ModuleList(_block(rank, skip, out) for skip, out in zip(skips, widths, strict=True))
        self.joins = nn.ModuleList(_block(rank, widths[k] + widths[k + 1], widths[k]) for k in range(self.n_scales))
        kind = nn.Conv2d if rank == 2 else nn.Conv3d
        self.heads = nn.ModuleList(kind(widths[k], n_classes, 1) for k in range(self.n_scales if deep_supervision else 1))

    @classmethod
    def for_encoder(
        cls,
        encoder: AbstractEncoder,
        n_classes: int,
        *,
        kind: DecoderKind | None = None,
        rank: int | None = None,
        width: int = 16,
        deep_supervision: bool = True,
    ) -> "SegmentationDecoder":
        """A decoder for the maps of an encoder.

        Args:
            encoder: The encoder.
            n_classes: Number of classes, the background among them.
            kind: `"unet"` for maps of several scales, `"unetr"` for those of a `VisionTransformer`; what fits the encoder when left out.
            rank: Axes of the images, where the encoder reads images and volumes.
            width: Channels at the scale of the image.
            deep_supervision: Whether coarser scales give logits too.

        Raises:
            ConfigError: If the encoder is none of images, the kind does not fit its maps, or its rank is open.
        """
        if not isinstance(encoder, AbstractImageEncoder):
            raise ConfigError(f"Expected an encoder of images with maps, found {type(encoder).__name__}. Use one of graphssl.encoders.images.")
        patch = encoder.patch if isinstance(encoder, VisionTransformer) else None
        fitting = "unet" if patch is None else "unetr"
        if kind not in (None, fitting):
            raise ConfigError(f"Expected the decoder {fitting!r} behind {type(encoder).__name__}, found {kind!r}.")
        known = getattr(encoder, "rank", None)
        axes = rank if known is None else known
        if axes is None or rank not in (None, axes):
            raise ConfigError(f"Expected rank {known or '2 or 3'} of the images that {type(encoder).__name__} reads, found {rank}.")
        channels = getattr(encoder, "volume_channels", encoder.in_channels) if axes == 3 else encoder.in_channels
        return cls(n_classes, axes, channels, encoder.map_widths, width, patch, deep_supervision)

    def forward(self, images: Float[Tensor, "B C *S"], maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Logits `[B, K, *S]` at the scale of the image, then at coarser ones where they are supervised.

        Args:
            images: The images.
            maps: What the encoder made of them.

        Raises:
            DataError: If there are no maps, because something of the images is hidden.
        """
        if len(maps) != len(self.map_widths):
            raise DataError(f"Expected {len(self.map_widths)} maps of the encoder, found {len(maps)}. Give it images with nothing hidden.")
        chosen = list(maps[-self.n_scales :])
        if self.lifts:
            chosen = [lift(each) for lift, each in zip(self.lifts, chosen, strict=True)]
        skips = [skip(each) for skip, each in zip(self.skips, [images, *chosen], strict=True)]
        features, logits = skips[-1], []
        mode = "bilinear" if self.rank == 2 else "trilinear"
        for scale in reversed(range(self.n_scales)):
            finer = F.interpolate(features, size=skips[scale].shape[2:], mode=mode, align_corners=False)
            features = self.joins[scale](torch.cat([skips[scale], finer], dim=1))
            if scale < len(self.heads):
                logits.append(self.heads[scale](features))
        return tuple(reversed(logits))

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


class SegmentationAdapter(nn.Module):
    """An encoder and a decoder that together give the class of every voxel.

    Args:
        encoder: Any encoder with maps.
        decoder: The decoder, or the number of classes for one that fits the encoder.
    """

    def __init__(self, encoder: AbstractImageEncoder, decoder: SegmentationDecoder | int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = SegmentationDecoder.for_encoder(encoder, decoder) if isinstance(decoder, int) else decoder

    def forward(self, images: Float[Tensor, "B C *S"]) -> tuple[Tensor, ...]:
        """Logits of all scales, the finest first.

        Raises:
            ConfigError: If the images have another rank or number of channels than the encoder reads.
        """
        self.encoder.check_images(images)
        logits: tuple[Tensor, ...] = self.decoder(images, self.encoder.scales(images))
        return logits

    def predict(
        self, images: Float[Tensor, "B C *S"], *, window: Sequence[int] | None = None, overlap: float = 0.5, n_windows: int = 4
    ) -> Float[Tensor, "B K *S"]:
        """Probabilities of the classes in evaluation mode, of whole images or by windows that slide over them.

        Args:
            images: The images, of any size where a window is given.
            window: Voxels of a window by axis; the whole image when left out.
            overlap: Share of a window that the next one covers too; those near the middle of a window count more.
            n_windows: Windows at once.

        Raises:
            ConfigError: If there is not one side of the window an axis, or the overlap is none.
        """
        was_training = self.training
        self.eval()
        with torch.no_grad():
            logits = self(images)[0] if window is None else self._by_windows(images, tuple(window), overlap, n_windows)
        self.train(was_training)
        return logits.softmax(dim=1)

    def _by_windows(self, images: Tensor, window: tuple[int, ...], overlap: float, n_windows: int) -> Tensor:
        if len(window) != images.ndim - 2 or min(window) < 1 or not 0 <= overlap < 1:
            raise ConfigError(f"Expected a window of {images.ndim - 2} sides and an overlap in [0, 1), found {list(window)} and {overlap}.")
        inferers = require("monai.inferers", extra="imaging", purpose="slide a window over images")
        found: Tensor = inferers.sliding_window_inference(images, window, n_windows, lambda part: self(part)[0], overlap=overlap, mode="gaussian")
        return found


def halvings(patch: Sequence[int]) -> int:
    """How many scales lie between a patch and a voxel: how often its longest side can be halved."""
    return math.floor(math.log2(max(patch)))


def _lifts(patch: tuple[int, ...], widths_in: Sequence[int], widths: Sequence[int], rank: int) -> nn.ModuleList:
    """Transposed convolutions that make the shallow ones of maps of one scale finer: the deepest stays, each before it is twice as fine."""
    kind: Any = nn.ConvTranspose2d if rank == 2 else nn.ConvTranspose3d
    n = len(widths)
    lifts = []
    for scale, (incoming, width) in enumerate(zip(widths_in, widths, strict=True)):
        steps: list[nn.Module] = []
        sides, channels = list(patch), incoming
        for _ in range(n - 1 - scale):
            factors = [2 if side % 2 == 0 else 1 for side in sides]
            sides = [side // factor for side, factor in zip(sides, factors, strict=True)]
            steps += [kind(channels, width, tuple(factors), stride=tuple(factors)), _block(rank, width, width)]
            channels = width
        lifts.append(nn.Sequential(*(steps or [_block(rank, incoming, width)])))
    return nn.ModuleList(lifts)


def _block(rank: int, width_in: int, width: int) -> nn.Module:
    """Two convolutions of 3 beside an identity; groups are normalised, since a coarse map may have one place."""
    blocks = require("monai.networks.blocks.dynunet_block", extra="imaging", purpose="make a SegmentationDecoder")
    made: nn.Module = blocks.UnetResBlock(rank, width_in, width, 3, 1, norm_name=("group", {"num_groups": math.gcd(8, width)}))
    return made
