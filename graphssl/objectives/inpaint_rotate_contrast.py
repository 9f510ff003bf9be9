"""Restore what was painted over, tell how an image was turned, and find its other view: three tasks on the same two looks."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.contrastive import contrast
from graphssl.objectives.map_decoder import decoder_for
from graphssl.objectives.two_views import check_positive, check_subjects
from graphssl.views.base import AbstractView, Compose
from graphssl.views.dropped import DropBoxes
from graphssl.views.spatial import Rotate90

DROP_AND_SWAP = Compose((DropBoxes(fill="noise"), DropBoxes(fill="swap")))


class InpaintRotateContrast(AbstractObjective):
    """The pre-training of Swin UNETR (Tang et al., CVPR 2022): each image is looked at twice, turned by quarters and then painted over in boxes.

    From every look a decoder restores the turned image as it was before boxes were painted, a head tells the turn, and a projector finds the other
    look among those of the minibatch. Of the published encoder's tokens the first tells the turn and the second is contrasted.

    Args:
        corruption: What is done to a turned image; boxes of noise, then boxes of other images when left out.
        plane: The two axes in whose plane images are turned, counted from the end; as wide as high in it.
        read: `"tokens"` lets the two heads read the first and the second token, `"pooled"` the pooled vector.
        width: Width of the contrasted vectors.
        temperature: Temperature of the contrast.
        restoration_weight: Weight of the absolute error of the restored image.
        rotation_weight: Weight of the cross-entropy of the turn.
        contrast_weight: Weight of the contrast.

    Raises:
        ConfigError: If a number is not positive, or heads are to read something else.
    """

    def __init__(
        self,
        corruption: AbstractView | None = None,
        plane: Sequence[int] = (-2, -1),
        read: Literal["tokens", "pooled"] = "tokens",
        width: int = 512,
        temperature: float = 0.5,
        restoration_weight: float = 1.0,
        rotation_weight: float = 1.0,
        contrast_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(width=width, temperature=temperature)
        check_positive(restoration_weight=restoration_weight, rotation_weight=rotation_weight, contrast_weight=contrast_weight)
        if read not in ("tokens", "pooled"):
            raise ConfigError(f"Expected the heads to read 'tokens' or 'pooled', found {read!r}.")
        self.corruption, self.plane, self.read = corruption or DROP_AND_SWAP, tuple(plane), read
        self.turn = Rotate90(self.plane)
        self.width, self.temperature = width, temperature
        self.restoration_weight, self.rotation_weight, self.contrast_weight = restoration_weight, rotation_weight, contrast_weight

    def prepare(self, encoder: AbstractEncoder) -> "InpaintRotateContrast":
        """Make the decoder and the two heads.

        Raises:
            ConfigError: If the encoder is none of images.
        """
        width = encoder.token_width if self.read == "tokens" else encoder.pooled_width
        self.decoder = decoder_for(encoder)
        self.rotation, self.projector = nn.Linear(width, 4), nn.Linear(width, self.width)
        return self

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """The weighted sum of the three losses.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If the batch holds one subject only, or images too small or not square.
        """
        self.check_prepared("decoder")
        check_subjects(batch)
        batch = batch.without_masks()
        first, second = (self._look(encoder, batch, generator) for _ in range(2))
        turn = F.cross_entropy(torch.cat([first.turn, second.turn]), torch.cat([first.turned, second.turned]))
        found = contrast((first.projected, second.projected), batch, self.temperature)
        total = self.restoration_weight * (first.error + second.error) / 2 + self.rotation_weight * turn + self.contrast_weight * found.total
        told = torch.cat([first.turn.argmax(dim=1) == first.turned, second.turn.argmax(dim=1) == second.turned]).float().mean()
        parts = {"restoration_error": (first.error + second.error) / 2, "rotation_loss": turn, "contrast_loss": found.total}
        return Loss(total, {name: part.detach() for name, part in parts.items()} | {"rotation_accuracy": told, **found.parts})

    def _look(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> "_Look":
        drawn = self.turn.draw(batch, generator)
        target = self.turn.apply(batch, drawn)
        embedding = encoder(self.corruption(target, generator))
        for_turn, for_contrast = self._read(embedding)
        error = F.l1_loss(self.decoder(embedding.maps, target.shape[2:]), target.images)
        return _Look(self.rotation(for_turn), drawn.what[0].to(batch.device), self.projector(for_contrast), error)

    def _read(self, embedding: Embedding) -> tuple[Tensor, Tensor]:
        if self.read == "pooled":
            return embedding.pooled, embedding.pooled
        if embedding.tokens.shape[1] < 2:
            raise DataError("Expected images of two tokens or more, found one. Give read='pooled', or the builder a larger size.")
        return embedding.tokens[:, 0], embedding.tokens[:, 1]


class _Look(NamedTuple):
    turn: Float[Tensor, "B 4"]
    turned: Int[Tensor, "B"]
    projected: Float[Tensor, "B D"]
    error: Float[Tensor, ""]
