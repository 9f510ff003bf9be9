"""Undo what was done to an image."""

import torch
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.segmentation import SegmentationDecoder
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.map_decoder import MapDecoder, decoder_for, of_images
from graphssl.views.base import AbstractView, Compose
from graphssl.views.erase import Cutout, LocalShuffle
from graphssl.views.intensity import BezierCurve

# Chances of 0.9 for the curve, 0.5 for shuffling, and 0.9 for painting, four times in five outside of boxes.
MODELS_GENESIS = Compose(
    (
        LocalShuffle(p=0.5),
        BezierCurve(p=0.9),
        Cutout(extent=(1 / 6, 1 / 3), p=0.18),
        Cutout(extent=(3 / 7, 4 / 7), outside=True, p=0.72),
    )
)


class Restoration(AbstractObjective):
    """Restore an image whose voxels were shuffled nearby, whose intensities were bent, and which was painted over inside or outside of boxes.

    Models Genesis (Zhou et al., MICCAI 2019): an encoder and a decoder with skips, as a U-Net, and the squared error of the restored image.

    Args:
        corruption: What is undone.
        view: A look at the image that is not undone, such as flips; the target is looked at too.
        skips: Whether finer maps of the encoder reach the decoder; without, all must go through the coarsest map.
        segmentation_width: Width of a decoder as segmentation has it (`SegmentationDecoder`), which a segmentation can then start from; the decoder
            of Swin UNETR's pre-training when left out.
    """

    def __init__(
        self,
        corruption: AbstractView | None = None,
        view: AbstractView | None = None,
        skips: bool = True,
        segmentation_width: int | None = None,
    ) -> None:
        super().__init__()
        self.corruption, self.view, self.skips = corruption or MODELS_GENESIS, view, skips
        self.segmentation_width = segmentation_width

    def prepare(self, encoder: AbstractEncoder) -> "Restoration":
        """Make the decoder.

        Raises:
            ConfigError: If the encoder is none of images.
        """
        if self.segmentation_width is None:
            self.decoder: MapDecoder | SegmentationDecoder = decoder_for(encoder, self.skips)
        else:
            channels = of_images(encoder, "an image that is restored").in_channels
            self.decoder = SegmentationDecoder.for_encoder(encoder, channels, width=self.segmentation_width, deep_supervision=False)
        return self

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """Mean squared error of the restored images; `corrupted_error` is that of the images as the encoder sees them.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If images are so small that one place is left on the coarsest map.
        """
        self.check_prepared("decoder")
        batch = batch.without_masks()
        target = batch if self.view is None else self.view(batch, generator)
        corrupted = self.corruption(target, generator)
        maps, decoder = encoder(corrupted).maps, self.decoder
        restored = decoder(maps, target.shape[2:]) if isinstance(decoder, MapDecoder) else decoder(corrupted.images, maps)[0]
        return Loss(F.mse_loss(restored, target.images), {"corrupted_error": F.mse_loss(corrupted.images, target.images)})
