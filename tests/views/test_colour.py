"""Colour spaces: known colours, and back."""

import matplotlib.colors
import numpy as np
import pytest
import torch

from graphssl.views.colour import from_space, stain_matrix, to_space

COLOURS = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("space", ["LAB", "HSV", "HED"])
def test_every_colour_comes_back(space):
    edge = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0.02, 0.01, 0.0]]).T.view(1, 3, 1, 7)
    for images in (COLOURS, edge):
        assert torch.allclose(from_space(to_space(images, space), space), images, atol=2e-3)


def test_lab_of_known_colours():
    """Values of D65 as tabulated everywhere."""
    known = {(1, 1, 1): (100, 0, 0), (1, 0, 0): (53.24, 80.09, 67.20), (0, 1, 0): (87.73, -86.18, 83.18), (0, 0, 1): (32.30, 79.19, -107.86)}
    for colour, lab in known.items():
        found = to_space(torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1), "LAB").flatten()
        assert np.allclose(found, lab, atol=0.05), colour


def test_hsv_is_that_of_matplotlib():
    expected = matplotlib.colors.rgb_to_hsv(COLOURS.permute(0, 2, 3, 1).numpy())
    assert np.allclose(to_space(COLOURS, "HSV").permute(0, 2, 3, 1), expected, atol=1e-5)


def test_stains_unmix_what_the_matrix_mixed():
    amounts = torch.rand(2, 3, 5, 5) * 0.8
    images = from_space(amounts, "HED")
    assert torch.allclose(to_space(images, "HED"), amounts, atol=0.02)
    levels = torch.tensor([200.0, 120.0, 180.0])
    density = -np.log((levels.numpy() + 1) / 256)
    expected = density @ np.linalg.inv(stain_matrix(levels).numpy().astype(float))
    assert np.allclose(to_space((levels / 255).view(1, 3, 1, 1), "HED").flatten(), expected, atol=1e-4)
    assert torch.allclose(stain_matrix(levels).norm(dim=1), torch.ones(3))
