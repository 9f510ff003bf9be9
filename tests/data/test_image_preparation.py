"""What is done to every image, against the same written plainly."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from graphssl.data.image_files import Picture
from graphssl.data.image_preparation import Preparation, centred, classes_of, resampled_size, resize, with_channels
from graphssl.errors import ConfigError, DataError

RANDOM = np.random.default_rng(0)


def test_channels_are_repeated_or_weighed():
    gray = torch.rand(1, 3, 4)
    assert torch.equal(with_channels(gray, 3), torch.cat([gray] * 3))
    colour = torch.rand(3, 3, 4)
    assert torch.allclose(with_channels(colour, 1)[0], 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])
    with pytest.raises(DataError, match="images of 3 channels, .* found one of 2"):
        with_channels(torch.rand(2, 3, 4), 3)


def test_a_line_in_space_stays_where_it_was_at_another_spacing():
    """A volume that says at each voxel where it lies says so at any spacing; half a voxel at each end has nothing beyond."""
    n, spacing, target = (6, 9, 12), (4.0, 1.0, 0.5), (2.0, 2.0, 1.0)
    size = resampled_size(n, spacing, target)
    assert size == (12, 4, 6)
    for axis in range(3):
        along = (torch.arange(n[axis]) + 0.5) * spacing[axis]
        volume = along.view([-1 if k == axis else 1 for k in range(3)]).expand(n).unsqueeze(0)
        made = resize(volume, size)[0].movedim(axis, 0).flatten(start_dim=1)[:, 0]
        step = n[axis] * spacing[axis] / size[axis]
        expected = (torch.arange(size[axis]) + 0.5) * step
        inside = (expected > along[0]) & (expected < along[-1])
        assert inside.sum() >= size[axis] - 2
        assert torch.allclose(made[inside], expected[inside], atol=1e-4)


def test_volumes_are_interpolated_as_scipy_does():
    volume = torch.from_numpy(RANDOM.normal(size=(1, 5, 6, 7)))
    made = resize(volume, (10, 12, 14))[0].numpy()
    expected = ndimage.zoom(volume[0].numpy(), 2, order=1, mode="nearest", grid_mode=True)
    assert np.allclose(made, expected, atol=1e-6)


def test_images_are_smoothed_before_they_shrink():
    stripes = (torch.arange(64) % 2).float().expand(1, 64, 64)
    assert (resize(stripes, (16, 16)) - 0.5).abs().max() < 0.06
    checks = torch.arange(16.0).view(1, 4, 4).repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    assert torch.equal(resize(checks, (4, 4), "nearest"), torch.arange(16.0).view(1, 4, 4))


@pytest.mark.parametrize("size", [(2, 7), (5, 4), (6, 2), (4, 5)])
def test_cutting_and_padding_keeps_the_centre(size):
    image = torch.arange(1.0, 21.0).view(1, 4, 5)
    made = centred(image, size, -1.0)[0]
    assert made.shape == size
    for row in range(size[0]):
        for column in range(size[1]):
            source = row - (size[0] - 4) // 2, column - (size[1] - 5) // 2
            there = 0 <= source[0] < 4 and 0 <= source[1] < 5
            assert made[row, column] == (image[0, source[0], source[1]] if there else -1.0)


def test_clips_give_frames_at_even_distances_and_repeat_them_where_there_are_few():
    clip = np.arange(10, dtype=np.uint8)[None, :, None, None] * np.ones((1, 10, 4, 4), np.uint8)
    made = Preparation((4, 4, 4), clip=True).pixels(Picture(clip, ()))
    assert made[0, :, 0, 0].tolist() == [0.0, 3.0, 6.0, 9.0]
    one = Preparation((3, 2, 2), clip=True).pixels(Picture(clip[:, 5:6], ()))
    assert one.shape == (1, 3, 2, 2)
    assert (one == 5).all()


def test_frames_are_resized_one_by_one():
    clip = RANDOM.normal(size=(3, 5, 8, 6)).astype(np.float32)
    made = Preparation((5, 4, 9), 3, clip=True).pixels(Picture(clip, ()))
    for k in range(5):
        assert torch.allclose(made[:, k], Preparation((4, 9), 3).pixels(Picture(clip[:, k], ())), atol=1e-6)


def test_intensities():
    values = RANDOM.normal(100.0, 50.0, size=(2, 8, 8)).astype(np.float32)
    picture = Picture(values, ())
    unit = Preparation((8, 8), 2, window=(60.0, 140.0), scale="unit").pixels(picture)
    assert np.allclose(unit, (values.clip(60, 140) - 60) / 80, atol=1e-6)
    own = Preparation((8, 8), 2, scale="image").pixels(picture)
    assert np.allclose(own.mean(dim=(1, 2)), 0.0, atol=1e-5)
    assert np.allclose(own.std(dim=(1, 2), correction=0), 1.0, atol=1e-5)
    of_training = Preparation((8, 8), 2, scale="training", mean=(10.0, 20.0), std=(2.0, 4.0)).pixels(picture)
    assert np.allclose(of_training[1], (values[1] - 20.0) / 4.0)
    assert (Preparation((2, 2), scale="image").pixels(Picture(np.full((1, 2, 2), 7), ())) == 0).all()


def test_padding_has_the_lowest_value_and_masks_have_background_there():
    picture = Picture(np.full((1, 2, 2, 2), -900, np.int16), (1.0, 1.0, 1.0))
    made = Preparation((4, 4, 4), framing="crop", spacing=(1.0, 1.0, 1.0))
    assert (made.pixels(picture) == -900).all()
    mask = made.mask(Picture(np.ones((1, 2, 2, 2), np.uint8), ()), (0, 1))
    assert (mask.sum(), mask.dtype) == (8, torch.int64)
    assert mask[1:3, 1:3, 1:3].all()


def test_a_mask_goes_where_its_image_goes():
    """A bright box and its mask, resampled and cut, still cover one another."""
    values = np.zeros((1, 10, 20, 20), np.float32)
    values[:, 3:7, 4:14, 4:16] = 1.0
    made = Preparation((16, 8, 8), framing="crop", spacing=(1.0, 2.0, 2.0))
    image, mask = made.pixels(Picture(values, (2.0, 1.0, 1.0))), made.mask(Picture(values.astype(np.uint8), (2.0, 1.0, 1.0)), (0, 1))
    both = (image[0] > 0.5) & (mask == 1)
    assert both.sum() / ((image[0] > 0.5) | (mask == 1)).sum() > 0.9


def test_values_of_masks_become_classes():
    assert classes_of(np.array([[[0, 255], [128, 0]]]), (0, 255, 128)).tolist() == [[0, 1], [2, 0]]
    with pytest.raises(DataError, match=r"the values \[0, 1\] of the classes in a mask, found \[2, 7\] besides"):
        classes_of(np.array([[[0, 2], [7, 1]]]), (0, 1))
    with pytest.raises(DataError, match="masks of one channel, found 3 that differ"):
        classes_of(np.array([[[0]], [[1]], [[0]]]), (0, 1))
    assert classes_of(np.array([[[1]], [[1]], [[1]]]), (0, 1)).tolist() == [[1]]


@pytest.mark.parametrize(
    ("changes", "match"), [({"framing": "stretch"}, "resize, crop, found 'stretch'"), ({"scale": "unit"}, "a window of intensities")]
)
def test_what_cannot_be_done_is_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        Preparation((4, 4), **changes)
