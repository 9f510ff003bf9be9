"""Tell from two patches of an image where one lies from the other."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.map_decoder import of_images
from graphssl.objectives.patches import as_batch, cut_patches, draw_starts, patch_size
from graphssl.objectives.two_views import check_positive


class Pairs(NamedTuple):
    """What is drawn of pairs of patches: where both begin `[B, 2, R]`, and which neighbour the second is `[B]`."""

    starts: Int[Tensor, "B 2 R"]
    neighbour: Int[Tensor, "B"]


class RelativePosition(AbstractObjective):
    """Cut an image by a grid of three cells along each axis; from the middle patch and one of the others tell which of them the other is.

    Context prediction (Doersch et al., ICCV 2015), in 3D one of 26 places (Taleb et al., NeurIPS 2020). Both patches go through the encoder and one
    small projection.

    Args:
        jitter: Voxels by which a patch can move within its cell, so that lines across the border do not tell.
        width: Width of the projection of a patch.

    Raises:
        ConfigError: If the width is not positive or the jitter is negative.
    """

    def __init__(self, jitter: int = 3, width: int = 64) -> None:
        super().__init__()
        check_positive(width=width, jitter=jitter + 1)
        self.jitter, self.width = jitter, width

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "RelativePosition":
        """Make the projection and the head.

        Raises:
            ConfigError: If the encoder is none of images of one rank.
        """
        rank = of_images(encoder, "relative positions").rank
        self.projector = nn.Sequential(nn.Linear(encoder.pooled_width, self.width), nn.BatchNorm1d(self.width), nn.ReLU())
        self.head = nn.Linear(2 * self.width, 3**rank - 1)
        return self

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Pairs:
        """Choose the second patch of each image, and where both begin."""
        grid = (3,) * (len(batch.shape) - 2)
        n_cells = 3 ** len(grid)
        neighbour = torch.randint(n_cells - 1, (len(batch),), generator=generator)
        middle = n_cells // 2
        cell = neighbour + (neighbour >= middle)
        starts = draw_starts(len(batch), batch.shape[2:], grid, self.jitter, generator)
        rows = torch.arange(len(batch))
        return Pairs(torch.stack([starts[:, middle], starts[rows, cell]], dim=1), neighbour)

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """Cross-entropy of the place, and how often it was told.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If images are too small for three cells.
        """
        self.check_prepared("head")
        size = patch_size(batch.shape[2:], (3,) * (len(batch.shape) - 2), self.jitter)
        drawn = self.draw(batch, generator)
        patches = as_batch(cut_patches(batch.images, drawn.starts, size), batch)
        projected = self.projector(encoder(patches).pooled).view(len(batch), -1)  # [B, 2 D]
        logits, target = self.head(projected), drawn.neighbour.to(batch.device)
        return Loss(F.cross_entropy(logits, target), {"accuracy": (logits.detach().argmax(dim=1) == target).float().mean()})
