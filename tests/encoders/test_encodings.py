"""Encodings against powers of the walk's matrix, and against the eigenvectors that NetworkX and SciPy give."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.encoders.encodings import RandomWalkEncoding, SpectralEncoding, make_encodings, return_probabilities, signed_spectrum
from graphssl.errors import ConfigError
from graphssl.views import HideConnections, HideRegions

KINDS = ("spectral", "random_walk")


def encoding(kind, width=6):
    torch.manual_seed(0)
    return make_encodings((kind,), width)[0]


def partly_hidden(batch, seed=0):
    """The batch with a few regions hidden, and some connections besides."""
    batch = batch.hide(HideRegions(0.2).draw(batch, torch.Generator().manual_seed(seed)))
    return batch.hide(HideConnections(0.3).draw(batch, torch.Generator().manual_seed(seed)))


def connected_block(batch, row):
    """Regions with connections, and the weights among them."""
    index = (batch.weights[row] != 0).any(dim=1).nonzero().flatten().tolist()
    return index, batch.weights[row].double().numpy()[np.ix_(index, index)]


# Random walks


def test_return_probabilities_are_diagonals_of_powers(make_batch):
    batch = partly_hidden(make_batch(3, 9, missing={1: [2]}, padding=2))
    found, connected = return_probabilities(batch, 7)
    assert found.shape == (3, 11, 6)
    for row in range(3):
        index, weights = connected_block(batch, row)
        assert connected[row].nonzero().flatten().tolist() == index
        step = np.abs(weights) / np.abs(weights).sum(axis=1, keepdims=True)
        for k in range(2, 8):
            expected = np.diag(np.linalg.matrix_power(step, k))
            np.testing.assert_allclose(found[row, index, k - 2], expected, rtol=1e-4, atol=1e-6)


def test_a_walk_between_two_regions_comes_back_every_second_step(make_batch):
    found, _ = return_probabilities(make_batch(1, 2), 5)
    torch.testing.assert_close(found[0], torch.tensor([[1.0, 0.0, 1.0, 0.0]] * 2))


def test_walks_without_preference_have_the_encoding_of_no_excess(make_batch):
    module = encoding("random_walk")
    n = 200
    batch = make_batch(1, n)
    even = replace(batch, weights=torch.where(batch.visible, -0.7, 0.0))  # the sign is not read
    torch.testing.assert_close(module(even)[0], module.project.bias.expand(n, -1), atol=0.02, rtol=0.0)


def test_the_random_walk_encoding_is_linear_in_the_excess(make_batch):
    module = RandomWalkEncoding(5, steps=4)
    batch = make_batch(2, 6, missing={0: [1]})
    returned, connected = return_probabilities(batch, 4)
    found = module(batch)
    for row, region in connected.nonzero().tolist():
        excess = returned[row, region] * int(connected[row].sum()) - 1
        torch.testing.assert_close(found[row, region], module.project.weight @ excess + module.project.bias)


def test_gradients_go_through_the_walk(make_batch):
    batch = partly_hidden(make_batch(1, 6))
    weights = batch.weights.double().requires_grad_()
    module = RandomWalkEncoding(3, steps=5).double()
    assert torch.autograd.gradcheck(lambda w: module(replace(batch, weights=(w + w.mT) / 2 * batch.visible)), (weights,))


# The spectrum


def test_the_spectrum_of_positive_weights_is_that_of_networkx(make_batch):
    batch = make_batch(2, 8, missing={1: [3]})
    batch = partly_hidden(replace(batch, weights=batch.weights.abs()))
    values, vectors, connected = signed_spectrum(batch)
    for row in range(2):
        index, weights = connected_block(batch, row)
        laplacian = nx.normalized_laplacian_matrix(nx.from_numpy_array(weights)).toarray()
        expected = np.linalg.eigvalsh(laplacian)
        np.testing.assert_allclose(values[row, : len(index)], expected, atol=1e-5)
        assert values[row, len(index) :].tolist() == pytest.approx([4.0] * (8 - len(index)))
        block = vectors[row, index][:, : len(index)].double().numpy()
        np.testing.assert_allclose(block @ np.diag(expected) @ block.T, laplacian, atol=1e-5)
        np.testing.assert_allclose(vectors[row, ~connected[row]][:, : len(index)], 0.0, atol=1e-6)


def signed_laplacian(weights):
    degree = np.abs(weights).sum(axis=1)
    return np.eye(len(weights)) - weights / np.sqrt(np.outer(degree, degree))


@pytest.mark.parametrize("hide", [False, True])
def test_the_spectral_encoding_is_a_filter_of_the_squares(make_batch, hide):
    module = encoding("spectral")
    batch = make_batch(3, 9, missing={1: [2]}, padding=2)
    batch = partly_hidden(batch) if hide else batch
    with torch.no_grad():
        found = module(batch)
        for row in range(3):
            index, weights = connected_block(batch, row)
            values, vectors = scipy.linalg.eigh(signed_laplacian(weights))
            assert (values.min() > -1e-9) & (values.max() < 2 + 1e-9)
            for place, region in enumerate(index):
                expected = sum(vectors[place, k] ** 2 * module.filter(torch.tensor([[values[k]]]).float())[0] for k in range(len(index)))
                torch.testing.assert_close(found[row, region], expected.float(), rtol=1e-4, atol=1e-5)


def test_equal_eigenvalues_and_flipped_signs_change_nothing(make_batch, monkeypatch):
    module, batch = encoding("spectral"), make_batch(1, 6)
    even = replace(batch, weights=batch.visible.float())  # one eigenvalue 0, the other five equal
    with torch.no_grad():
        found = module(even)
        torch.testing.assert_close(found, found[:, :1].expand_as(found))  # every region is like the others
        expected = module(batch)
        solve = torch.linalg.eigh
        signs = torch.tensor([1.0, -1.0] * 3)
        monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: (solve(matrix)[0], solve(matrix)[1] * signs))
        torch.testing.assert_close(module(batch), expected)


def test_the_spectral_encoding_tells_a_connection_from_its_opposite(make_batch):
    module, batch = encoding("spectral"), make_batch(1, 6)
    with torch.no_grad():
        assert (module(batch) - module(replace(batch, weights=-batch.weights))).abs().max() > 1e-3


# What holds of both


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 999), n_regions=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_permuting_regions_permutes_the_encoding(make_batch, regions_taken, kind, seed, n_regions):
    batch = partly_hidden(make_batch(2, n_regions, seed), seed)
    order = torch.randperm(n_regions, generator=torch.Generator().manual_seed(seed))
    module = encoding(kind)
    with torch.no_grad():
        torch.testing.assert_close(module(regions_taken(batch, order)), module(batch)[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_padding_change_nothing_for_the_others(make_batch, regions_taken, kind):
    module, batch = encoding(kind), make_batch(2, 7, missing={0: [2], 1: [2]}, padding=2)
    kept = [0, 1, 3, 4, 5, 6]
    with torch.no_grad():
        torch.testing.assert_close(module(batch)[:, kept], module(regions_taken(batch, kept)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_without_visible_connections_has_none(make_batch, kind):
    batch = make_batch(2, 7, missing={0: [1]}, padding=2)
    hidden = torch.zeros_like(batch.visible)
    hidden[1, 3] = hidden[1, :, 3] = True
    found = encoding(kind)(batch.hide(hidden))
    assert found.isfinite().all()
    empty = (found == 0).all(dim=-1)
    assert empty[0].nonzero().flatten().tolist() == [1, 7, 8]
    assert empty[1].nonzero().flatten().tolist() == [3, 7, 8]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_leaves_no_trace(make_batch, kind):
    batch, other, module = make_batch(3, 8), make_batch(3, 8, seed=1), encoding(kind)
    hidden = HideConnections(0.4).draw(batch, torch.Generator().manual_seed(0))
    changed = replace(batch, weights=torch.where(hidden, other.weights, batch.weights))
    assert torch.equal(module(batch.hide(hidden)), module(changed.hide(hidden)))
    assert not torch.equal(module(batch), module(changed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_rows", "n_regions"), [(0, 5), (1, 1), (2, 2)])
def test_any_size(make_batch, kind, n_rows, n_regions):
    batch = make_batch(max(1, n_rows), n_regions)[list(range(n_rows))]
    found = encoding(kind)(batch)
    assert found.shape == (n_rows, batch.mask.shape[1], 6)
    assert found.isfinite().all()
    assert n_regions > 1 or not found.any()


def test_encodings_come_in_the_order_of_their_names():
    made = make_encodings(("random_walk", "spectral"), 4)
    assert [type(module) for module in made] == [RandomWalkEncoding, SpectralEncoding]
    assert len(make_encodings((), 4)) == 0


@pytest.mark.parametrize("kinds", [("laplacian",), ("spectral", "spectral")])
def test_unknown_or_repeated_encodings_are_refused(kinds):
    with pytest.raises(ConfigError, match="Expected encodings among spectral, random_walk, each at most once; found"):
        make_encodings(kinds, 4)
