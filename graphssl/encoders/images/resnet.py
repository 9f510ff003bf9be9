"""Residual networks in two and three dimensions."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.encoders.images.image_encoder import AbstractImageEncoder, check_rank
from graphssl.errors import ConfigError

Norm = Literal["batch", "group"]
Stem = Literal["large", "small"]


class ResNet(AbstractImageEncoder):
    """Residual blocks at four scales (He et al., CVPR 2016), in 2D and in 3D.

    The names of its weights are those of torchvision and MONAI, so their checkpoints fit. The last normalisation of each block starts at zero, so
    that a block starts as the identity (Goyal et al., 2017).

    With `depth_stride=False` no stride and no pooling goes along depth. A volume of depth 3 keeps it to the end, and every slice of every kernel is
    trained by it: that is how a 3D network learns from 2D images (Zhang et al., 2022, arXiv 2201.01426). The weights are the same with and without,
    so `with_depth_stride` changes it for the task.

    Args:
        rank: 2 for images, 3 for volumes and clips.
        in_channels: Channels of the images.
        width: Channels of the first scale; each further scale has twice as many.
        blocks: Residual blocks of each scale: `(2, 2, 2, 2)` is ResNet-18, `(3, 4, 6, 3)` ResNet-34, or ResNet-50 with bottlenecks.
        bottleneck: Whether blocks are bottlenecks, four times as wide at their ends.
        stem: `"large"` for a first convolution of 7 with stride 2 and a pooling of stride 2; `"small"` for one of 3 without either, for images of
            64 voxels and less.
        depth_stride: Whether strides go along depth too; without meaning in 2D.
        norm: `"batch"`, or `"group"` for group normalisation with standardised weights (Kolesnikov et al., ECCV 2020), which is the same for any
            batch size, so that accumulated gradients are exact.

    Raises:
        ConfigError: If the rank, the stem or the norm is unknown, or there is no scale.
    """

    def __init__(
        self,
        rank: int = 2,
        in_channels: int = 1,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        bottleneck: bool = False,
        stem: Stem = "large",
        depth_stride: bool = True,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_rank(rank)
        if stem not in ("large", "small") or norm not in ("batch", "group"):
            raise ConfigError(f"Expected the stem 'large' or 'small' and the norm 'batch' or 'group', found {stem!r} and {norm!r}.")
        if not blocks or min(blocks) < 1:
            raise ConfigError(f"Expected one block or more at every scale, found {list(blocks)}.")
        self.rank, self.in_channels, self.width, self.blocks = rank, in_channels, width, tuple(blocks)
        self.bottleneck, self.stem, self.depth_stride, self.norm = bottleneck, stem, depth_stride, norm
        self._two = (1, 2, 2) if rank == 3 and not depth_stride else (2,) * rank
        self._make_stem()
        widths = [width * 2**scale for scale in range(len(self.blocks))]
        strides = [(1,) * rank, *[self._two] * (len(widths) - 1)]
        incoming = width
        for scale, (n_blocks, inner, stride) in enumerate(zip(self.blocks, widths, strides, strict=True)):
            layers = []
            for block in range(n_blocks):
                layers.append(ResidualBlock(rank, incoming, inner, stride if block == 0 else (1,) * rank, bottleneck, norm))
                incoming = layers[-1].width_out
            self.add_module(f"layer{scale + 1}", nn.Sequential(*layers))
        ends = tuple(inner * 4 if bottleneck else inner for inner in widths)
        self.map_widths = (width, *ends) if stem == "large" else ends
        self.token_width = self.pooled_width = self.map_widths[-1]

    def _make_stem(self) -> None:
        if self.stem == "large":
            self.conv1 = convolution(self.rank, self.in_channels, self.width, 7, self._two, self.norm)
        else:
            self.conv1 = convolution(self.rank, self.in_channels, self.width, 3, (1,) * self.rank, self.norm)
        self.bn1 = normalisation(self.rank, self.width, self.norm)

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stem, where it is a large one, and of each scale."""
        features = F.relu(self.bn1(self.conv1(images)))
        maps = []
        if self.stem == "large":
            maps.append(features)
            pool = F.max_pool2d if self.rank == 2 else F.max_pool3d
            features = pool(features, kernel_size=3, stride=self._two, padding=1)
        for scale in range(len(self.blocks)):
            features = self.get_submodule(f"layer{scale + 1}")(features)
            maps.append(features)
        return tuple(maps)

    def with_depth_stride(self, depth_stride: bool = True) -> "ResNet":
        """The same weights with or without strides along depth."""
        other = type(self)(**{**self.arguments(), "depth_stride": depth_stride})
        other.load_state_dict(self.state_dict())
        return other.train(self.training)


class ResidualBlock(nn.Module):
    """Convolutions beside an identity: two of 3, or a bottleneck of 1, 3 and 1.

    Args:
        rank: Number of spatial axes.
        width_in: Channels that come in.
        inner: Channels inside.
        stride: Stride by axis.
        bottleneck: Whether it is a bottleneck, four times as wide at its end.
        norm: `"batch"` or `"group"`.
    """

    def __init__(self, rank: int, width_in: int, inner: int, stride: tuple[int, ...], bottleneck: bool, norm: Norm) -> None:
        super().__init__()
        self.width_out = inner * 4 if bottleneck else inner
        one = (1,) * rank
        steps = [(width_in, inner, 1, one), (inner, inner, 3, stride), (inner, self.width_out, 1, one)]
        if not bottleneck:
            steps = [(width_in, inner, 3, stride), (inner, inner, 3, one)]
        self.n_steps = len(steps)
        for k, (before, after, kernel, by) in enumerate(steps, start=1):
            self.add_module(f"conv{k}", convolution(rank, before, after, kernel, by, norm))
            self.add_module(f"bn{k}", normalisation(rank, after, norm))
        nn.init.zeros_(self.get_submodule(f"bn{self.n_steps}").weight)  # type: ignore[arg-type]
        self.downsample: nn.Module | None = None
        if stride != one or width_in != self.width_out:
            self.downsample = nn.Sequential(convolution(rank, width_in, self.width_out, 1, stride, norm), normalisation(rank, self.width_out, norm))

    def forward(self, features: Tensor) -> Tensor:
        """Features of the next block."""
        added = features
        for k in range(1, self.n_steps + 1):
            added = self.get_submodule(f"bn{k}")(self.get_submodule(f"conv{k}")(added))
            if k < self.n_steps:
                added = F.relu(added)
        kept = features if self.downsample is None else self.downsample(features)
        return F.relu(kept + added)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 over each output channel (Qiao et al., 2019, arXiv 1903.10520)."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of images."""
        return self._conv_forward(input, standardized(self.weight), self.bias)


class StandardizedConv3d(nn.Conv3d):
    """`StandardizedConv2d` of volumes."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of volumes."""
        return self._conv_forward(input, standardized(self.weight), self.bias)


def standardized(weight: Tensor) -> Tensor:
    """Weights with mean 0 and variance 1 over each output channel."""
    axes = tuple(range(1, weight.ndim))
    variance, mean = torch.var_mean(weight, dim=axes, correction=0, keepdim=True)
    return (weight - mean) * torch.rsqrt(variance + 1e-10)


def convolution(rank: int, width_in: int, width_out: int, kernel: int, stride: tuple[int, ...], norm: Norm) -> nn.Module:
    """A convolution without bias that keeps the size but for its stride, started as in He et al. (ICCV 2015)."""
    kinds: dict[tuple[int, str], Any] = {
        (2, "batch"): nn.Conv2d,
        (3, "batch"): nn.Conv3d,
        (2, "group"): StandardizedConv2d,
        (3, "group"): StandardizedConv3d,
    }
    made: nn.Module = kinds[rank, norm](width_in, width_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    return made


def normalisation(rank: int, width: int, norm: Norm) -> nn.Module:
    """Batch normalisation, or group normalisation of up to 32 groups."""
    if norm == "group":
        return nn.GroupNorm(math.gcd(32, width), width)
    return nn.BatchNorm2d(width) if rank == 2 else nn.BatchNorm3d(width)
