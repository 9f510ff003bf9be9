"""Coordinates of one width for the regions of any atlas: a tied linear autoencoder an atlas, all trained at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from graphssl.atlases.map import AtlasMap
from graphssl.atlases.overlap import model_edge_error
from graphssl.atlases.paired import PairedSubjects, held_out_error, mean_matrix
from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import AtlasError, ConfigError, DataError
from graphssl.progress import tracked

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TiedAutoencoder:
    """How the autoencoder of an atlas is trained: `H = A Wᵀ`, `Â = H W`, for matrices `A [n, n]` and one linear map `W [r, n]`.

    The first half of the steps has the reconstruction alone. The second half adds that neighbouring regions get like coordinates (`H` against its
    mean over neighbours, by the distance of the centroids) and that few regions make a coordinate (mean of `|W|`): the atlas transformation of Yang
    et al., *Data-Efficient Brain Connectome Analysis via Multi-Task Meta-Learning*, KDD 2022. Losses of a linear map depend on the data only through
    `mean AᵀA` and a like matrix, and so does their expectation over the dropout of `H`: every step is one over all subjects, with no noise.

    Args:
        n_features: Width `r`.
        steps: Steps of Adam.
        learning_rate: Of Adam.
        dropout: Share of `H` that is dropped.
        locality: Weight of the second loss.
        sparsity: Weight of the third.
        length_mm: Width of the neighbourhood.
        seed: For the start of `W`.

    Raises:
        ConfigError: If the width or the number of steps is below 1, or the dropout is not in [0, 1).
    """

    n_features: int = 64
    steps: int = 400
    learning_rate: float = 0.02
    dropout: float = 0.4
    locality: float = 0.1
    sparsity: float = 0.01
    length_mm: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_features < 1 or self.steps < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"Expected a width and a number of steps of 1 or more and a dropout in [0, 1), found {self.n_features}, {self.steps} and "
                f"{self.dropout:g}."
            )

    def fit(self, matrices: Sequence[Float[Tensor, "S n n"]], centroids: Sequence[Float[Tensor, "n 3"]]) -> list[Float[Tensor, "r n"]]:
        """Train the maps of several atlases together, which changes none of them.

        Coordinates are sorted by the variance of the data along them, and the sign of each is such that its largest weights are positive; nothing
        else makes those of two atlases alike.

        Args:
            matrices: Matrices of training subjects in each atlas; zero where a region is missing.
            centroids: Centroids of each atlas in mm.
        """
        moments = [self._moments(*one) for one in zip(matrices, centroids, strict=True)]
        sizes = torch.tensor([float(len(gram)) for gram, _ in moments], device=moments[0][0].device)
        gram, rough = (_padded([moment[k] for moment in moments]) for k in (0, 1))
        start = [torch.randn(self.n_features, int(n), generator=torch.Generator().manual_seed(self.seed)) / n**0.5 for n in sizes]
        weights = pad_sequence([one.T for one in start], batch_first=True).transpose(1, 2).to(gram.device).contiguous().requires_grad_()
        optimizer = torch.optim.Adam([weights], lr=self.learning_rate)
        for step in tracked(range(self.steps), "Training the autoencoder of atlases"):
            optimizer.zero_grad()
            self.loss(weights, gram, rough, sizes, whole=2 * step >= self.steps).sum().backward()
            optimizer.step()
        return [_ordered(one[:, :n], square[:n, :n]) for one, square, n in zip(weights.detach(), gram, sizes.long().tolist(), strict=True)]

    def loss(
        self,
        weights: Float[Tensor, "A r n"],
        gram: Float[Tensor, "A n n"],
        rough: Float[Tensor, "A n n"],
        sizes: Float[Tensor, "A"],
        *,
        whole: bool = True,
    ) -> Float[Tensor, "A"]:
        """Expected loss of each atlas, with padding of zeros.

        Args:
            weights: Maps `W`.
            gram: `mean AᵀA` over subjects.
            rough: The matrix `L` of which `tr(W L Wᵀ)` is the expected squared difference of `H` from its mean over neighbours.
            sizes: Number of regions `n` of each atlas.
            whole: Whether locality and sparsity count.
        """
        dropped = self.dropout / (1 - self.dropout)
        variance = weights @ gram @ weights.mT  # [A, r, r]
        square = weights @ weights.mT
        diagonals = _diagonal(variance) * _diagonal(square)
        left = _diagonal(gram).sum(1) - 2 * _diagonal(variance).sum(1) + (variance * square).sum((1, 2)) + dropped * diagonals.sum(1)
        reconstruction = left / sizes**2
        if not whole:
            return reconstruction
        locality = ((weights @ rough) * weights).sum((1, 2)) / (sizes * self.n_features)
        sparsity = weights.abs().sum((1, 2)) / (sizes * self.n_features)
        return 0.8 * reconstruction + self.locality * locality + self.sparsity * sparsity

    def _moments(self, matrices: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
        n = matrices.shape[1]
        rows = matrices.reshape(-1, n)
        near = torch.exp(-(torch.cdist(centroids, centroids) ** 2) / (2 * self.length_mm**2))
        apart = near / near.sum(dim=1, keepdim=True) - torch.eye(n, device=near.device)
        dropped = self.dropout / (1 - self.dropout)
        penalty = apart.T @ apart + dropped * torch.diag((apart**2).sum(dim=0))
        return rows.T @ rows / len(matrices), rows.T @ (penalty @ matrices).reshape(-1, n) / len(matrices)


class AtlasAutoencoder(TransformerMixin, BaseEstimator):
    """Node features of one width for any atlas: each region's connections, mapped by the autoencoder of its atlas.

    Fitted on training subjects, whose atlases may differ; a region's features are `a Tᵀ` with its row `a` of connections and the unit rows of `T` the
    autoencoder's map ([`TiedAutoencoder`][graphssl.atlases.TiedAutoencoder]). Beside it stand `ZeroPadding` and `LinearProjection`.

    Args:
        autoencoder: How the maps are trained.
        absolute: Whether signs are dropped, as in the published code.

    Attributes:
        maps_: The map `T` of each atlas by name `[r, n]`.
    """

    def __init__(self, autoencoder: TiedAutoencoder | None = None, absolute: bool = False) -> None:
        self.autoencoder = autoencoder
        self.absolute = absolute

    def fit(self, X: ConnectomeBatch, y: object = None) -> Self:
        """Train the maps of all atlases in a batch of training subjects.

        Raises:
            DataError: If the batch is empty.
        """
        if not len(X):
            raise DataError("Expected connectomes of training subjects, found an empty batch.")
        autoencoder = TiedAutoencoder() if self.autoencoder is None else self.autoencoder
        names = list(dict.fromkeys(X.atlas))
        parts = [_rows_of(X, name) for name in names]
        sizes = [int(X.mask[rows].any(dim=0).nonzero().max()) + 1 if X.mask[rows].any() else 1 for rows in parts]
        seen = [X.mask[rows, :n, None] for rows, n in zip(parts, sizes, strict=True)]
        places = [(X.centroids[rows, :n] * mask).sum(0) / mask.sum(0).clamp(min=1) for rows, n, mask in zip(parts, sizes, seen, strict=True)]
        found = autoencoder.fit([X.weights[rows, :n, :n] for rows, n in zip(parts, sizes, strict=True)], places)
        self.maps_ = {name: torch.nn.functional.normalize(one, dim=1) for name, one in zip(names, found, strict=True)}
        return self

    def transform(self, X: ConnectomeBatch) -> Float[Tensor, "B R r"]:
        """Features of every region; zero where it does not exist or was not observed.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            AtlasError: If an atlas was not fitted, or has more regions than it had.
        """
        check_is_fitted(self)
        width = len(next(iter(self.maps_.values())))
        found = X.weights.new_zeros(*X.mask.shape, width)
        for name in dict.fromkeys(X.atlas):
            rows = _rows_of(X, name)
            n = self._n_regions(X, name, rows)
            found[rows] = X.weights[rows][:, :, :n] @ self.maps_[name][:, :n].T.to(X.device)
        return found.abs() if self.absolute else found

    def _n_regions(self, batch: ConnectomeBatch, name: str, rows: Tensor) -> int:
        if name not in self.maps_:
            raise AtlasError(f"Expected connectomes in the atlases of the training subjects ({', '.join(self.maps_)}), found {name!r}. Convert them.")
        known = self.maps_[name].shape[1]
        if batch.mask[rows, known:].any():
            raise AtlasError(
                f"Expected {name!r} to have the {known} regions of the training subjects, found more. Fit on subjects who have all of them."
            )
        return min(known, batch.mask.shape[1])


def autoencoder_map(pairs: PairedSubjects, *, align: bool = True, autoencoder: TiedAutoencoder | None = None) -> AtlasMap:
    """Encoding with the source's autoencoder, decoding with the target's: a map through shared coordinates.

    Without alignment, coordinates are taken for the same where they have the same place in the order of variance: the map shows what that is worth.
    With it they are turned to agree best on the subjects who have series in both atlases (orthogonal Procrustes: Schönemann, Psychometrika 1966).

    Args:
        pairs: Training subjects in both atlases; that they are the same people is used by the alignment only.
        align: Whether coordinates are aligned.
        autoencoder: How the two maps are trained.

    Raises:
        DataError: If coordinates are to be aligned and there are no time series.
    """
    if align and pairs.cross is None:
        raise DataError("Expected time series in both atlases to align coordinates with, found matrices. Use align=False.")
    training = TiedAutoencoder() if autoencoder is None else autoencoder

    def fit(part: PairedSubjects) -> AtlasMap:
        sides = ((part.source, part.source_atlas), (part.target, part.target_atlas))
        matrices = [torch.from_numpy(np.nan_to_num(values)) for values, _ in sides]
        encode, decode = (one.numpy().astype(np.float64) for one in training.fit(matrices, [torch.from_numpy(a.centroids) for _, a in sides]))
        turn = np.eye(training.n_features)
        if align:
            assert part.cross is not None
            left, _, right = np.linalg.svd(decode @ mean_matrix(part.cross).T @ encode.T)
            turn = left @ right
        return _map(part, decode.T @ turn @ encode, align, training)

    return held_out_error(fit, pairs, fit(pairs))


def _map(pairs: PairedSubjects, weights: Floats, align: bool, training: TiedAutoencoder) -> AtlasMap:
    within = mean_matrix(pairs.source)
    told = np.zeros(len(weights))
    if pairs.cross is not None:
        variance = np.einsum("ij,jk,ik->i", weights, within, weights)
        shared = (weights * mean_matrix(pairs.cross).T).sum(axis=1)
        told = np.divide(shared**2, variance, out=told, where=variance > 1e-8)
    return AtlasMap(
        pairs.source_atlas,
        pairs.target_atlas,
        weights,
        "autoencoder, aligned" if align else "autoencoder",
        np.full(len(weights), np.nan),
        source_covariance=within,
        standardized=True,
        edge_error=model_edge_error(told),
        record={"width": training.n_features, "seed": training.seed, "subjects": len(pairs), "error": "from what the weights tell"},
    )


def _padded(squares: Sequence[Tensor]) -> Tensor:
    """Square matrices below one another `[A, n, n]`, with zeros."""
    largest = max(map(len, squares))
    return torch.stack([torch.nn.functional.pad(one, (0, largest - len(one), 0, largest - len(one))) for one in squares])


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _ordered(weights: Tensor, gram: Tensor) -> Tensor:
    """Rows by the variance along them, falling, each with the sign that makes its largest weights positive."""
    variance = ((weights @ gram) * weights).sum(dim=1) / (weights**2).sum(dim=1).clamp(min=1e-12)
    sign = torch.where((weights**3).sum(dim=1) < 0, -1.0, 1.0)
    return (sign[:, None] * weights)[variance.argsort(descending=True)]


def _rows_of(batch: ConnectomeBatch, name: str) -> Tensor:
    return torch.tensor([row for row, atlas in enumerate(batch.atlas) if atlas == name], device=batch.device)
