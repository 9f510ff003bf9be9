"""Hue and saturation against `colorsys`, one pixel at a time."""

import colorsys

import numpy as np
import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import ColourJitter


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(n=4, seed=0):
    return ImageBatch(tuple(map(str, range(n))), torch.rand(n, 3, 3, 5, generator=generator(seed)))


def test_pixels_have_the_hue_and_saturation_of_colorsys():
    view, batch = ColourJitter(0.3, (0.2, 2.0)), batch_of()
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    for image, turn, factor, result in zip(batch.images, *draw.what, seen, strict=True):
        for pixel, found in zip(image.flatten(1).T.tolist(), result.flatten(1).T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            expected = colorsys.hsv_to_rgb((hue + float(turn)) % 1.0, min(1.0, saturation * float(factor)), value)
            assert np.allclose(found, expected, atol=1e-5)


def test_gray_stays_gray_and_nothing_is_changed_by_nothing():
    gray = ImageBatch(("a",), torch.rand(1, 1, 4, 4, generator=generator()).expand(-1, 3, -1, -1))
    assert torch.allclose(ColourJitter(0.5)(gray, generator()).images, gray.images, atol=1e-6)
    batch = batch_of()
    assert torch.allclose(ColourJitter(0.0, (1.0, 1.0))(batch, generator()).images, batch.images, atol=1e-5)


def test_images_without_colour_or_of_other_units_are_refused():
    with pytest.raises(DataError, match="in colour, found"):
        ColourJitter()(ImageBatch(("a",), torch.rand(1, 1, 4, 4)), generator())
    with pytest.raises(DataError, match=r"intensities in \[0, 1\], found"):
        ColourJitter()(ImageBatch(("a",), 9 * torch.rand(1, 3, 4, 4)), generator())


@pytest.mark.parametrize(
    ("arguments", "match"), [({"hue": 0.6}, r"a turn of the hue in \[0, 0.5\], found 0.6"), ({"saturation": (2, 1)}, "saturation as a lowest")]
)
def test_arguments_that_make_no_sense(arguments, match):
    with pytest.raises(ConfigError, match=match):
        ColourJitter(**arguments)
