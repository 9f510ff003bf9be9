"""One pyramid transformer for images and volumes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.images.image_encoder import AXES, AbstractImageEncoder, embedding_of
from graphssl.encoders.mlp import feed_forward
from graphssl.errors import ConfigError, DataError

_CONVOLUTIONS = {"2D": nn.Conv2d, "3D": nn.Conv3d}
_TRANSPOSED = {"2D": nn.ConvTranspose2d, "3D": nn.ConvTranspose3d}
_NORMS = {"2D": nn.InstanceNorm2d, "3D": nn.InstanceNorm3d}


class PyramidTransformer(AbstractImageEncoder):
    """A U-shaped pyramid transformer that reads images and volumes with the same attention (MiT of UniMiSS, Xie et al., ECCV 2022).

    What touches the grid exists twice, for images and for volumes: embeddings of patches, places, the convolutions that make keys and values fewer,
    and those that make the grid finer. All else is shared. A class token runs through all stages; after the decoder it is the pooled vector, the same
    for both. `maps` are those of the stem, of the decoder, and the last of the encoder.

    Args:
        in_channels: Channels of images.
        volume_channels: Channels of volumes.
        widths: Width of each stage of the encoder; the decoder has all but the last, in reverse.
        depths: Blocks of each stage of the encoder.
        decoder_depths: Blocks of each stage of the decoder, the coarsest first.
        heads: Attention heads of each stage of the encoder; each divides its width.
        reductions: Places by axis that become one key in each stage of the encoder.
        stem_width: Channels of the stem.
        image_size: Voxels by axis of the images for which places are learned; others interpolate.
        volume_size: Likewise of volumes.
        drop_path: Share of the residual branches that are dropped in training (Huang et al., ECCV 2016).

    Raises:
        ConfigError: If stages differ in number, heads do not divide a width, or the share is none.
    """

    def __init__(
        self,
        in_channels: int = 1,
        volume_channels: int = 1,
        widths: Sequence[int] = (48, 128, 256, 512),
        depths: Sequence[int] = (2, 3, 4, 3),
        decoder_depths: Sequence[int] = (3, 4, 3),
        heads: Sequence[int] = (1, 2, 4, 8),
        reductions: Sequence[int] = (6, 4, 2, 1),
        stem_width: int = 32,
        image_size: Sequence[int] = (224, 224),
        volume_size: Sequence[int] = (16, 96, 96),
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        n = len(widths)
        if not len(depths) == len(heads) == len(reductions) == len(decoder_depths) + 1 == n:
            raise ConfigError(
                f"Expected depths, heads and reductions for {n} stages, and decoder_depths for {n - 1}; "
                f"found {len(depths)}, {len(heads)}, {len(reductions)} and {len(decoder_depths)}."
            )
        for width, n_heads in zip(widths, heads, strict=True):
            check_heads(width, n_heads)
        if not 0 <= drop_path < 1:
            raise ConfigError(f"Expected a share drop_path of branches in [0, 1), found {drop_path}.")
        self.in_channels, self.volume_channels, self.stem_width, self.drop_path = in_channels, volume_channels, stem_width, drop_path
        self.widths, self.depths, self.decoder_depths = tuple(widths), tuple(depths), tuple(decoder_depths)
        self.heads, self.reductions = tuple(heads), tuple(reductions)
        self.image_size, self.volume_size = tuple(image_size), tuple(volume_size)
        self.stem = nn.ModuleDict(
            {"2D": _step("2D", in_channels, stem_width, 7, (2, 2)), "3D": _step("3D", volume_channels, stem_width, 7, (1, 2, 2))}
        )
        grids = self._grids()
        self.token = nn.Parameter(0.02 * torch.randn(self.widths[0]))
        before = (stem_width, *self.widths[:-1])
        self.encoder = nn.ModuleList(
            Stage(before[k], widths[k], depths[k], heads[k], reductions[k], grids[k], drop_path, first=k == 0, finer=False) for k in range(n)
        )
        self.decoder = nn.ModuleList(
            Stage(widths[k + 1], widths[k], depth, heads[k], reductions[k], grids[k], drop_path, first=False, finer=True)
            for k, depth in zip(reversed(range(n - 1)), decoder_depths, strict=True)
        )
        self.norm = nn.LayerNorm(self.widths[0])
        self.token_width, self.pooled_width = self.widths[-1], self.widths[0]
        self.map_widths = (stem_width, *self.widths)

    def _grids(self) -> list[dict[str, tuple[int, ...]]]:
        """Places by axis at each stage, of the images and volumes for which places are learned."""
        sizes = {"2D": tuple(half(n) for n in self.image_size), "3D": (self.volume_size[0], *(half(n) for n in self.volume_size[1:]))}
        grids = []
        for _ in self.widths:
            sizes = {rank: tuple(half(n) for n in size) for rank, size in sizes.items()}
            grids.append(sizes)
        return grids

    @property
    def volume_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that volumes alone train; they are frozen while images are seen."""
        return tuple(name for name, _ in self.named_parameters() if "3D" in name.split("."))

    def forward(self, batch: ImageBatch) -> Embedding:
        """Embed images or volumes; a token a place of the coarsest map, the pooled vector is the class token.

        Raises:
            ConfigError: If they have another number of channels.
            DataError: If they are so small that one place is left.
        """
        token, maps = self._through(self.readable(batch))
        return embedding_of(maps)._replace(pooled=token)

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of the stem, of the decoder, and the last of the encoder."""
        return self._through(images)[1]

    def check_images(self, images: Tensor) -> None:
        """Check that images or volumes have the encoder's channels.

        Raises:
            ConfigError: If they have others.
        """
        channels = {4: self.in_channels, 5: self.volume_channels}
        if channels.get(images.ndim) != images.shape[1]:
            raise ConfigError(
                f"Expected images [B, {self.in_channels}, {AXES[2]}] or volumes [B, {self.volume_channels}, {AXES[3]}] before PyramidTransformer, "
                f"found {list(images.shape)}. Give it their in_channels and volume_channels."
            )

    def _check_size(self, size: Sequence[int]) -> None:
        """Check that more than one place is left, since features are normalised within an image."""
        left = [half(n) for n in size] if len(size) == 2 else [size[0], *(half(n) for n in size[1:])]
        for _ in self.widths:
            left = [half(n) for n in left]
        if max(left) < 2:
            raise DataError(
                f"Expected images larger than {2 ** (len(self.widths) + 1)} voxels for {len(self.widths)} stages, found {list(size)}. "
                "Resize them, or make the transformer with fewer stages."
            )

    def _through(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The class token after the decoder `[B, D]`, and all maps, the finest first."""
        rank = f"{images.ndim - 2}D"
        self._check_size(images.shape[2:])
        features = self.stem[rank](images)
        token, passed, maps = self.token.expand(len(images), -1), [features], []
        for stage in self.encoder:
            features, token = stage(features, token, rank, None)
            passed.append(features)
        maps.append(passed.pop())
        for stage in self.decoder:
            features, token = stage(features, token, rank, passed.pop())
            maps.append(features)
        maps.append(passed.pop())
        return self.norm(token), tuple(reversed(maps))


class Stage(nn.Module):
    """Blocks at one scale, behind a grid made coarser (encoder) or finer (decoder).

    Args:
        width_in: Channels that come in.
        width: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        reduction: Places by axis that become one key.
        grids: Places by axis for which places are learned, for images and for volumes.
        drop_path: Share of the residual branches that are dropped in training.
        first: Whether the class token has the stage's width already.
        finer: Whether the grid becomes finer.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        depth: int,
        heads: int,
        reduction: int,
        grids: dict[str, tuple[int, ...]],
        drop_path: float,
        *,
        first: bool,
        finer: bool,
    ) -> None:
        super().__init__()
        if finer:
            self.embed = nn.ModuleDict({rank: kind(width_in, width, 2, stride=2) for rank, kind in _TRANSPOSED.items()})
        else:
            self.embed = nn.ModuleDict({rank: _step(rank, width_in, width, 3, (2,) * int(rank[0])) for rank in _CONVOLUTIONS})
        self.token = nn.Identity() if first else nn.Linear(width_in, width)
        self.places = nn.ParameterDict({rank: nn.Parameter(0.02 * torch.randn(1, width, *grid)) for rank, grid in grids.items()})
        self.blocks = nn.ModuleList(PyramidBlock(width, heads, reduction, drop_path) for _ in range(depth))

    def forward(self, features: Tensor, token: Float[Tensor, "B D"], rank: str, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features and class token of the stage; `added` is the encoder's map of the same scale."""
        features = self.embed[rank](features)
        if added is not None:  # where a size was odd, the finer grid has a place too many or too few
            features = added + _fitted(features, added.shape[2:])
        grid = features.shape[2:]
        features = features + _interpolated(self.places[rank], grid)
        tokens = torch.cat([self.token(token).unsqueeze(1), features.flatten(start_dim=2).transpose(1, 2)], dim=1)  # [B, 1 + N, D]
        for block in self.blocks:
            tokens = block(tokens, grid, rank)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, grid), tokens[:, 0]


class PyramidBlock(nn.Module):
    """Attention of all tokens to fewer keys, and feed-forward, with normalisation before each.

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        reduction: Places by axis that become one key.
        drop_path: Share of the residual branches that are dropped in training.
    """

    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.heads, self.reduction, self.drop_path = heads, reduction, drop_path
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        if reduction > 1:
            self.reduce = nn.ModuleDict({rank: kind(width, width, reduction, stride=reduction) for rank, kind in _CONVOLUTIONS.items()})
            self.norm_keys = nn.LayerNorm(width)
        self.feed = feed_forward(width, expansion=4)

    def forward(self, tokens: Float[Tensor, "B T D"], grid: Sequence[int], rank: str) -> Float[Tensor, "B T D"]:
        """Tokens after one round; the first is the class token, the others are the places of the grid."""
        tokens = tokens + self._dropped(self.out(self._attend(self.norm_attention(tokens), grid, rank)))
        return tokens + self._dropped(self.feed(self.norm_feed(tokens)))

    def _attend(self, tokens: Tensor, grid: Sequence[int], rank: str) -> Tensor:
        query = self.query(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, H, T, D / H]
        key, value = self.key_value(self._fewer(tokens, grid, rank)).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(start_dim=2)

    def _fewer(self, tokens: Tensor, grid: Sequence[int], rank: str) -> Tensor:
        """The class token, and one token for each box of places; an axis shorter than the box is filled up with zeros."""
        if self.reduction == 1:
            return tokens
        features = tokens[:, 1:].transpose(1, 2).unflatten(2, tuple(grid))
        lacking = [max(0, self.reduction - n) for n in grid]
        features = F.pad(features, [side for n in reversed(lacking) for side in (0, n)])
        boxes = self.reduce[rank](features).flatten(start_dim=2).transpose(1, 2)
        fewer: Tensor = self.norm_keys(torch.cat([tokens[:, :1], boxes], dim=1))
        return fewer

    def _dropped(self, branch: Tensor) -> Tensor:
        """The branch, or nothing in a share of the rows; what stays counts more, so that the mean is the same."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = torch.rand(len(branch), *(1,) * (branch.ndim - 1), device=branch.device) >= self.drop_path
        return branch * kept / (1 - self.drop_path)


def half(n: int) -> int:
    """Places of an axis after a step of two, as a convolution counts them."""
    return (n + 1) // 2


def _step(rank: str, width_in: int, width: int, kernel: int, stride: tuple[int, ...]) -> nn.Sequential:
    """A convolution that makes the grid coarser, normalised within each image."""
    made = _CONVOLUTIONS[rank](width_in, width, kernel, stride=stride, padding=kernel // 2, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(made, _NORMS[rank](width, affine=True), nn.LeakyReLU(0.01))


def _fitted(features: Tensor, size: Sequence[int]) -> Tensor:
    """Features cut, or filled up with zeros, at the end of each axis."""
    lacking = [wanted - found for wanted, found in zip(size, features.shape[2:], strict=True)]
    return F.pad(features, [side for n in reversed(lacking) for side in (0, n)])


def _interpolated(places: Tensor, grid: Sequence[int]) -> Tensor:
    if places.shape[2:] == tuple(grid):
        return places
    mode = "bicubic" if len(grid) == 2 else "trilinear"
    return F.interpolate(places, size=tuple(grid), mode=mode, align_corners=False)
