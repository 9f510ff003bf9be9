"""Dropped boxes against boxes in loops, and against the share that they may take."""

import itertools

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views import DropBoxes


def images(*shape, seed=0, clip=False):
    return ImageBatch(tuple(map(str, range(shape[0]))), torch.randn(shape, generator=torch.Generator().manual_seed(seed)), clip=clip)


@pytest.mark.parametrize("rank", [2, 3])
def test_boxes_add_up_to_the_drawn_share_and_one_box_more(rank):
    for largest in (0.1, 0.3):
        extent, start, there, _, _ = DropBoxes(largest).draw_rows(500, rank, torch.Generator().manual_seed(0))
        volume = extent.prod(dim=2) * there
        assert (there.sum(dim=1) >= 1).all()
        assert (volume.sum(dim=1) < largest + 0.25**rank).all()
        last = there.long().cumsum(dim=1).argmax(dim=1)
        without = volume.sum(dim=1) - volume[torch.arange(500), last]
        assert (without < largest).all()
        assert 0.4 * largest < volume.sum(dim=1).mean() < 0.6 * largest + 0.25**rank
        assert (start + extent <= 1 + 1e-6).all()


@pytest.mark.parametrize("shape", [(4, 2, 20, 16), (4, 1, 12, 20, 16)])
def test_what_lies_in_a_box_is_filled_and_nothing_else(shape):
    batch, view = images(*shape), DropBoxes(0.3, fill="swap")
    drawn = view.draw(batch, torch.Generator().manual_seed(3))
    extent, start, there, _, other = drawn.what
    seen, size = view.apply(batch, drawn).images, batch.shape[2:]
    for row in range(4):
        inside = torch.zeros(size, dtype=torch.bool)
        for box in itertools.compress(range(extent.shape[1]), there[row].tolist()):
            first = [min(n - 1, int(s * n)) for s, n in zip(start[row, box].tolist(), size, strict=True)]
            sides = [max(1, round(e * n)) for e, n in zip(extent[row, box].tolist(), size, strict=True)]
            inside[tuple(slice(at, at + side) for at, side in zip(first, sides, strict=True))] = True
        assert torch.equal(seen[row], torch.where(inside, batch.images[other[row]], batch.images[row]))
        assert inside.any()


def test_noise_lies_in_the_range_of_its_image():
    batch = images(3, 1, 24, 24)
    batch = ImageBatch(batch.subject_ids, batch.images * torch.tensor([1.0, 5.0, 50.0]).view(3, 1, 1, 1) + 7)
    seen = DropBoxes(0.9).apply(batch, DropBoxes(0.9).draw(batch, torch.Generator().manual_seed(1))).images
    changed = seen != batch.images
    for row in range(3):
        assert batch.images[row].min() <= seen[row].min()
        assert seen[row].max() <= batch.images[row].max() * (1 + 1e-6)
        spread = seen[row][changed[row]].std() / (batch.images[row].max() - batch.images[row].min())
        assert 0.08 < float(spread) < 0.3, "normal noise, most of it far from the ends"


def test_a_draw_replays_and_frames_of_a_clip_lose_the_same_boxes():
    batch, view = images(3, 1, 4, 12, 12, clip=True), DropBoxes()
    drawn = view.draw(batch, torch.Generator().manual_seed(0))
    first = view.apply(batch, drawn).images
    assert torch.equal(first, view.apply(batch, drawn).images)
    changed = (first != batch.images)[:, 0]
    assert torch.equal(changed[:, 0], changed[:, 3])
    assert changed.any()


def test_one_image_swaps_with_itself_and_none_is_no_error():
    batch = images(1, 1, 12, 12)
    assert torch.equal(DropBoxes(fill="swap")(batch, torch.Generator()).images, batch.images)
    assert len(DropBoxes()(batch[[]], torch.Generator())) == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match=r"share of an image in \(0, 1\), found 1.0"):
        DropBoxes(1.0)
    with pytest.raises(ConfigError, match="one of noise, swap to fill boxes with, found 'zero'"):
        DropBoxes(fill="zero")
    with pytest.raises(ConfigError, match="Expected extent as a lowest and a highest value"):
        DropBoxes(extent=(0.5, 0.1))
