"""Tokens against slow loops: the profile of a region is a weighted mean over what can be read."""

import math

import pytest
import torch

from graphssl.encoders.tokens import SpatialBasis, SpatialTokens, spatial_lattice
from graphssl.views import HideRegions


@pytest.fixture
def tokens():
    torch.manual_seed(0)
    return SpatialTokens(width=6, spacing_mm=36.0)


def slow_basis(centroid, points, scale):
    return [math.exp(-sum((float(a) - float(b)) ** 2 for a, b in zip(centroid, point, strict=True)) / (2 * scale**2)) for point in points]


def slow_profile(batch, row, region, basis):
    """Mean weight towards each neighbourhood over visible connections; the hundredth keeps an empty neighbourhood at zero."""
    n_points = len(basis.points)
    total, count = [0.0] * n_points, [0.01] * n_points
    for other in range(batch.mask.shape[1]):
        if not batch.visible[row, region, other]:
            continue
        nearness = slow_basis(batch.centroids[row, other], basis.points, basis.scale_mm)
        for k in range(n_points):
            total[k] += float(batch.weights[row, region, other]) * nearness[k]
            count[k] += nearness[k]
    return torch.tensor([t / c for t, c in zip(total, count, strict=True)])


def test_a_token_is_the_mean_of_visible_connections_around_each_point(make_batch, tokens):
    batch = make_batch(2, 6, missing={1: [2]}, padding=1)
    hidden = torch.zeros_like(batch.visible)
    hidden[0, 0, 1:4] = hidden[0, 1:4, 0] = True
    batch = batch.hide(hidden)
    found = tokens(batch)
    for row, region in batch.mask.nonzero().tolist():
        place = torch.tensor(slow_basis(batch.centroids[row, region], tokens.basis.points, tokens.basis.scale_mm))
        expected = tokens.profile(slow_profile(batch, row, region, tokens.basis)) + tokens.position(place)
        torch.testing.assert_close(found[row, region], expected, rtol=1e-4, atol=1e-5)


def test_hidden_and_missing_regions_show_the_same_learned_vector(make_batch, tokens):
    batch = make_batch(1, 6, missing={0: [5]})
    hidden = torch.zeros_like(batch.visible)
    hidden[0, 2] = hidden[0, :, 2] = True
    found = tokens(batch.hide(hidden & batch.visible))
    place = tokens.position(tokens.basis(batch.centroids) * batch.mask.unsqueeze(-1))
    torch.testing.assert_close((found - place)[0, 2], tokens.unseen.detach())
    torch.testing.assert_close((found - place)[0, 5], tokens.unseen.detach())
    assert ((found - place)[0, [0, 1, 3, 4]] - tokens.unseen).abs().amax(dim=1).min() > 1e-3


def test_a_single_region_is_unseen(make_batch, tokens):
    batch = make_batch(1, 1)
    torch.testing.assert_close(tokens(batch), tokens.unseen.expand(1, 1, -1) + tokens.position(tokens.basis(batch.centroids)))


def test_what_is_hidden_leaves_no_trace_in_the_tokens(make_batch, tokens):
    batch = make_batch(3, 8)
    hidden = HideRegions(0.3).draw(batch, torch.Generator().manual_seed(0))
    other = make_batch(3, 8, seed=1)
    changed = torch.where(hidden, other.weights, batch.weights)
    swapped = type(batch)(batch.subject_ids, changed, batch.visible, batch.mask, batch.centroids, batch.networks, batch.atlas)
    assert torch.equal(tokens(batch.hide(hidden)), tokens(swapped.hide(hidden)))


def test_padding_changes_no_token(make_batch, tokens):
    found = tokens(make_batch(3, 7, padding=4))
    torch.testing.assert_close(found[:, :7], tokens(make_batch(3, 7)))


def test_the_order_of_regions_does_not_matter(make_batch, tokens):
    batch = make_batch(2, 9, missing={0: [1]})
    order = torch.randperm(9, generator=torch.Generator().manual_seed(4))
    moved = type(batch)(
        batch.subject_ids,
        batch.weights[:, order][:, :, order],
        batch.visible[:, order][:, :, order],
        batch.mask[:, order],
        batch.centroids[:, order],
        batch.networks[:, order],
        batch.atlas,
    )
    torch.testing.assert_close(tokens(moved), tokens(batch)[:, order])


@pytest.mark.parametrize(("spacing", "about"), [(24.0, 130), (30.0, 70), (40.0, 30)])
def test_the_lattice_fills_the_brain_at_its_spacing(spacing, about):
    points = spatial_lattice(spacing)
    distance = torch.cdist(points, points).fill_diagonal_(math.inf)
    assert about / 1.5 < len(points) < about * 1.5
    torch.testing.assert_close(distance.min(dim=1).values, torch.full((len(points),), spacing))
    assert points.abs().amax(dim=0).tolist() <= [72.0, 107.0, 84.0]


@pytest.mark.parametrize("spacing", [24.0, 40.0])
def test_the_basis_is_symmetric_about_the_midline(spacing):
    basis = SpatialBasis(spacing)
    points = [tuple(point) for point in basis.points.tolist()]
    mirror = [points.index((-x, y, z)) for x, y, z in points]
    places = torch.tensor([[[-40.0, 12.0, 30.0], [-8.0, -60.0, 5.0]]])
    torch.testing.assert_close(basis(places * torch.tensor([-1.0, 1.0, 1.0])), basis(places)[..., mirror])


def test_a_place_on_a_point_belongs_wholly_to_it():
    basis = SpatialBasis(30.0)
    found = basis(basis.points.unsqueeze(0))[0]
    torch.testing.assert_close(found.diagonal(), torch.ones(len(basis)))
    assert found.max() == 1
    neighbour = math.exp(-(2.5**2) / 2)  # one spacing is two and a half standard deviations
    assert found.fill_diagonal_(0).max().item() == pytest.approx(neighbour, rel=1e-4)
