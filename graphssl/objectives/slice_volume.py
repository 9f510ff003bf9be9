"""Slices of a volume and the volume itself teach one another, by an encoder that reads both."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphssl.data.image_batch import ImageBatch
from graphssl.errors import DataError
from graphssl.objectives.base import Loss
from graphssl.objectives.distillation import DINO


class SliceVolumeDistillation(DINO):
    """Distillation between images, volumes, and volumes and their own slices (UniMiSS, Xie et al., ECCV 2022).

    Images are distilled as in [`DINO`][graphssl.objectives.DINO]. Of volumes each view is also read slice by slice, as images; the mean over the
    slices' scores of the prototypes is what the slices say together. Four terms of weight 1 let volumes agree with the teacher's volumes, slices with
    the teacher's volumes, slices with the teacher's slices, and volumes with the teacher's slices, each over both pairs of views. The encoder must
    read images and volumes, such as [`PyramidTransformer`][graphssl.encoders.PyramidTransformer]; a minibatch holds one of the two.

    Arguments are those of [`DINO`][graphssl.objectives.DINO].
    """

    def look(self, batch: Any, generator: torch.Generator) -> tuple[Any, ...]:
        """Two views of a batch, and of volumes all slices of each; small views of images alone.

        Raises:
            DataError: If it is no batch of images or volumes.
        """
        if not isinstance(batch, ImageBatch) or batch.clip:
            raise DataError(f"Expected images or volumes to distil between, found {batch!r}.")
        views = super().look(batch, generator)
        return views if batch.rank == 2 else (*views[:2], *(slices_of(view) for view in views[:2]))

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The mean loss of pairs of views of images; of volumes, the sum of that of the four terms."""
        if views[0].rank == 2:
            return super().compare(projected, views)
        scores, taught = self.scores(projected), [self.teacher(view).float() for view in views]
        depth = len(views[2]) // len(views[0])
        said, heard = ([each.unflatten(0, (-1, depth)).mean(dim=1) for each in both[2:]] for both in (scores, taught))
        volumes, teacher = scores[:2], taught[:2]
        return self.agreement([(volumes, teacher), (said, teacher), (said, heard), (volumes, heard)])


def slices_of(volumes: ImageBatch) -> ImageBatch:
    """All slices of volumes as images, those of a volume one after the other."""
    depth = volumes.images.shape[2]
    subjects = tuple(subject for subject in volumes.subject_ids for _ in range(depth))
    visible = None if volumes.visible is None else volumes.visible.flatten(0, 1)
    images = volumes.images.transpose(1, 2).flatten(0, 1)
    return replace(volumes, subject_ids=subjects, images=images, masks=None, visible=visible, groups={})
