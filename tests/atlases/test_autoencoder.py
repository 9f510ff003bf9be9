"""The atlas transformation: its loss against sampled dropout, many atlases at once against one, features of a batch, maps through coordinates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.nn.functional import dropout, mse_loss

from graphssl.atlases import AtlasAutoencoder, PairedSubjects, TiedAutoencoder, autoencoder_map, convert_matrices, paired_subjects
from graphssl.data import ConnectomeBatch
from graphssl.errors import AtlasError, ConfigError, DataError


def low_rank(n_subjects: int = 30, n: int = 12, rank: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Symmetric matrices on a few directions that all subjects share, of falling variance; centroids; the directions `[rank, n]`."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(n, rank, generator=generator))[0].T
    strength = torch.randn(n_subjects, rank, generator=generator) * torch.tensor([4.0, 2.0, 1.0])[:rank]
    matrices = torch.einsum("sk,ki,kj->sij", strength, directions, directions)
    return matrices, 60 * torch.rand(n, 3, generator=generator), directions


def test_the_loss_is_the_mean_over_subjects_and_dropout() -> None:
    """Against the loss as published, with dropout drawn many times."""
    matrices, centroids, _ = low_rank(n_subjects=5, n=6)
    training = TiedAutoencoder(n_features=4, dropout=0.4, locality=0.1, sparsity=0.01, length_mm=30.0)
    weights = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1))
    gram, rough = training._moments(matrices, centroids)
    near = torch.exp(-(torch.cdist(centroids, centroids) ** 2) / (2 * 30.0**2))
    neighbours = near / near.sum(dim=1, keepdim=True)
    torch.manual_seed(2)
    hidden = dropout((matrices @ weights[0].T).expand(20_000, 5, 6, 4), 0.4)
    reconstruction = mse_loss(hidden @ weights[0], matrices.expand(20_000, 5, 6, 6))
    drawn = 0.8 * reconstruction + 0.1 * mse_loss(neighbours @ hidden, hidden) + 0.01 * weights.abs().mean()
    sizes = torch.tensor([6.0])
    assert float(training.loss(weights, gram[None], rough[None], sizes)) == pytest.approx(float(drawn), rel=5e-3)
    assert float(training.loss(weights, gram[None], rough[None], sizes, whole=False)) == pytest.approx(float(reconstruction), rel=5e-3)


def test_padding_changes_no_loss() -> None:
    matrices, centroids, _ = low_rank(n=6)
    training = TiedAutoencoder(n_features=4)
    weights = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1))
    gram, rough = training._moments(matrices, centroids)
    pad = torch.nn.functional.pad
    plain = training.loss(weights, gram[None], rough[None], torch.tensor([6.0]))
    padded = training.loss(pad(weights, (0, 3)), pad(gram, (0, 3, 0, 3))[None], pad(rough, (0, 3, 0, 3))[None], torch.tensor([6.0]))
    torch.testing.assert_close(padded, plain)


def test_the_map_reconstructs_what_has_few_directions() -> None:
    matrices, centroids, directions = low_rank()
    training = TiedAutoencoder(n_features=3, steps=300, dropout=0.0, locality=0.0, sparsity=0.0)
    (weights,) = training.fit([matrices], [centroids])
    assert float(((matrices @ weights.T @ weights) - matrices).norm() / matrices.norm()) < 1e-2
    torch.testing.assert_close(weights.T @ weights, directions.T @ directions, atol=2e-2, rtol=0)


def test_coordinates_are_sorted_by_variance_and_signed() -> None:
    matrices, centroids, _ = low_rank()
    (weights,) = TiedAutoencoder(n_features=5, steps=50).fit([matrices], [centroids])
    unit = weights / weights.norm(dim=1, keepdim=True)
    variance = (matrices @ unit.T).square().sum(dim=(0, 1))
    assert (variance.diff() <= 1e-4).all()
    assert ((weights**3).sum(dim=1) >= 0).all()


def test_locality_smooths_and_sparsity_empties() -> None:
    matrices, centroids, _ = low_rank()
    plain = TiedAutoencoder(n_features=4, dropout=0.0, locality=0.0, sparsity=0.0)
    fits = [replace(plain, **change).fit([matrices], [centroids])[0] for change in ({}, {"locality": 5.0}, {"sparsity": 1.0})]
    rough = plain._moments(matrices, centroids)[1]
    roughness = [float(((one @ rough) * one).sum() / one.square().sum()) for one in fits]
    assert roughness[1] < 0.9 * roughness[0]
    near_zero = [float((one.abs() < 0.01).float().mean()) for one in fits]
    assert near_zero[2] > near_zero[0] + 0.1


def test_atlases_together_have_the_maps_they_have_alone() -> None:
    first, second = low_rank(n=12), low_rank(n=7, seed=1, n_subjects=9)
    training = TiedAutoencoder(n_features=5, steps=60)
    together = training.fit([first[0], second[0]], [first[1], second[1]])
    for one, (matrices, centroids, _) in zip(together, (first, second), strict=True):
        torch.testing.assert_close(one, training.fit([matrices], [centroids])[0], atol=1e-3, rtol=0)
    assert [one.shape for one in together] == [(5, 12), (5, 7)]


@pytest.fixture
def batch(make_batch) -> ConnectomeBatch:
    """Six rows of an atlas of ten regions and four of one of seven."""
    large, small = make_batch(6, 10, seed=0, missing={1: [2, 9]}), make_batch(4, 7, seed=1, padding=3)
    small = replace(small, atlas=("small",) * 4, subject_ids=tuple(f"other-{row}" for row in range(4)))
    return ConnectomeBatch.cat([large, small])


def test_features_have_one_width_and_are_rows_times_the_atlas_map(batch: ConnectomeBatch) -> None:
    fitted = AtlasAutoencoder(TiedAutoencoder(n_features=4, steps=30)).fit(batch)
    found = fitted.transform(batch)
    assert found.shape == (10, 10, 4)
    assert {name: one.shape for name, one in fitted.maps_.items()} == {"toy": (4, 10), "small": (4, 7)}
    for row, name in enumerate(batch.atlas):
        unit = fitted.maps_[name]
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))
        n = unit.shape[1]
        torch.testing.assert_close(found[row], batch.weights[row, :, :n] @ unit.T)
    assert (found[~batch.mask] == 0).all()
    torch.testing.assert_close(AtlasAutoencoder(TiedAutoencoder(n_features=4, steps=30), absolute=True).fit_transform(batch), found.abs())


def test_what_was_fitted_serves_batches_with_other_padding(batch: ConnectomeBatch) -> None:
    fitted = AtlasAutoencoder(TiedAutoencoder(n_features=4, steps=30)).fit(batch)
    found = fitted.transform(batch)
    torch.testing.assert_close(fitted.transform(batch[[7]])[0], found[7, : batch[[7]].mask.shape[1]])


def test_features_come_from_training_rows_alone(batch: ConnectomeBatch) -> None:
    training = TiedAutoencoder(n_features=4, steps=30)
    rows = [0, 1, 2, 6, 7]
    alone = AtlasAutoencoder(training).fit(batch[rows])
    changed = replace(batch, weights=batch.weights.clone())
    changed.weights[3:6] *= 9
    again = AtlasAutoencoder(training).fit(changed[rows])
    for name in alone.maps_:
        torch.testing.assert_close(alone.maps_[name], again.maps_[name])


def test_wrong_batches_are_told(batch: ConnectomeBatch, make_batch) -> None:
    with pytest.raises(NotFittedError):
        AtlasAutoencoder().transform(batch)
    with pytest.raises(DataError, match=r"connectomes of training subjects, found an empty batch"):
        AtlasAutoencoder().fit(batch[[]])
    fitted = AtlasAutoencoder(TiedAutoencoder(n_features=4, steps=2)).fit(batch)
    with pytest.raises(AtlasError, match=r"atlases of the training subjects \(toy, small\), found 'third'"):
        fitted.transform(replace(batch, atlas=("third",) * 10))
    with pytest.raises(AtlasError, match=r"Expected 'toy' to have the 10 regions of the training subjects, found more"):
        fitted.transform(make_batch(2, 12))


@pytest.mark.parametrize("change", [{"n_features": 0}, {"steps": 0}, {"dropout": 1.0}])
def test_wrong_settings_are_told(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"width and a number of steps of 1 or more and a dropout in \[0, 1\)"):
        TiedAutoencoder(**change)


@pytest.fixture(scope="module")
def pairs(make_volume, scan_both) -> PairedSubjects:
    return paired_subjects(*scan_both(make_volume(20, seed=1), make_volume(16, seed=2), 9))


def test_an_aligned_map_tells_the_subjects_apart_and_a_plain_one_hardly_does(pairs: PairedSubjects) -> None:
    training = TiedAutoencoder(n_features=12, dropout=0.0, steps=200)
    off = np.triu_indices(16, 1)
    scores = []
    for align in (True, False):
        found = autoencoder_map(pairs, align=align, autoencoder=training)
        converted = convert_matrices(found, pairs.source).values
        scores.append(np.mean([np.corrcoef(a[off], b[off])[0, 1] for a, b in zip(converted, pairs.target, strict=True)]))
        assert found.method == ("autoencoder, aligned" if align else "autoencoder")
        assert found.record["subjects"] == 9
    assert scores[0] > 0.7
    assert scores[0] > scores[1] + 0.2


def test_a_full_width_map_of_an_atlas_to_itself_is_nearly_the_identity(pairs: PairedSubjects) -> None:
    same = PairedSubjects(pairs.source_atlas, pairs.source_atlas, pairs.subjects, pairs.source, pairs.source, pairs.source)
    training = TiedAutoencoder(n_features=20, dropout=0.0, locality=0.0, sparsity=0.0, steps=400)
    found = autoencoder_map(same, align=False, autoencoder=training)
    leading = np.linalg.eigh(pairs.source.mean(axis=0))[1][:, -6:]
    np.testing.assert_allclose(leading.T @ found.weights @ leading, np.eye(6), atol=0.1)


def test_alignment_needs_series(pairs: PairedSubjects) -> None:
    matrices = replace(pairs, cross=None)
    with pytest.raises(DataError, match=r"time series in both atlases to align coordinates with, found matrices. Use align=False"):
        autoencoder_map(matrices)
    many = PairedSubjects(pairs.source_atlas, pairs.target_atlas, pairs.subjects * 2, *(np.tile(m, (2, 1, 1)) for m in (pairs.source, pairs.target)))
    assert (
        autoencoder_map(many, align=False, autoencoder=TiedAutoencoder(n_features=4, steps=5)).record["error"] == "held-out subjects, 18 in 5 folds"
    )
    assert autoencoder_map(matrices, align=False, autoencoder=TiedAutoencoder(n_features=4, steps=5)).weights.shape == (16, 20)
