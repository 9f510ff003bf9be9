"""Features of images without an encoder: against the pixels themselves, every kind, and every refusal."""

import numpy as np
import pytest

from graphssl.datasets import simulate_images, simulate_table
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.pixels import ImageFeatures


@pytest.mark.parametrize(
    ("arguments", "n_pixels", "n_intensities"),
    [({}, 28 * 28, 9), ({"n_channels": 3}, 3 * 28 * 28, 27), ({"rank": 3}, 14**3, 10), ({"n_frames": 6}, 4 * 28 * 28, 10)],
)
def test_every_kind_of_image_gives_a_row_of_numbers_a_subject(arguments, n_pixels, n_intensities):
    cohort = simulate_images(6, images_per_subject=2, **arguments)
    assert ImageFeatures().fit(cohort).transform(cohort).shape == (6, n_pixels)
    assert ImageFeatures("intensities").fit(cohort).transform(cohort).shape == (6, n_intensities)


def test_a_subject_has_the_mean_over_its_images():
    cohort = simulate_images(4, images_per_subject=3)
    features = ImageFeatures().fit(cohort)
    images = features.builder_.transform(cohort).images.flatten(start_dim=1).numpy()
    np.testing.assert_allclose(features.transform(cohort), images.reshape(4, 3, -1).mean(axis=1), atol=1e-6)


def test_intensities_are_those_of_numpy():
    cohort = simulate_images(3)
    features = ImageFeatures("intensities").fit(cohort)
    for image, found in zip(features.builder_.transform(cohort).images[:, 0].numpy(), features.transform(cohort), strict=True):
        changes = [np.abs(np.diff(image, axis=axis)).mean() for axis in (0, 1)]
        expected = [image.mean(), image.std(ddof=1), *np.quantile(image, [0.05, 0.25, 0.5, 0.75, 0.95]), *changes]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_other_kinds_and_cohorts_without_images_are_refused():
    with pytest.raises(ConfigError, match="'pixels' or 'intensities'"):
        ImageFeatures("voxels").fit(simulate_images(4))
    with pytest.raises(DataError, match="images of one kind"):
        ImageFeatures().fit(simulate_table(n_subjects=8).cohort)
