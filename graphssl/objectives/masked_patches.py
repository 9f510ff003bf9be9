"""Hide patches of an image and predict them from the others."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.vit import PatchDecoder, VisionTransformer, images_of, patches_of
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.choose import choose_share
from graphssl.objectives.two_views import check_positive


class MaskedPatches(AbstractObjective):
    """A masked autoencoder (He et al., CVPR 2022): the encoder embeds the visible patches alone, and a small decoder predicts the others.

    Args:
        ratio: Share of the patches that is hidden, in (0, 1).
        normalised: Whether the values of a patch are predicted in units of that patch, less its mean and divided by its spread.
        width: Width of the decoder's tokens.
        depth: Blocks of the decoder.
        heads: Attention heads of the decoder.

    Raises:
        ConfigError: If the ratio is out of range, or another number is not positive.
    """

    def __init__(self, ratio: float = 0.75, normalised: bool = True, width: int = 96, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        check_positive(width=width, depth=depth, heads=heads)
        if not 0 < ratio < 1:
            raise ConfigError(f"Expected a share of hidden patches between 0 and 1, found {ratio}.")
        self.ratio, self.normalised, self.width, self.depth, self.heads = ratio, normalised, width, depth, heads

    @property
    def reads_maps(self) -> bool:
        """No: it reads tokens."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "MaskedPatches":
        """Make the decoder.

        Raises:
            ConfigError: If the encoder is no `VisionTransformer`, which alone leaves hidden patches out.
        """
        if not isinstance(encoder, VisionTransformer):
            raise ConfigError(
                f"Expected a VisionTransformer for MaskedPatches, found {type(encoder).__name__}. Restoration takes any encoder of images."
            )
        n_values = int(torch.tensor(encoder.patch).prod()) * encoder.in_channels
        self.decoder = PatchDecoder(encoder.token_width, n_values, self.width, self.depth, self.heads)
        return self

    def draw(self, encoder: VisionTransformer, batch: ImageBatch, generator: torch.Generator) -> Bool[Tensor, "B N"]:
        """Which patches are hidden; one at least, and one is left.

        Args:
            encoder: The encoder, which knows the grid of patches.
            batch: The images.
            generator: Source of randomness, on the CPU.
        """
        grid = encoder.grid(batch.shape[2:])
        eligible = torch.ones(len(batch), int(torch.tensor(grid).prod()), dtype=torch.bool)
        return choose_share(eligible, self.ratio, generator).to(batch.device)

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """Mean squared error over hidden patches; `mean_error` is that of the mean of each image.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If patches do not divide the images.
        """
        self.check_prepared("decoder")
        assert isinstance(encoder, VisionTransformer)
        batch = batch.without_masks()
        hidden, grid = self.draw(encoder, batch, generator), encoder.grid(batch.shape[2:])
        target = patch_targets(batch.images, encoder.patch, self.normalised)
        embedding = encoder(batch.hide(voxels_of(hidden, encoder.patch, grid)))
        predicted = self.decoder(embedding.tokens, embedding.mask, grid)
        flat = target.mean(dim=(1, 2), keepdim=True).expand_as(target)
        return Loss(hidden_error(predicted, target, hidden), {"mean_error": hidden_error(flat, target, hidden)})


def patch_targets(images: Float[Tensor, "B C *S"], patch: tuple[int, ...], normalised: bool) -> Float[Tensor, "B N P"]:
    """Values of every patch, in units of the patch where they are normalised."""
    patches = patches_of(images, patch)
    if not normalised:
        return patches
    spread, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return (patches - mean) / (spread + 1e-6).sqrt()


def voxels_of(hidden: Bool[Tensor, "B N"], patch: tuple[int, ...], grid: tuple[int, ...]) -> Bool[Tensor, "B *S"]:
    """Voxels of the hidden patches."""
    n_voxels = int(torch.tensor(patch).prod())
    return images_of(hidden.unsqueeze(2).expand(-1, -1, n_voxels), patch, grid).squeeze(1)


def hidden_error(predicted: Float[Tensor, "B N P"], target: Float[Tensor, "B N P"], hidden: Bool[Tensor, "B N"]) -> Float[Tensor, ""]:
    """Mean squared error over hidden patches."""
    return (predicted - target).square().mean(dim=2).masked_fill(~hidden, 0.0).sum() / hidden.sum().clamp(min=1)
