"""Learn the class of every voxel from the maps of an encoder."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.segmentation import DecoderKind, SegmentationDecoder
from graphssl.errors import DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.segmentation_loss import SegmentationLoss
from graphssl.views.base import AbstractView

_DICE_AND_CE = {"dice": 1.0, "ce": 1.0}


class Segmentation(AbstractObjective):
    """A decoder on an encoder's maps, and a mix of losses between its logits and the masks.

    Coarser logits count half as much from scale to scale, against masks of their size (deep supervision, Lee et al., AISTATS 2015). Voxels of unknown
    class, -1, do not count.

    Args:
        n_classes: Number of classes, the background among them.
        losses: Weight of each loss by name, see `SegmentationLoss`; Dice and cross-entropy alike when left out.
        decoder: `"unet"` or `"unetr"`; what fits the encoder when left out.
        rank: Axes of the images, where the encoder reads images and volumes.
        width: Channels of the decoder at the scale of the image.
        deep_supervision: Whether coarser scales learn by themselves too.
        view: What is done to images and masks before, such as `ForegroundCrop` where volumes are large.
        frozen: Whether the encoder is left as it is.

    Raises:
        ConfigError: If a loss is unknown or no weight.
        MissingExtraError: If MONAI is not installed.
    """

    def __init__(
        self,
        n_classes: int,
        losses: Mapping[str, float] | None = None,
        decoder: DecoderKind | None = None,
        rank: int | None = None,
        width: int = 16,
        deep_supervision: bool = True,
        view: AbstractView | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.n_classes, self.losses, self.decoder, self.rank = n_classes, dict(losses or _DICE_AND_CE), decoder, rank
        self.width, self.deep_supervision, self.view, self.frozen = width, deep_supervision, view, frozen
        self.loss = SegmentationLoss(self.losses)

    def prepare(self, encoder: AbstractEncoder) -> "Segmentation":
        """Make the decoder for the encoder's maps.

        Raises:
            ConfigError: If the encoder is none of images, or the decoder does not fit it.
        """
        self.decode = SegmentationDecoder.for_encoder(
            encoder, self.n_classes, kind=self.decoder, rank=self.rank, width=self.width, deep_supervision=self.deep_supervision
        )
        return self

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """The loss on a batch with masks, and how far classes overlap.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If there are no masks, or one has a class beyond the last.
        """
        self.check_prepared("decode")
        if self.view is not None:
            batch = self.view(batch, generator)
        if batch.masks is None:
            raise DataError("Expected images with segmentation masks, found none. Load masks, or leave segmentation out.")
        logits = self.decode(batch.images, self._maps(encoder, batch))
        share = [2.0**-scale for scale in range(len(logits))]
        found = [self.loss(each, batch.masks) for each in logits]
        total = sum(weight * each for weight, (each, _) in zip(share, found, strict=True)) / sum(share)
        parts = {name: part.detach() for name, part in found[0][1].items()} if len(self.losses) > 1 else {}
        return Loss(total, {**parts, "overlap": overlap(logits[0].detach().argmax(dim=1), batch.masks, self.n_classes)})

    def _maps(self, encoder: AbstractEncoder, batch: ImageBatch) -> tuple[Tensor, ...]:
        if self.frozen:
            encoder.eval()  # statistics of normalisation stay too
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps: tuple[Tensor, ...] = encoder(batch).maps
        return maps


def overlap(predicted: Int[Tensor, "B *S"], masks: Int[Tensor, "B *S"], n_classes: int) -> Float[Tensor, ""]:
    """Dice of the whole batch, averaged over the classes that either has, the background left out; unknown voxels do not count."""
    known = masks >= 0
    of_both = [torch.bincount(each[known].flatten().long(), minlength=n_classes) for each in (predicted, masks)]
    agreed = torch.bincount(masks[known & (predicted == masks)].flatten().long(), minlength=n_classes)
    total = (of_both[0] + of_both[1])[1:]
    dice = 2 * agreed[1:] / total.clamp(min=1)
    return dice.sum() / (total > 0).sum().clamp(min=1)
