"""The look that fits the rank of a batch."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import DataError
from graphssl.views import ByRank, Flip, ResizedCrop


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("shape", "clip", "expected"), [((3, 1, 8, 8), False, (6, 6)), ((3, 1, 4, 8, 8), False, (4, 8, 8)), ((3, 1, 4, 8, 8), True, (4, 6, 6))]
)
def test_images_and_clips_are_looked_at_one_way_and_volumes_another(shape, clip, expected):
    view = ByRank(images=ResizedCrop(6), volumes=Flip())
    batch = ImageBatch(("a", "b", "c"), torch.randn(shape, generator=generator()), clip=clip)
    found = view(batch, generator())
    assert found.shape[2:] == expected
    alone = (Flip() if found.rank == 3 else ResizedCrop(6))(batch, generator())
    assert torch.equal(found.images, alone.images)


def test_both_looks_learn_of_the_cohort_and_other_batches_are_refused(make_cohort, make_batch):
    view = ByRank(images=ResizedCrop(6), volumes=Flip())
    assert view.for_cohort(make_cohort(4)) == view
    with pytest.raises(DataError, match="images"):
        view(make_batch(), generator())
