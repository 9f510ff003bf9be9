"""Views that move voxels, against SciPy and plain slices, one image at a time."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import Affine, Crop, Flip, ResizedCrop, Rotate90
from graphssl.views.spatial import affine_matrices, cut, resample, room_for, rotate90, sizes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(*shape, seed=0):
    return ImageBatch(tuple(map(str, range(shape[0]))), torch.randn(*shape, generator=generator(seed)))


def test_flips_mirror_the_drawn_axes():
    batch = batch_of(20, 2, 3, 4, 5)
    view = Flip((-1, -3))
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    assert 0 < draw.what[0].float().mean() < 1
    for image, axes, result in zip(batch.images, draw.what[0], seen, strict=True):
        mirrored = image[:, ::1].clone()
        for axis, flag in zip((-1, -3), axes, strict=True):
            mirrored = mirrored.flip(axis) if flag else mirrored
        assert torch.equal(result, mirrored)
    assert torch.equal(view.apply(view.apply(batch, draw), draw).images, batch.images)


@pytest.mark.parametrize("plane", [(-2, -1), (-3, -1), (-1, -3)])
def test_quarter_turns(plane):
    batch = batch_of(12, 1, 4, 4, 4)
    view = Rotate90(plane)
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    for image, turns, result in zip(batch.images, draw.what[0].tolist(), seen, strict=True):
        assert np.array_equal(result.numpy(), np.rot90(image.numpy(), turns, axes=plane))
    assert torch.equal(rotate90(seen, 4 - draw.what[0], plane), batch.images)


@pytest.mark.parametrize("shape", [(12, 9), (6, 9, 12)])
def test_affine_maps_are_those_of_scipy(shape):
    batch = batch_of(4, 1, *shape)
    view = Affine(25.0, scale=(0.7, 1.3), shear=0.2, shift=0.1)
    draw = view.draw(batch, generator(3))
    seen = view.apply(batch, draw).images
    angles, factors, shears, shifts = draw.what
    matrices = affine_matrices(angles, factors, shears)
    centre = (np.array(shape) - 1) / 2
    for row in range(4):
        matrix = matrices[row].double().numpy()
        offset = centre - matrix @ centre + shifts[row].numpy() * shape
        expected = ndimage.affine_transform(batch.images[row, 0].double().numpy(), matrix, offset, order=1, mode="nearest")
        assert np.allclose(seen[row, 0], expected, atol=1e-4)


def test_the_angle_turns_in_its_plane_whatever_the_extent():
    """A quarter turn by an angle is one by moving voxels, also of an oblong image."""
    image = torch.randn(1, 1, 4, 6, 8)
    angles = torch.tensor([[0.0, 0.0, torch.pi / 2]])  # planes: slices and rows, slices and columns, rows and columns
    matrix = affine_matrices(angles, torch.ones(1), torch.zeros(1, 3, 3))
    turned = resample(image, matrix, torch.zeros(1, 3), (4, 8, 6), "linear")
    assert any(torch.allclose(turned, image.rot90(k, (3, 4)), atol=1e-4) for k in (1, 3))


def test_angles_of_each_plane():
    view = Affine((0.0, 0.0, 20.0))
    angles = view.draw(batch_of(50, 1, 4, 4, 4), generator()).what[0]
    assert angles[:, :2].abs().max() == 0
    assert 0.2 < angles[:, 2].abs().max() <= np.deg2rad(20) + 1e-6
    with pytest.raises(ConfigError, match="an angle for each of 1 planes"):
        view.draw(batch_of(2, 1, 4, 4), generator())


def test_crops_are_slices_from_anywhere():
    batch = batch_of(300, 2, 6, 5)
    view = Crop((4, 3))
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    starts = set()
    for image, start, result in zip(batch.images, draw.what[0], seen, strict=True):
        row, column = int(start[0] * 3), int(start[1] * 3)
        starts.add((row, column))
        assert torch.equal(result, image[:, row : row + 4, column : column + 3])
    assert starts == {(row, column) for row in range(3) for column in range(3)}
    assert torch.equal(Crop((6, 5))(batch, generator()).images, batch.images)


def test_boxes_of_volumes():
    values = torch.arange(2 * 3 * 4 * 5 * 6).view(2, 3, 4, 5, 6).float()
    found = cut(values, torch.tensor([[0, 1, 2], [2, 0, 0]]), (2, 3, 4))
    assert torch.equal(found[0], values[0, :, 0:2, 1:4, 2:6])
    assert torch.equal(found[1], values[1, :, 2:4, 0:3, 0:4])


@pytest.mark.parametrize(("shape", "places"), [((14, 12), (1, 1)), ((20, 30), (2, 3)), ((90, 15), (4, 1))])
def test_resized_crops_are_boxes_interpolated(shape, places):
    """Each voxel the mean of several places, where there are several to one."""
    batch = batch_of(3, 1, *shape)
    view = ResizedCrop((8, 8), scale=(0.3, 0.6))
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    for row, (extent, start) in enumerate(zip(*draw.what, strict=True)):
        fine = [8 * n for n in places]
        along = [((np.arange(m) + 0.5) / m * float(extent[k]) + float(start[k])) * shape[k] - 0.5 for k, m in enumerate(fine)]
        grid = np.stack(np.meshgrid(*along, indexing="ij"))
        expected = ndimage.map_coordinates(batch.images[row, 0].double().numpy(), grid, order=1, mode="nearest")
        assert np.allclose(seen[row, 0], expected.reshape(8, places[0], 8, places[1]).mean(axis=(1, 3)), atol=1e-4)


def test_stripes_do_not_turn_into_others_where_a_crop_shrinks_them():
    stripes = ImageBatch(("a",) * 20, (torch.arange(64) % 2).float().expand(20, 1, 64, 64))
    assert (ResizedCrop(16, scale=(0.8, 1.0))(stripes, generator()).images - 0.5).abs().mean() < 0.1


@pytest.mark.parametrize("rank", [2, 3])
def test_boxes_have_the_share_and_ratio_that_was_asked_for(rank):
    view = ResizedCrop(4, scale=(0.2, 0.5), ratio=(0.8, 1.25))
    extent, start = view.draw(batch_of(2000, 1, *(4,) * rank), generator()).what
    content = extent.prod(dim=1)
    assert 0.2 - 1e-5 <= content.min() < 0.21
    assert 0.49 < content.max() <= 0.5 + 1e-5
    ratio = extent[:, 0] / extent[:, -1]
    assert 0.79 < ratio.min() < 0.82
    assert 1.22 < ratio.max() < 1.26
    assert (start >= 0).all()
    assert (start + extent <= 1 + 1e-6).all()


def test_a_patch_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match="images of at least 4 × 7 voxels to cut a patch of that size, found 6 × 5. Take a smaller patch"):
        Crop((4, 7))(batch_of(2, 1, 6, 5), generator())
    assert room_for(torch.zeros(1, 1, 6, 5), (4, 5)).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Flip(()), "axes to mirror among"),
        (lambda: Flip((0,)), "axes to mirror among"),
        (lambda: Rotate90((-1, -1)), "two axes of a plane"),
        (lambda: Affine(scale=(2.0, 1.0)), "scale as a lowest"),
        (lambda: Crop(4, p=0.5), "every row to be cut"),
        (lambda: ResizedCrop(4, p=0.5), "every row to be cut"),
        (lambda: ResizedCrop(4, scale=(0.5, 2.0)), "scale as a lowest"),
        (lambda: ResizedCrop(4, ratio=(2.0, 1.0)), "ratio as a lowest"),
        (lambda: sizes((1, 2), 3), "a size along 3 axes of space"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, match):
    with pytest.raises(ConfigError, match=match):
        make()


def test_axes_that_are_not_there_are_refused():
    with pytest.raises(DataError, match="Expected volumes for axis -3"):
        Flip((-3,))(batch_of(2, 1, 4, 4), generator())
    with pytest.raises(DataError, match="a square plane to turn by 90 degrees, found 4 × 5"):
        Rotate90()(batch_of(2, 1, 4, 5), generator())
