"""One look at images, another at volumes, where a run has both."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.views.base import AbstractView
from graphssl.views.image import check_images


@dataclass(frozen=True)
class ByRank(AbstractView):
    """The look that fits a batch: one at images and clips, one at volumes.

    Args:
        images: The look at images, and at the frames of clips.
        volumes: The look at volumes.
    """

    images: AbstractView
    volumes: AbstractView

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Any:
        """A draw of the look that fits.

        Raises:
            DataError: If the batch holds no images.
        """
        check_images(batch)
        return self._fitting(batch).draw(batch, generator)

    def apply(self, batch: ImageBatch, draw: Any) -> Any:
        """Apply the look that fits."""
        return self._fitting(batch).apply(batch, draw)

    def for_cohort(self, cohort: Cohort) -> "ByRank":
        """The looks with what they must learn of training subjects."""
        return replace(self, images=self.images.for_cohort(cohort), volumes=self.volumes.for_cohort(cohort))

    def _fitting(self, batch: ImageBatch) -> AbstractView:
        return self.volumes if batch.rank == 3 else self.images
