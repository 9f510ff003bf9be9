"""Networks drawn at random, for a hypernetwork to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.errors import ConfigError

BlockKind = Literal["conv3", "conv5", "separable", "dilated", "pool", "attention"]
NormKind = Literal["batch", "group", "layer"]
_BLOCKS: tuple[BlockKind, ...] = get_args(BlockKind)
_NORMS: tuple[NormKind, ...] = get_args(NormKind)
_HEADS = 4
_GROUPS = 4


@dataclass(frozen=True)
class Blueprint:
    """What a sampled network is made of.

    Args:
        widths: Channels of each stage; each but the first halves the size.
        blocks: Blocks of each stage.
        kinds: Kind of the blocks of each stage.
        norm: Normalisation of all.
        residual: Whether there is an identity beside each block.
        rank: 2 for images, 3 for volumes.
        in_channels: Channels of the images.
        n_outputs: Classes; 0 for the pooled vector.
        decoder: Whether a decoder leads back to the size of the image, and every voxel has a class.
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    kinds: tuple[BlockKind, ...]
    norm: NormKind
    residual: bool
    rank: int = 2
    in_channels: int = 1
    n_outputs: int = 0
    decoder: bool = False


@dataclass(frozen=True)
class ArchitectureSampler:
    """The family of networks that a hypernetwork learns to initialise.

    Args:
        stages: Fewest and most stages.
        blocks: Fewest and most blocks of a stage.
        widths: Channels of a stage, multiples of 8; later stages are never narrower.
        kinds: Kinds of blocks: convolutions of `"conv3"` and `"conv5"`, `"separable"`, `"dilated"`, `"pool"` (and a convolution of one voxel), and
            `"attention"` between all places, never in the first stage.
        norms: Kinds of normalisation: `"batch"`, `"group"`, `"layer"`. With batch normalisation alone a hypernetwork learns several times as fast.

    Raises:
        ConfigError: If a range is empty, a width is no multiple of 8, or a kind is unknown.
    """

    stages: tuple[int, int] = (2, 4)
    blocks: tuple[int, int] = (1, 3)
    widths: tuple[int, ...] = (8, 16, 24, 32, 48)
    kinds: tuple[BlockKind, ...] = _BLOCKS
    norms: tuple[NormKind, ...] = ("batch",)

    def __post_init__(self) -> None:
        for name in ("stages", "blocks"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise ConfigError(f"Expected {name} as fewest and most, from 1 on, found {low} and {high}.")
        if not self.widths or any(width < 1 or width % 8 for width in self.widths):
            raise ConfigError(f"Expected widths that are multiples of 8, found {list(self.widths)}.")
        for name, chosen, known in (("kinds", self.kinds, _BLOCKS), ("norms", self.norms, _NORMS)):
            if not chosen or not set(chosen) <= set(known):
                raise ConfigError(f"Expected {name} among {', '.join(known)}, found {list(chosen)}.")
        if set(self.kinds) == {"attention"}:
            raise ConfigError("Expected a kind of block beside 'attention', which is never in the first stage; found none.")

    def draw(self, generator: torch.Generator) -> Blueprint:
        """Draw a network for gray images; `dataclasses.replace` gives it another rank, other channels, classes or a decoder."""
        n = _between(*self.stages, generator)
        first = [kind for kind in self.kinds if kind != "attention"]
        return Blueprint(
            widths=tuple(sorted(_one_of(self.widths, generator) for _ in range(n))),
            blocks=tuple(_between(*self.blocks, generator) for _ in range(n)),
            kinds=tuple(_one_of(first if stage == 0 else self.kinds, generator) for stage in range(n)),
            norm=_one_of(self.norms, generator),
            residual=_one_of((False, True), generator),
        )


class SampledNetwork(nn.Module):
    """A network made from a blueprint: stages of blocks, then a class for the image, or a decoder and a class for every voxel.

    Args:
        blueprint: What it is made of.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        super().__init__()
        self.blueprint = blueprint
        conv: Any = nn.Conv2d if blueprint.rank == 2 else nn.Conv3d
        self.stages = nn.ModuleList()
        incoming = blueprint.in_channels
        for stage, (width, n, kind) in enumerate(zip(blueprint.widths, blueprint.blocks, blueprint.kinds, strict=True)):
            enter = nn.Sequential(conv(incoming, width, 3, stride=1 if stage == 0 else 2, padding=1), _norm(blueprint, width), nn.ReLU())
            self.stages.append(nn.Sequential(enter, *(SampledBlock(blueprint, width, kind) for _ in range(n))))
            incoming = width
        self.joins = nn.ModuleList()
        if blueprint.decoder:
            for width in reversed(blueprint.widths[:-1]):
                self.joins.append(nn.Sequential(conv(incoming + width, width, 3, padding=1), _norm(blueprint, width), nn.ReLU()))
                incoming = width
        self.head: nn.Module = nn.Identity()
        if blueprint.n_outputs:
            self.head = conv(incoming, blueprint.n_outputs, 1) if blueprint.decoder else nn.Linear(incoming, blueprint.n_outputs)

    def forward(self, images: Float[Tensor, "B C *S"]) -> Tensor:
        """Logits of images `[B, K]`, of their voxels `[B, K, *S]`, or the pooled vector `[B, P]`."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        if not self.blueprint.decoder:
            return self.head(maps[-1].flatten(2).mean(2))
        features = maps[-1]
        for skip, join in zip(reversed(maps[:-1]), self.joins, strict=True):
            features = join(torch.cat([skip, F.interpolate(features, size=skip.shape[2:])], dim=1))
        return self.head(features)


class SampledBlock(nn.Module):
    """A block of one kind that keeps the size, with an identity beside it or without.

    Args:
        blueprint: What the network is made of.
        width: Channels.
        kind: Kind of the block.
    """

    def __init__(self, blueprint: Blueprint, width: int, kind: BlockKind) -> None:
        super().__init__()
        self.residual = blueprint.residual
        self.inside = _inside(blueprint.rank, width, kind)
        self.norm = _norm(blueprint, width)

    def forward(self, features: Float[Tensor, "B C *S"]) -> Float[Tensor, "B C *S"]:
        """Features of the next block."""
        added = self.norm(self.inside(features))
        return F.relu(features + added if self.residual else added)


class PlaceAttention(nn.Module):
    """Attention between all places of a feature map.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, _HEADS, batch_first=True)

    def forward(self, features: Float[Tensor, "B C *S"]) -> Float[Tensor, "B C *S"]:
        """Features of each place from all."""
        tokens = features.flatten(2).transpose(1, 2)
        mixed, _ = self.attend(tokens, tokens, tokens, need_weights=False)
        return mixed.transpose(1, 2).reshape(features.shape)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each place."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised features."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def _inside(rank: int, width: int, kind: BlockKind) -> nn.Module:
    conv: Any = nn.Conv2d if rank == 2 else nn.Conv3d
    pool: Any = nn.MaxPool2d if rank == 2 else nn.MaxPool3d
    made: dict[str, Any] = {
        "conv3": lambda: conv(width, width, 3, padding=1),
        "conv5": lambda: conv(width, width, 5, padding=2),
        "separable": lambda: nn.Sequential(conv(width, width, 3, padding=1, groups=width), conv(width, width, 1)),
        "dilated": lambda: conv(width, width, 3, padding=2, dilation=2),
        "pool": lambda: nn.Sequential(pool(3, stride=1, padding=1), conv(width, width, 1)),
        "attention": lambda: PlaceAttention(width),
    }
    inside: nn.Module = made[kind]()
    return inside


def _norm(blueprint: Blueprint, width: int) -> nn.Module:
    if blueprint.norm == "group":
        return nn.GroupNorm(_GROUPS, width)
    if blueprint.norm == "layer":
        return ChannelNorm(width)
    return nn.BatchNorm2d(width) if blueprint.rank == 2 else nn.BatchNorm3d(width)


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _one_of(values: Sequence[Any], generator: torch.Generator) -> Any:
    return values[int(torch.randint(len(values), (), generator=generator))]
