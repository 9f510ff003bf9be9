"""Geometric mean, logarithms and completion against closed forms and the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.graphs.tangent import complete, completed_mean, geometric_mean, log_map, map_eigenvalues


def random_matrices(n=5, n_regions=6, seed=0, n_timepoints=None):
    generator = torch.Generator().manual_seed(seed)
    series = torch.randn(n, n_timepoints or 4 * n_regions, n_regions, generator=generator, dtype=torch.float64)
    series = series * torch.exp(torch.randn(n, 1, n_regions, generator=generator, dtype=torch.float64))
    return series.mT @ series / series.shape[1]


def mean_log_norm(matrices, mean):
    return float(log_map(matrices, map_eigenvalues(mean, torch.rsqrt)).mean(dim=0).norm())


def test_mean_of_matrices_that_commute_is_that_of_their_eigenvalues():
    values = torch.tensor([[1.0, 4.0, 9.0], [4.0, 1.0, 1.0]], dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    found = geometric_mean(basis @ torch.diag_embed(values) @ basis.T, tolerance=1e-12)
    torch.testing.assert_close(found, basis @ torch.diag(values.prod(dim=0).sqrt()) @ basis.T)


def test_mean_of_two_matrices_has_a_closed_form():
    a, b = random_matrices(2)
    root, inverse = map_eigenvalues(a, torch.sqrt), map_eigenvalues(a, torch.rsqrt)
    expected = root @ map_eigenvalues(inverse @ b @ inverse, torch.sqrt) @ root
    torch.testing.assert_close(geometric_mean(torch.stack([a, b]), tolerance=1e-12), expected, rtol=1e-8, atol=1e-10)


def test_mean_of_one_matrix_is_itself():
    matrices = random_matrices(1)
    torch.testing.assert_close(geometric_mean(matrices, tolerance=1e-12), matrices[0])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(2, 8), n_regions=st.integers(1, 6))
def test_mean_goes_along_with_a_change_of_basis(seed, n, n_regions):
    matrices = random_matrices(n, n_regions, seed)
    basis = torch.randn(n_regions, n_regions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 3 * torch.eye(n_regions)
    moved = geometric_mean(basis @ matrices @ basis.T, tolerance=1e-11)
    torch.testing.assert_close(moved, basis @ geometric_mean(matrices, tolerance=1e-11) @ basis.T, rtol=1e-6, atol=1e-8)


def test_mean_of_matrices_far_apart_and_close_to_singular_is_reached():
    matrices = random_matrices(30, 20, n_timepoints=22)
    assert mean_log_norm(matrices, geometric_mean(matrices)) < 1e-7 * 400


def test_start_does_not_matter():
    matrices = random_matrices()
    start = geometric_mean(matrices, init=torch.eye(6, dtype=torch.float64), tolerance=1e-11)
    torch.testing.assert_close(start, geometric_mean(matrices, tolerance=1e-11))


def test_mean_of_many_matrices_is_found_from_a_sample_of_them():
    matrices = random_matrices(200, 12)
    found = geometric_mean(matrices, tolerance=1e-10)
    assert mean_log_norm(matrices, found) < 1e-10 * 144
    torch.testing.assert_close(found, geometric_mean(matrices.flip(0), tolerance=1e-10), rtol=1e-6, atol=1e-8)


def test_mean_is_that_of_nilearn():
    from nilearn.connectome.connectivity_matrices import _geometric_mean

    matrices = random_matrices(150, 10)
    expected = _geometric_mean(list(matrices.numpy()), max_iter=50, tol=1e-10)
    np.testing.assert_allclose(geometric_mean(matrices, tolerance=1e-10).numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("n", "n_regions", "last"), [(1, 4, 0.0), (5, 6, 0.0), (200, 40, 0.0), (200, 40, 1.0)])
def test_logarithms_on_the_way_are_those_at_the_mean(monkeypatch, n, n_regions, last):
    monkeypatch.setattr("graphssl.graphs.tangent._SHORT_STEP", last)  # zero: decompose again; one: follow the last step
    matrices, logs = random_matrices(n, n_regions), torch.empty(n, n_regions, n_regions)
    mean = geometric_mean(matrices, logs=logs)
    torch.testing.assert_close(mean, geometric_mean(matrices))
    torch.testing.assert_close(logs, log_map(matrices, map_eigenvalues(mean, torch.rsqrt)).float(), rtol=0, atol=2e-3)
    assert torch.equal(logs, logs.mT)
    assert float(logs.double().mean(dim=0).norm()) < 2e-7 * n_regions**2 + 1e-6 * n_regions


def test_chunks_do_not_matter(monkeypatch):
    matrices = random_matrices(130, 8)
    whitening = map_eigenvalues(geometric_mean(matrices, tolerance=1e-11), torch.rsqrt)
    logs = log_map(matrices, whitening, precision=torch.float32)
    monkeypatch.setattr("graphssl.graphs.tangent._CHUNK_ELEMENTS", 3 * 64)
    again = map_eigenvalues(geometric_mean(matrices, tolerance=1e-11), torch.rsqrt)
    torch.testing.assert_close(again, whitening, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(log_map(matrices, whitening, precision=torch.float32), logs, rtol=1e-5, atol=1e-6)


def test_single_precision_is_not_trusted_where_it_does_not_reach():
    matrices = random_matrices(3, 20, n_timepoints=20)
    spread = torch.linalg.eigvalsh(matrices)
    assert (spread[:, -1] / spread[:, 0]).max() > 1e4
    expected = log_map(matrices, torch.eye(20, dtype=torch.float64))
    found = log_map(matrices, torch.eye(20, dtype=torch.float64), precision=torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def test_too_few_iterations_warn():
    with pytest.warns(UserWarning, match="did not converge in 1 iterations"):
        geometric_mean(random_matrices(), max_iterations=1)


def test_logarithms_at_the_mean_sum_to_zero():
    matrices = random_matrices()
    assert mean_log_norm(matrices, geometric_mean(matrices, tolerance=1e-12)) < 1e-9


def test_no_matrix_has_no_logarithm():
    assert log_map(torch.zeros(0, 6, 6), torch.eye(6)).shape == (0, 6, 6)


def test_completion_is_the_expected_covariance():
    reference, seen = random_matrices(2)
    observed = torch.tensor([[True, True, False, True, False, True]])
    o, m = observed[0].nonzero().flatten(), (~observed[0]).nonzero().flatten()
    slope = reference[m][:, o] @ torch.linalg.inv(reference[o][:, o])
    found = complete(seen.unsqueeze(0), observed, reference)[0]
    torch.testing.assert_close(found[o][:, o], seen[o][:, o])
    torch.testing.assert_close(found[m][:, o], slope @ seen[o][:, o])
    spread = reference[m][:, m] - slope @ reference[o][:, m] + slope @ seen[o][:, o] @ slope.T
    torch.testing.assert_close(found[m][:, m], spread)
    assert torch.linalg.eigvalsh(found).min() > 0


def test_completion_does_not_read_what_is_missing():
    matrices, observed = random_matrices(3), torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) > 0.4
    inside = observed.unsqueeze(1) & observed.unsqueeze(2)
    spoiled = matrices.masked_fill(~inside, float("nan"))
    reference = random_matrices(1, seed=3)[0]
    torch.testing.assert_close(complete(spoiled, observed, reference), complete(matrices, observed, reference))


def test_completion_of_the_reference_and_of_nothing_is_the_reference():
    reference = random_matrices(1)[0]
    observed = torch.tensor([[True, False, True, True, False, True], [False] * 6, [True] * 6])
    torch.testing.assert_close(complete(reference.expand(3, 6, 6), observed, reference), reference.expand(3, 6, 6))


def test_expected_mean_of_whole_matrices_is_their_mean():
    matrices = random_matrices()
    torch.testing.assert_close(completed_mean(matrices, torch.ones(5, 6, dtype=torch.bool)), matrices.mean(dim=0))


def test_expected_mean_is_a_fixed_point_of_completing_and_averaging():
    matrices, observed = random_matrices(8), torch.ones(8, 6, dtype=torch.bool)
    observed[range(8), [0, 1, 2, 3, 4, 5, 0, 1]] = False
    mean = completed_mean(matrices, observed, n_iterations=300)
    torch.testing.assert_close(complete(matrices, observed, mean).mean(dim=0), mean, rtol=1e-4, atol=1e-4)
    assert torch.linalg.eigvalsh(mean).min() > 0


def test_numpy_agrees_on_functions_of_matrices():
    matrix = random_matrices(1)[0]
    values, vectors = np.linalg.eigh(matrix.numpy())
    np.testing.assert_allclose(map_eigenvalues(matrix, torch.log).numpy(), vectors @ np.diag(np.log(values)) @ vectors.T, atol=1e-12)
