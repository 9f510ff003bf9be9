"""A batch of images: references until asked for, tensors from then on."""

from dataclasses import replace

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.data.image_batch import Pending
from graphssl.errors import DataError


class Counting:
    """A source whose image of row k is full of k, and which notes what it was asked for."""

    size = (2, 4, 3)
    has_masks = True

    def __init__(self):
        self.asked = []

    def images(self, rows):
        self.asked.append(tuple(rows))
        return torch.tensor(rows, dtype=torch.float32)[:, None, None, None].expand(-1, *self.size).clone()

    def masks(self, rows):
        return torch.tensor(rows)[:, None, None].expand(-1, *self.size[1:]).clone()

    def signature(self, rows):
        return bytes(rows)


def lazy(n=5):
    source = Counting()
    pending = Pending(source, tuple(range(n)))
    return source, ImageBatch(tuple(f"s{k}" for k in range(n)), pending, pending, groups={"volume": tuple("aabbc"[:n])})


def test_nothing_is_decoded_until_pixels_are_asked_for():
    source, batch = lazy()
    part = batch[[3, 1]][torch.tensor([True, False])]
    assert (len(part), part.shape, part.rank, part.has_masks, part.groups) == (1, (1, 2, 4, 3), 2, True, {"volume": ("b",)})
    assert repr(part) == "ImageBatch(1 images of 2 channels, 4 × 3, with masks; not decoded)"
    assert batch.signature() == b"s0\ns1\ns2\ns3\ns4" + bytes(range(5))
    assert source.asked == []
    assert part.images.unique().tolist() == [3.0]
    assert part.masks.unique().tolist() == [3]
    assert part.images is part.images
    assert source.asked == [(3,)]
    assert batch.pending is not None


def test_moving_decodes_nothing_and_what_is_decoded_goes_there():
    source, batch = lazy()
    moved = batch[[0, 4]].to("meta")
    assert (moved.pending is not None, moved.device.type, moved[[1]].subject_ids, moved[[1]].device.type) == (True, "meta", ("s4",), "meta")
    assert source.asked == []
    assert (moved.images.device.type, moved.images.shape, moved.masks.device.type) == ("meta", (2, 2, 4, 3), "meta")
    assert source.asked == [(0, 4)]
    decoded = batch[[1]].to("cpu")
    assert decoded.images.unique().tolist() == [1.0]
    assert decoded.to("meta").images.device.type == "meta"


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_masks_go_through_views_only_where_they_are_read(p):
    """Rows with their masks equal to their images, before and after: all or a share of them are changed."""
    from graphssl.views import Affine, Compose, Crop, Flip, ForegroundCrop, IntensityJitter

    source, batch = lazy()
    counted, source.masks = source.masks, None
    moved = Compose((Affine(p=p), IntensityJitter(p=p), Crop(2), Flip((-1,), p=p)))(batch.to("cpu"), torch.Generator().manual_seed(0))
    part = type(moved).cat([moved[[4, 1]], moved.to("cpu")[[2]]])
    assert part.images.shape == (3, 2, 2, 2)
    assert (part.has_masks, ForegroundCrop(1, share=1e-9)(part, torch.Generator().manual_seed(0)).shape) == (True, (3, 2, 1, 1))
    source.masks = counted
    assert part.masks.shape == (3, 2, 2)
    assert [set(row.unique().tolist()) <= {0, k} for row, k in zip(part.masks, (4, 1, 2), strict=True)] == [True] * 3
    assert moved[[4]].masks.equal(part.masks[:1])
    assert source.asked == [(0, 1, 2, 3, 4)]


def test_changed_keeps_what_is_not_decoded():
    source, batch = lazy()
    other = batch.changed(groups={})
    assert (other.groups, other.pending is not None, source.asked) == ({}, True, [])
    assert other.changed(images=torch.zeros(5, 1, 2, 2)).masks.shape == (5, 4, 3)
    assert source.asked == []


def test_masks_that_are_left_out_are_never_decoded():
    source, batch = lazy()
    source.masks = None
    plain = batch[[1, 2]].without_masks()
    assert (plain.masks, plain.has_masks, plain.groups) == (None, False, {"volume": ("a", "b")})
    assert replace(plain, images=plain.images + 1).images[:, 0, 0, 0].tolist() == [2.0, 3.0]


def test_replace_gives_other_images_of_the_same_rows():
    _, batch = lazy()
    other = replace(batch[[1, 2]], images=torch.zeros(2, 1, 4, 3))
    assert (other.subject_ids, other.shape) == (("s1", "s2"), (2, 1, 4, 3))
    assert other.masks[:, 0, 0].tolist() == [1, 2]
    hidden = replace(other, visible=torch.zeros(2, 4, 3, dtype=torch.bool))
    assert not hidden.visible.any()


def test_hiding_zeroes_pixels_and_adds_to_what_was_hidden():
    batch = ImageBatch(("a", "b"), torch.ones(2, 2, 4, 3))
    top = torch.zeros(2, 4, 3, dtype=torch.bool)
    top[:, 0] = True
    left = torch.zeros(2, 4, 3, dtype=torch.bool)
    left[:, :, 0] = True
    twice = batch.hide(top).hide(left)
    assert torch.equal(twice.visible, ~(top | left))
    assert torch.equal(twice.images[:, 1] == 1, twice.visible)
    assert batch.visible is None


def test_ranks_of_volumes_and_clips():
    volumes = ImageBatch(("a",), torch.zeros(1, 1, 4, 5, 6))
    clips = ImageBatch(("a",), torch.zeros(1, 1, 4, 5, 6), clip=True)
    assert (volumes.rank, clips.rank) == (3, 2)
    assert (repr(volumes), repr(clips)) == (
        "ImageBatch(1 volumes of 1 channels, 4 × 5 × 6; cpu)",
        "ImageBatch(1 clips of 1 channels, 4 × 5 × 6; cpu)",
    )


def test_decoded_batches_are_told_apart_by_their_pixels():
    one, other = (ImageBatch(("a",), torch.full((1, 1, 2, 2), value)) for value in (1.0, 2.0))
    assert one.signature() != other.signature()
    assert one.signature() == replace(one).signature()


def test_cat_puts_rows_below_one_another():
    _, batch = lazy()
    hidden = replace(batch[[2]], visible=torch.zeros(1, 4, 3, dtype=torch.bool))
    both = ImageBatch.cat([batch[[0]], hidden])
    assert (both.subject_ids, both.groups) == (("s0", "s2"), {"volume": ("a", "b")})
    assert both.images[:, 0, 0, 0].tolist() == [0.0, 2.0]
    assert both.visible.flatten(start_dim=1).all(dim=1).tolist() == [True, False]
    assert both.masks[:, 0, 0].tolist() == [0, 2]
    assert len(ImageBatch.cat([ImageBatch((), torch.zeros(0, 1, 2, 2)), ImageBatch(("a",), torch.zeros(1, 1, 2, 2))])) == 1


def test_references_are_known_as_long_as_the_images_are_those_of_a_source():
    source, batch = lazy()
    part = batch[[2, 0]]
    assert (part.references.rows, part.images.unique().tolist(), part.pending, part.references.rows) == ((2, 0), [0.0, 2.0], None, (2, 0))
    assert part.changed(images=part.images + 1).references is None
    joined = ImageBatch.cat([batch[[3]], batch[[1, 4]]])
    assert (joined.references.rows, joined.pending is not None, source.asked) == ((3, 1, 4), True, [(2, 0)])
    assert joined.masks[:, 0, 0].tolist() == [3, 1, 4]
    assert ImageBatch.cat([batch[[3]], lazy()[1][[1]]]).pending is None  # of two sources


def test_cat_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="at least one batch of images, found none"):
        ImageBatch.cat([])
    with pytest.raises(DataError, match="one size and kind"):
        ImageBatch.cat([ImageBatch(("a",), torch.zeros(1, 1, 2, 2)), ImageBatch(("a",), torch.zeros(1, 1, 2, 3))])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"images": torch.zeros(2, 4, 4)}, r"Expected images .* of 2 rows, found shape \(2, 4, 4\)"),
        ({"images": torch.zeros(3, 1, 4, 4)}, "of 2 rows, found shape"),
        ({"clip": True}, r"\[B, C, T, H, W\] of clips of 2 rows"),
        ({"masks": torch.zeros(2, 4, 5, dtype=torch.long)}, r"found {'masks': \(2, 4, 5\)}"),
        ({"visible": torch.ones(1, 4, 4, dtype=torch.bool)}, r"found {'visible': \(1, 4, 4\)}"),
        ({"groups": {"volume": ("a",)}}, r"found {'volume': \(1,\)}"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, match):
    with pytest.raises(DataError, match=match):
        ImageBatch(("a", "b"), **{"images": torch.zeros(2, 1, 4, 4), **arguments})
