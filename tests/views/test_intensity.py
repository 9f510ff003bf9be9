"""Views that change intensities, against NumPy and SciPy, one image at a time."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError
from graphssl.views import BandEnergy, BezierCurve, Blur, Gamma, HistogramShift, ImageNoise, IntensityJitter, Speckle
from graphssl.views.intensity import bands, bezier, blurred, on_curve, to_unit


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(*shape, seed=0):
    return ImageBatch(tuple(map(str, range(shape[0]))), 5.0 + 3.0 * torch.randn(*shape, generator=generator(seed)))


def looked(view, batch, seed=0):
    draw = view.draw(batch, generator(seed))
    return [(image.double().numpy(), *what) for image, *what in zip(batch.images, *draw.what, strict=True)], view.apply(batch, draw).images


def test_brightness_and_contrast():
    rows, seen = looked(IntensityJitter(0.5, (0.5, 2.0)), batch_of(6, 2, 7, 8))
    for (image, move, factor), result in zip(rows, seen, strict=True):
        expected = (image - image.mean()) * float(factor) + image.mean() + float(move) * image.std()
        assert np.allclose(result, expected, atol=1e-4)


def test_gamma_between_the_lowest_and_the_highest_value():
    rows, seen = looked(Gamma((0.5, 2.0)), batch_of(6, 2, 7, 8))
    for (image, power), result in zip(rows, seen, strict=True):
        unit = (image - image.min()) / np.ptp(image)
        assert np.allclose(result, unit ** float(power) * np.ptp(image) + image.min(), atol=1e-4)


def test_an_image_of_one_value_stays_as_it_is():
    batch = ImageBatch(("a",), torch.full((1, 1, 6, 6), 3.0))
    for view in (Gamma(), HistogramShift(), BezierCurve(), IntensityJitter(), ImageNoise(), Blur(), Speckle(), BandEnergy(2)):
        assert torch.allclose(view(batch, generator()).images, batch.images, atol=1e-5), type(view).__name__


@pytest.mark.parametrize("shape", [(14, 11), (9, 14, 11)])
def test_blurs_are_those_of_scipy(shape):
    view = Blur((0.5, 1.5))
    rows, seen = looked(view, batch_of(3, 2, *shape))
    for (image, sigma), result in zip(rows, seen, strict=True):
        expected = [ndimage.gaussian_filter(channel, float(sigma), mode="nearest", radius=5) for channel in image]
        assert np.allclose(result, expected, atol=1e-4)


def test_noise_has_the_spread_that_was_drawn():
    batch = batch_of(4, 1, 60, 60)
    rows, seen = looked(ImageNoise((0.1, 0.5)), batch)
    for (image, std, _), result in zip(rows, seen, strict=True):
        noise = result.double().numpy() - image
        assert noise.std() == pytest.approx(float(std) * image.std(), rel=0.05)
        assert abs(noise.mean()) < 0.1 * noise.std()


def test_speckle_is_in_proportion_to_the_signal():
    batch = batch_of(4, 1, 60, 60)
    rows, seen = looked(Speckle((0.2, 0.4)), batch)
    for (image, std, _), result in zip(rows, seen, strict=True):
        signal = image - image.min()
        bright = signal > 1e-3
        factor = (result.double().numpy() - image.min())[bright] / signal[bright]
        assert factor.mean() == pytest.approx(1.0, abs=0.05)
        assert factor.std() == pytest.approx(float(std), rel=0.05)


def test_histogram_shift_is_an_interpolation_of_its_points():
    rows, seen = looked(HistogramShift(6), batch_of(5, 2, 7, 8))
    for (image, points), result in zip(rows, seen, strict=True):
        assert (np.diff(points) >= 0).all()
        unit = (image - image.min()) / np.ptp(image)
        expected = np.interp(unit, np.linspace(0, 1, 6), points.double().numpy()) * np.ptp(image) + image.min()
        assert np.allclose(result, expected, atol=1e-4)


def test_bezier_curves_rise_or_fall_from_end_to_end():
    rows, seen = looked(BezierCurve(0.5), batch_of(20, 1, 12, 12))
    falling = 0
    for (image, inner, falls), result in zip(rows, seen, strict=True):
        order = np.argsort(image.ravel())
        after = result.double().numpy().ravel()[order]
        steps = np.diff(after)
        assert (steps <= 1e-5).all() if falls else (steps >= -1e-5).all()
        falling += bool(falls)
        t = np.linspace(0, 1, 4000)[:, None]
        p = inner.double().numpy()
        curve = np.sort(3 * (1 - t) ** 2 * t * p[0] + 3 * (1 - t) * t**2 * p[1] + t**3, axis=0)
        unit = (image - image.min()) / np.ptp(image)
        expected = np.interp(unit, curve[:, 0], curve[::-1, 1] if falls else curve[:, 1])
        assert np.abs((result.numpy() - image.min()) / np.ptp(image) - expected).mean() < 0.02
    assert 3 < falling < 17
    assert torch.equal(bezier(torch.rand(1, 2, 2))[0, 0], torch.zeros(2))


def test_curves_are_those_of_numpy():
    values, x = torch.rand(3, 1, 5, 5), torch.rand(3, 7).sort(dim=1).values
    y = torch.rand(3, 7)
    found = on_curve(values, x, y)
    for row in range(3):
        assert np.allclose(found[row], np.interp(values[row], x[row], y[row]), atol=1e-5)


def test_bands_sum_up_to_the_image_and_each_has_its_own_factor():
    batch = batch_of(3, 1, 24, 20)
    parts = bands(batch.images, 3)
    assert len(parts) == 4
    assert torch.allclose(sum(parts), batch.images, atol=1e-4)
    assert torch.allclose(parts[-1], blurred(batch.images, torch.full((3,), 4.0), 12))
    rows, seen = looked(BandEnergy(3, (0.5, 1.5)), batch)
    for row, (_, factors) in enumerate(rows):
        expected = sum(parts[k][row] * factors[k] for k in range(3)) + parts[3][row]
        assert torch.allclose(seen[row], expected, atol=1e-4)
    assert torch.allclose(BandEnergy(3, (1.0, 1.0))(batch, generator()).images, batch.images, atol=1e-4)


def test_a_unit_leads_back():
    images = batch_of(3, 2, 4, 4).images
    unit, low, room = to_unit(images)
    assert (unit.amin(dim=(1, 2, 3)) == 0).all()
    assert torch.allclose(unit * room + low, images, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: IntensityJitter(contrast=(1.5, 0.5)), "contrast as a lowest"),
        (lambda: Blur((0.0, 1.0)), "sigma as a lowest"),
        (lambda: ImageNoise((-1.0, 1.0)), "std as a lowest"),
        (lambda: Speckle((1.0, 0.0)), "std as a lowest"),
        (lambda: HistogramShift(2), "at least 3 points"),
        (lambda: BezierCurve(1.5), "a share of falling curves"),
        (lambda: BandEnergy(0), "at least one band"),
        (lambda: BandEnergy(2, (2.0, 1.0)), "factor as a lowest"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, match):
    with pytest.raises(ConfigError, match=match):
        make()
