"""Patches against slices, one image and one cell at a time."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.patches import as_batch, cut_patches, draw_starts, patch_size


@settings(max_examples=25, deadline=None)
@given(rank=st.integers(2, 3), jitter=st.integers(0, 2), seed=st.integers(0, 99), cells=st.tuples(*[st.integers(1, 3)] * 3))
def test_patches_are_slices_within_their_cells(rank, jitter, seed, cells):
    size, grid = (10, 12, 9)[:rank], cells[:rank]
    source = torch.Generator().manual_seed(seed)
    images = torch.randn(3, 2, *size, generator=source)
    patch = patch_size(size, grid, jitter)
    starts = draw_starts(3, size, grid, jitter, source)
    found = cut_patches(images, starts, patch)
    for row, (k, cell) in itertools.product(range(3), enumerate(itertools.product(*map(range, grid)))):
        begin = starts[row, k].tolist()
        for axis in range(rank):
            first = cell[axis] * (size[axis] // grid[axis])
            assert first <= begin[axis] <= begin[axis] + patch[axis] <= first + size[axis] // grid[axis]
        slices = tuple(slice(at, at + n) for at, n in zip(begin, patch, strict=True))
        assert torch.equal(found[row, k], images[row][(slice(None), *slices)])


def test_rows_of_an_image_stay_together_and_keep_their_subject():
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 6, 6)
    patches = cut_patches(images, draw_starts(2, (6, 6), (2, 2), 0, torch.Generator()), (3, 3))
    batch = as_batch(patches, ImageBatch(("a", "b"), images))
    assert batch.subject_ids == ("a",) * 4 + ("b",) * 4
    assert batch.images.mean(dim=(1, 2, 3)).tolist() == [0.0] * 4 + [1.0] * 4


def test_what_is_too_small_or_of_another_rank_is_refused():
    with pytest.raises(DataError, match=r"Expected images of at least \[12, 12\] voxels for a grid of \[3, 3\] and a jitter of 3, found \[9, 30\]"):
        patch_size((9, 30), (3, 3), 3)
    with pytest.raises(ConfigError, match=r"Expected a grid of 2 axes for images of size \[9, 9\], found \[2, 2, 2\]"):
        patch_size((9, 9), (2, 2, 2), 0)
