"""A vision transformer in two and three dimensions, and the decoder of a masked autoencoder."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.images.image_encoder import AbstractImageEncoder, check_rank
from graphssl.errors import ConfigError, DataError

Readout = Literal["mean", "class"]


class VisionTransformer(AbstractImageEncoder):
    """Patches that attend to one another (Dosovitskiy et al., ICLR 2021), in 2D and in 3D.

    Places are fixed sines and cosines, so any size that patches divide is read. A patch with a hidden voxel is not embedded at all, as in a masked
    autoencoder (He et al., CVPR 2022): its token is zero and `mask` of the embedding is False there. Where nothing is hidden, `maps` are the states
    after some blocks, evenly spaced, for a decoder as in UNETR (Hatamizadeh et al., WACV 2022).

    Args:
        rank: 2 for images, 3 for volumes and clips.
        in_channels: Channels of the images.
        patch_size: Side of a patch in voxels, one for all axes or one an axis.
        width: Width of the tokens, and of the pooled vector.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        readout: The pooled vector: `"mean"` of the visible patches, or a `"class"` token.
        n_maps: Number of blocks whose states are maps.

    Raises:
        ConfigError: If the rank or readout is unknown, heads do not divide the width, there are fewer blocks than maps, or a patch has no side.
    """

    def __init__(
        self,
        rank: int = 2,
        in_channels: int = 1,
        patch_size: int | Sequence[int] = 8,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        dropout: float = 0.0,
        readout: Readout = "mean",
        n_maps: int = 4,
    ) -> None:
        super().__init__()
        check_rank(rank)
        check_heads(width, heads)
        if readout not in ("mean", "class") or not 1 <= n_maps <= depth:
            raise ConfigError(f"Expected the readout 'mean' or 'class' and 1 to {depth} maps, found {readout!r} and {n_maps}.")
        self.rank, self.in_channels, self.width, self.depth, self.heads = rank, in_channels, width, depth, heads
        self.dropout, self.readout, self.n_maps = dropout, readout, n_maps
        self.patch_size = patch_size if isinstance(patch_size, int) else tuple(patch_size)
        self.patch = sides(patch_size, rank)
        embed = nn.Conv2d if rank == 2 else nn.Conv3d
        self.embed = embed(in_channels, width, self.patch, stride=self.patch)  # type: ignore[arg-type]
        self.token = nn.Parameter(0.02 * torch.randn(width)) if readout == "class" else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout, expansion=4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.token_width = self.pooled_width = width
        self.map_widths = (width,) * n_maps

    def forward(self, batch: ImageBatch) -> Embedding:
        """Embed a batch of images; a token a patch, in the order of rows.

        Raises:
            ConfigError: If the images have another rank or number of channels.
            DataError: If patches do not divide the images, or an image has no patch that is wholly visible.
        """
        images = self.readable(batch)
        grid = self.grid(images.shape[2:])
        tokens = self.embed(images).flatten(start_dim=2).transpose(1, 2) + sines_of_places(grid, self.width, images.device)  # [B, N, D]
        if batch.visible is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            states, pooled = self._attend(tokens, mask)
            chosen = [states[math.ceil((k + 1) * self.depth / self.n_maps) - 1] for k in range(self.n_maps)]
            return Embedding(states[-1], mask, pooled, tuple(state.transpose(1, 2).unflatten(2, grid) for state in chosen))
        shown = self.shown(batch.visible)
        places, present = first_places(shown)
        states, pooled = self._attend(tokens.gather(1, places.unsqueeze(2).expand(-1, -1, self.width)), present)
        kept = states[-1] * present.unsqueeze(2)
        return Embedding(torch.zeros_like(tokens).scatter(1, places.unsqueeze(2).expand_as(kept), kept), shown, pooled)

    def scales(self, images: Tensor) -> tuple[Tensor, ...]:
        """States after some blocks as feature maps, all of one scale."""
        return self(ImageBatch(tuple(map(str, range(len(images)))), images)).maps

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Patches by axis of an image of a size in voxels.

        Raises:
            DataError: If patches do not divide it.
        """
        if any(n < side or n % side for n, side in zip(size, self.patch, strict=True)):
            raise DataError(
                f"Expected images of a size that patches of {list(self.patch)} voxels divide, found {list(size)}. "
                "Crop, pad or resize them, or choose another patch_size."
            )
        return tuple(n // side for n, side in zip(size, self.patch, strict=True))

    def shown(self, visible: Bool[Tensor, "B *S"]) -> Bool[Tensor, "B N"]:
        """Which patches are wholly visible.

        Raises:
            DataError: If an image has none.
        """
        shown = patches_of(visible.unsqueeze(1), self.patch).all(dim=2)
        if not shown.any(dim=1).all():
            raise DataError("Expected a visible patch in every image, found one where all are hidden. Hide fewer.")
        return shown

    def _attend(self, tokens: Float[Tensor, "B N D"], present: Bool[Tensor, "B N"]) -> tuple[list[Tensor], Tensor]:
        """Tokens after each block, the last normalised, and the pooled vector."""
        n = 0
        if self.token is not None:
            n = 1
            tokens = torch.cat([self.token.expand(len(tokens), 1, -1), tokens], dim=1)
        allowed = F.pad(present, (n, 0), value=True)[:, None, None]  # [B, 1, 1, N]
        states = []
        for block in self.blocks:
            tokens = block(tokens, allowed)
            states.append(tokens[:, n:])
        tokens = self.norm(tokens)
        states[-1] = tokens[:, n:]
        if n:
            return states, tokens[:, 0]
        share = present / present.sum(dim=1, keepdim=True)
        return states, torch.einsum("bn,bnd->bd", share, tokens)


class PatchDecoder(nn.Module):
    """What every patch looks like from the visible ones: the decoder of a masked autoencoder (He et al., CVPR 2022).

    Args:
        width_in: Width of the encoder's tokens.
        n_outputs: Numbers to predict a patch, such as its voxels times channels.
        width: Width of the decoder's tokens.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.

    Raises:
        ConfigError: If heads do not divide the width.
    """

    def __init__(self, width_in: int, n_outputs: int, width: int = 96, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        check_heads(width, heads)
        self.width = width
        self.enter = nn.Linear(width_in, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads, 0.0, expansion=4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, n_outputs)

    def forward(self, tokens: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"], grid: tuple[int, ...]) -> Float[Tensor, "B N P"]:
        """Predictions for all patches.

        Args:
            tokens: Tokens of the embedding, where `mask` says.
            mask: Which patches were visible.
            grid: Patches by axis.
        """
        tokens = torch.where(mask.unsqueeze(2), self.enter(tokens), self.hidden) + sines_of_places(grid, self.width, tokens.device)
        everywhere = torch.ones_like(mask)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, everywhere)
        predicted: Tensor = self.leave(self.norm(tokens))
        return predicted


def sides(patch_size: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Sides of a patch by axis.

    Raises:
        ConfigError: If there is not one an axis, or one is below 1.
    """
    found = (patch_size,) * rank if isinstance(patch_size, int) else tuple(patch_size)
    if len(found) != rank or min(found) < 1:
        raise ConfigError(f"Expected a patch_size of one number, or of one for each of {rank} axes, above 0; found {patch_size}.")
    return found


def patches_of(images: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Patches `[B, N, P · C]` of images `[B, C, *S]`: in the order of rows, and in each its voxels in that order, channels last."""
    rank = len(patch)
    for axis, side in enumerate(patch):
        images = images.unflatten(2 + 2 * axis, (-1, side))  # [B, C, G1, P1, G2, P2, …]
    grid, inner = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    return images.permute(0, *grid, *inner, 1).flatten(1, rank).flatten(start_dim=2)


def images_of(patches: Float[Tensor, "B N P"], patch: tuple[int, ...], grid: tuple[int, ...]) -> Float[Tensor, "B C *S"]:
    """The inverse of `patches_of`."""
    rank = len(patch)
    apart = patches.unflatten(2, (*patch, -1)).unflatten(1, grid)  # [B, *G, *P, C]
    paired = [axis for k in range(rank) for axis in (1 + k, 1 + rank + k)]
    images = apart.permute(0, 1 + 2 * rank, *paired)  # [B, C, G1, P1, …]
    for axis in range(rank):
        images = images.flatten(2 + axis, 3 + axis)
    return images


def first_places(shown: Bool[Tensor, "B N"]) -> tuple[Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """Places of what is shown in each row, in order, as many as the fullest row has; and which of them are not padding."""
    n = int(shown.sum(dim=1).max())
    places = shown.long().argsort(dim=1, descending=True, stable=True)[:, :n]
    return places, shown.gather(1, places)


def sines_of_places(grid: Sequence[int], width: int, device: torch.device | None = None) -> Float[Tensor, "N D"]:
    """Sines and cosines of the place on each axis, in frequencies that fall from 1 to 1/10,000 a patch; zero where the axes do not fill the width."""
    n = width // (2 * len(grid))
    frequency = 10000.0 ** -(torch.arange(n, device=device) / max(1, n))
    axes = torch.meshgrid(*(torch.arange(size, device=device, dtype=torch.float32) for size in grid), indexing="ij")
    waves = [wave(axis.flatten().unsqueeze(1) * frequency) for axis in axes for wave in (torch.sin, torch.cos)]
    found = torch.cat(waves, dim=1)
    return F.pad(found, (0, width - found.shape[1]))
