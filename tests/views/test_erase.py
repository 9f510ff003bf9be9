"""Boxes filled and voxels shuffled, against loops over boxes and windows."""

import numpy as np
import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views import Cutout, LocalShuffle, erase
from graphssl.views.counter import uniform
from graphssl.views.erase import in_boxes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(*shape, seed=0, **changes):
    return ImageBatch(tuple(map(str, range(shape[0]))), torch.randn(*shape, generator=generator(seed)), **changes)


def boxes(draw, row, size):
    """Which voxels of a row lie in a box, one box after the other."""
    extent, start, there, _ = (tensor[row] for tensor in draw.what)
    inside = np.zeros(size, dtype=bool)
    for box in range(len(there)):
        if there[box]:
            first = [min(int(np.floor(float(s) * n)), n - 1) for s, n in zip(start[box], size, strict=True)]
            inside[tuple(slice(f, f + max(1, round(float(e) * n))) for f, e, n in zip(first, extent[box], size, strict=True))] = True
    return torch.from_numpy(inside)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("fill", ["zero", "mean", "noise", "swap"])
def test_boxes_are_filled_and_nothing_else(fill, outside):
    batch = batch_of(6, 2, 9, 12, 10)
    view = Cutout((1, 4), (0.2, 0.5), fill, outside=outside)
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    for row in range(6):
        filled = boxes(draw, row, (9, 12, 10)) ^ outside
        assert torch.equal(seen[row][:, ~filled], batch.images[row][:, ~filled])
        inside, image = seen[row][:, filled], batch.images[row]
        if fill == "zero":
            assert (inside == 0).all()
        if fill == "mean":
            assert torch.allclose(inside, image.mean())
        if fill == "swap":
            assert torch.equal(inside, batch.images[(row + 1) % 6][:, filled])
        if fill == "noise":
            assert inside.min() >= image.min()
            assert inside.max() <= image.max()
            assert inside.std() > 0.2 * (image.max() - image.min())
    counts = draw.what[2].sum(dim=1)
    assert set(counts.tolist()) <= {1, 2, 3, 4}


def test_hidden_boxes_are_not_visible_and_zero():
    batch = batch_of(4, 1, 3, 8, 8, clip=True)
    view = Cutout(hide=True)
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw)
    assert seen.visible.shape == (4, 3, 8, 8)
    for row in range(4):
        assert torch.equal(~seen.visible[row, 1], boxes(draw, row, (8, 8)))
    assert (seen.images.squeeze(1)[~seen.visible] == 0).all()


def test_a_box_holds_a_voxel_at_least():
    inside = in_boxes(torch.tensor([[[0.999, 0.0]]]), torch.tensor([[[0.001, 1.0]]]), torch.tensor([[True]]), (5, 4))
    assert inside[0].nonzero().tolist() == [[4, 0], [4, 1], [4, 2], [4, 3]]


@pytest.mark.parametrize("shape", [(1, 10, 14), (2, 7, 9, 8)])
def test_shuffling_moves_voxels_within_windows_only(shape):
    """One window: what changed fits into a box of the largest extent, and holds what it held before."""
    batch = batch_of(30, *shape)
    seen = LocalShuffle(1, 0.4)(batch, generator()).images
    changed_rows = 0
    for before, after in zip(batch.images, seen, strict=True):
        assert torch.equal(before.flatten(start_dim=1).sort(dim=1).values, after.flatten(start_dim=1).sort(dim=1).values)
        changed = (before != after).any(dim=0).nonzero()
        if len(changed):
            changed_rows += 1
            extent = changed.amax(dim=0) - changed.amin(dim=0) + 1
            assert (extent <= torch.tensor([max(2, round(0.4 * n)) for n in shape[1:]])).all()
    assert changed_rows > 20


def test_channels_move_together_and_windows_come_to_every_border():
    plain = torch.arange(12 * 12.0).view(1, 1, 12, 12)
    batch = ImageBatch(("a",) * 3000, torch.cat([plain, -plain], dim=1).expand(3000, -1, -1, -1))
    seen = LocalShuffle(1, 0.4)(batch, generator()).images
    assert torch.equal(seen[:, 0], -seen[:, 1])
    moved = (seen[:, 0] != plain[0]).any(dim=0)
    assert moved.all()


def test_windows_are_shuffled_one_after_the_other():
    """The same as shuffling with each window in a view of its own."""
    batch = batch_of(5, 1, 12, 12)
    view = LocalShuffle(6, 0.5)
    draw = view.draw(batch, generator())
    keys = uniform(draw.what[3], 6 * 36).view(5, 6, 36)
    one_by_one = batch.images
    for window in range(6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(erase, "uniform", lambda seeds, n, window=window: keys[:, window])
            one_by_one = LocalShuffle(1, 0.5).recolour(one_by_one, (*(tensor[:, window : window + 1] for tensor in draw.what[:3]), draw.what[3]))
    assert torch.equal(view.apply(batch, draw).images, one_by_one)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Cutout((0, 2)), "n_boxes as a lowest"),
        (lambda: Cutout(extent=(0.5, 2.0)), "extent as a lowest"),
        (lambda: Cutout(fill="red"), "one of zero, mean, noise, swap to fill boxes with, found 'red'"),
        (lambda: LocalShuffle(0), "at least one window"),
        (lambda: LocalShuffle(3, 1.5), "at least one window"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, match):
    with pytest.raises(ConfigError, match=match):
        make()
