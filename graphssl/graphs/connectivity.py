"""Connectivity of regions in nilearn's kinds: transformers that fit on training subjects and serve any."""

from collections.abc import Iterator, Sequence
from typing import Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import HOLLOW_KINDS, STRUCTURAL_KINDS, VALUE_KINDS, ConnectivityKind, MatrixKind, RegionData
from graphssl.data.scans import LARGEST_CORRELATION
from graphssl.errors import AtlasError, ConfigError, DataError
from graphssl.graphs import tangent
from graphssl.graphs.covariance import (
    Shrinkage,
    check_choice,
    check_invertible,
    connectivity_of,
    empty_matrices,
    inside,
    stacks,
    to_correlation,
)
from graphssl.progress import tracked

CORRELATION_KINDS = ("correlation", "partial correlation")


class Connectivity(BaseEstimator):
    """Connectivity matrices of subjects in one atlas, in nilearn's kinds.

    The numbers are those of `nilearn.connectome.ConnectivityMeasure` with the same covariance estimator. As there, series are standardised (z-scored)
    for `"correlation"` only; the other kinds keep the units of the series. Tangent matrices are `log(W C W)`, where `W` is the inverse square root
    of the geometric mean of the training covariances (Varoquaux et al., MICCAI 2010).

    **Missing regions.** What was not observed is left out of every estimate: correlation and covariance of the other regions do not change, and
    precision, partial correlation and the Ledoit-Wolf weight are those of the observed block. Rows and columns of missing regions are zero in the
    result, which comes with the mask that says so. In the tangent space all regions meet: a first reference is the geometric mean over the training
    subjects in whom every region was observed or, where these are fewer than half, the expected mean over all; then incomplete covariances are
    completed as that reference predicts them (`graphssl.graphs.tangent.complete`), and the geometric mean is taken over all. New subjects are
    completed in the same way.

    **Matrices.** Region data that are matrices already are passed on if they are of the kind that is asked for, with Fisher z done or undone as
    needed; covariances also give correlations. Structural kinds (counts of streamlines and other graphs) can only be passed on: no time series gives
    them.

    Args:
        kind: Kind of connectivity.
        fisher_z: Whether correlations and partial correlations are transformed by arctanh, cut off at ±(1 - 1e-6); other kinds are left as they are.
        shrinkage: Covariance estimator: `"ledoit-wolf"`, `None` for maximum likelihood, or `"auto"`: maximum likelihood for correlation and
            covariance, Ledoit-Wolf for the kinds that invert the covariance or take its logarithm, which needs full rank.
        device: Where to compute; results come back to the CPU.

    Attributes:
        mean_: Geometric mean of the training covariances `[R, R]` (tangent), else None.
        whitening_: Its inverse square root `[R, R]` (tangent), else None.
        atlas_hash_: Hash of the atlas it was fitted on; None after `load_state`.
    """

    def __init__(
        self,
        kind: MatrixKind = "correlation",
        fisher_z: bool = True,
        shrinkage: Literal["ledoit-wolf", "auto"] | None = "auto",
        device: str = "cpu",
    ) -> None:
        self.kind = kind
        self.fisher_z = fisher_z
        self.shrinkage = shrinkage
        self.device = device

    def fit(self, data: RegionData, subjects: Sequence[str]) -> Self:
        """Learn the tangent reference from training subjects; other kinds learn nothing but the atlas.

        Args:
            data: Region data in one atlas.
            subjects: Training subjects; all must have data.

        Raises:
            ConfigError: If the kind or the shrinkage is unknown.
            DataError: If there is no subject, one has no data, the data are matrices of another kind, or a covariance to invert is singular.
        """
        self._fit(data, subjects)
        return self

    def transform(self, data: RegionData, subjects: Sequence[str]) -> tuple[Float[Tensor, "n R R"], Bool[Tensor, "n R"]]:
        """Connectivity matrices of subjects, and which of their regions were observed.

        Zero are the diagonal of correlations, partial correlations and structural kinds (the other kinds keep theirs) and the rows and columns of
        missing regions.

        Args:
            data: Region data in the atlas it was fitted on.
            subjects: Subjects in the order of the result; all must have data.

        Returns:
            Matrices `[n, R, R]` in single precision, and observed regions `[n, R]`.

        Raises:
            AtlasError: If the atlas is another one.
            DataError: If nothing was fitted, a subject has no data, or the data are matrices of another kind.
        """
        self._check_fitted(data)
        _check_subjects(data, subjects)
        self._check_provenance(data)
        observed = _observed(data, subjects)
        result = empty_matrices(len(subjects), len(data.atlas), np.float32)
        for rows, matrices in self._chunks(data, subjects, observed):
            result[rows] = self._finish(matrices, observed[rows].to(self.device)).float().cpu()
        return result, observed

    def fit_transform(self, data: RegionData, subjects: Sequence[str]) -> tuple[Float[Tensor, "n R R"], Bool[Tensor, "n R"]]:
        """Fit on subjects and give their matrices; what the tangent reference needed of them is not computed again."""
        logs = torch.empty((len(subjects), len(data.atlas), len(data.atlas)), dtype=torch.float32, device=self.device)
        if not self._fit(data, subjects, logs):
            return self.transform(data, subjects)
        observed = _observed(data, subjects)
        part = ~observed.all(dim=1)
        if part.any():  # they were completed as a first reference predicts, not the last
            logs[part], _ = self.transform(data, [subjects[row] for row in part.nonzero().flatten().tolist()])
        return logs.cpu(), observed

    def state(self) -> dict[str, Tensor]:
        """What was fitted, as tensors: `mean` and `whitening` of the tangent space; empty for other kinds."""
        found = {"mean": getattr(self, "mean_", None), "whitening": getattr(self, "whitening_", None)}
        return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """The inverse of `state`. Whoever loads it checks the atlas: tensors do not hold it."""
        self.mean_: Tensor | None = state.get("mean")
        self.whitening_: Tensor | None = state.get("whitening")
        self.atlas_hash_: str | None = None
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is something to transform with."""
        return hasattr(self, "atlas_hash_")

    def _fit(self, data: RegionData, subjects: Sequence[str], logs: Tensor | None = None) -> bool:
        """Fit, and whether there was a tangent reference to learn; tangent vectors at it are written into `logs`."""
        check_choice("kind", self.kind, VALUE_KINDS[1:])
        check_choice("shrinkage", self.shrinkage, ("ledoit-wolf", "auto", None))
        _check_subjects(data, subjects)
        if not subjects:
            raise DataError(f"Expected at least one training subject for {self.kind} in atlas {data.atlas.name!r}, found none.")
        self._check_provenance(data)
        self.atlas_hash_, self.mean_, self.whitening_ = data.atlas.hash, None, None
        if self.kind != "tangent" or data.provenance.kind != "timeseries":
            return False
        self.mean_ = self._reference(data, subjects, logs).cpu()
        self.whitening_ = tangent.map_eigenvalues(self.mean_, torch.rsqrt)
        return True

    def _check_fitted(self, data: RegionData) -> None:
        if not self.__sklearn_is_fitted__():
            raise DataError("Expected a fitted Connectivity, found one without training subjects. Call fit first.")
        if self.atlas_hash_ not in (None, data.atlas.hash):
            raise AtlasError(
                f"Expected region data in the atlas of the training subjects (hash {self.atlas_hash_}), found {data.atlas.name!r} with hash "
                f"{data.atlas.hash}. Use the data in that atlas, or fit again."
            )
        if self.kind == "tangent" and data.provenance.kind == "timeseries" and self.whitening_ is None:
            raise DataError("Expected a tangent reference for time series, found none: the training data were tangent matrices. Fit on time series.")

    def _check_provenance(self, data: RegionData) -> None:
        found = data.provenance.kind
        from_series = found == "timeseries" and self.kind not in STRUCTURAL_KINDS
        if from_series or found == self.kind or (found, self.kind) == ("covariance", "correlation"):
            return
        if found == "timeseries":
            raise DataError(
                f"Expected matrices of the kind {self.kind!r} in atlas {data.atlas.name!r}, found time series, which do not give them. "
                "Ask for a kind of connectivity such as 'correlation', or load the matrices."
            )
        raise DataError(
            f"Expected time series or matrices of the kind {self.kind!r} in atlas {data.atlas.name!r}, found matrices of the kind {found!r}. "
            "One does not give the other: ask for the kind there is, or load time series."
        )

    def _shrinkage(self) -> Shrinkage:
        if self.shrinkage == "auto":
            return None if self.kind in ("correlation", "covariance") else "ledoit-wolf"
        return self.shrinkage

    def _chunks(self, data: RegionData, subjects: Sequence[str], observed: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        arrays = [data.values[subject] for subject in subjects]
        if data.provenance.kind != "timeseries":
            for rows, matrices in tracked(stacks(arrays, self.device), "Computing connectivity", len(arrays), size=_n_rows):
                yield rows, self._from_matrices(matrices, observed[rows].to(self.device), [subjects[row] for row in rows], data)
            return
        kind = cast(ConnectivityKind, "covariance" if self.kind == "tangent" else self.kind)
        precision = torch.float64 if self.kind == "tangent" else torch.float32
        for rows, series in tracked(stacks(arrays, self.device), "Computing connectivity", len(arrays), size=_n_rows):
            names = [subjects[row] for row in rows]
            yield rows, connectivity_of(series, observed[rows].to(self.device), kind, self._shrinkage(), names, precision=precision)

    def _reference(self, data: RegionData, subjects: Sequence[str], logs: Tensor | None) -> Tensor:
        observed = _observed(data, subjects)
        whole = observed.all(dim=1)
        if not observed.any(dim=0).all():
            raise DataError(_never_observed(data.atlas, observed))
        matrices = torch.empty((len(subjects), len(data.atlas), len(data.atlas)), dtype=torch.float64, device=self.device)
        for rows, covariances in self._chunks(data, subjects, observed):
            check_invertible(covariances, observed[rows].to(self.device), [subjects[row] for row in rows])
            matrices[rows] = covariances
        if whole.all():
            return tangent.geometric_mean(matrices, logs=logs)
        seen = observed.to(self.device)
        enough = 2 * int(whole.sum()) >= len(subjects)
        mean = tangent.geometric_mean(matrices[whole]) if enough else tangent.completed_mean(matrices, seen)
        matrices[~whole] = tangent.complete(matrices[~whole], seen[~whole], mean)
        return tangent.geometric_mean(matrices, init=mean, logs=logs)

    def _from_matrices(self, matrices: Tensor, observed: Tensor, names: list[str], data: RegionData) -> Tensor:
        matrices = (matrices + matrices.mT) / 2
        if data.provenance.fisher_z and data.provenance.kind in CORRELATION_KINDS:
            matrices = torch.tanh(matrices)
        if data.provenance.kind not in HOLLOW_KINDS:
            _check_diagonal(matrices, observed, names, positive=self.kind == "correlation")
        matrices = matrices.masked_fill(~inside(observed), 0.0)
        return to_correlation(matrices) if (data.provenance.kind, self.kind) == ("covariance", "correlation") else matrices

    def _finish(self, matrices: Tensor, observed: Tensor) -> Tensor:
        if self.kind == "tangent" and self.whitening_ is not None and self.mean_ is not None:
            part = ~observed.all(dim=1)
            if part.any():
                matrices = matrices.clone()
                matrices[part] = tangent.complete(matrices[part], observed[part], self.mean_.to(self.device))
            matrices = tangent.log_map(matrices, self.whitening_.to(self.device), precision=torch.float32).masked_fill_(~inside(observed), 0.0)
        if self.kind in HOLLOW_KINDS:
            torch.diagonal(matrices, dim1=-2, dim2=-1).zero_()
        if self.kind in CORRELATION_KINDS and self.fisher_z:
            # In double precision: the cut is closer to one than single precision tells, and arctanh is then the same in both triangles.
            matrices = matrices.double().clamp_(-LARGEST_CORRELATION, LARGEST_CORRELATION).atanh_()
        return matrices


class ConnectivityFeatures(TransformerMixin, BaseEstimator):
    """Connectivity of a cohort as a table for scikit-learn: one row a subject, one column a connection.

    Correlations, partial correlations and structural kinds give the upper triangle; the other kinds give the diagonal too, divided by √2, so that
    distances of vectors are those of matrices up to a factor (nilearn's vectorisation, in the order of the upper triangle). Connections that were not
    observed, and whole atlases that a subject lacks, get the training mean.

    Args:
        atlas: Name of an atlas of the cohort, or several whose columns stand side by side.
        kind: Kind of connectivity.
        fisher_z: Whether correlations are transformed by arctanh.
        shrinkage: Covariance estimator, as in `Connectivity`.

    Attributes:
        connectivity_: Fitted `Connectivity` by atlas.
        mean_: Mean of every column over the training subjects in whom it was observed `[E]`; zero where in none.
    """

    def __init__(
        self,
        atlas: str | Sequence[str],
        kind: MatrixKind = "correlation",
        fisher_z: bool = True,
        shrinkage: Literal["ledoit-wolf", "auto"] | None = "auto",
    ) -> None:
        self.atlas = atlas
        self.kind = kind
        self.fisher_z = fisher_z
        self.shrinkage = shrinkage

    def fit(self, cohort: Cohort, y: object = None) -> Self:
        """Learn the tangent reference and the means from training subjects; labels are not used.

        Raises:
            ConfigError: If no atlas, the same one twice, or an unknown kind is asked for.
            DataError: If the cohort, or one of its subjects, has no data in the atlases.
        """
        self._fit(cohort)
        return self

    def fit_transform(self, cohort: Cohort, y: object = None) -> npt.NDArray[np.float32]:
        """Fit on a training cohort and give its connections `[n, E]`, computed once."""
        return self._filled(*self._fit(cohort))

    def transform(self, cohort: Cohort) -> npt.NDArray[np.float32]:
        """Connections of every subject of a cohort `[n, E]`, in the order of its table.

        Raises:
            AtlasError: If an atlas is not the one of the training cohort.
            DataError: If nothing was fitted, or a subject has no data in any of the atlases.
        """
        if not hasattr(self, "mean_"):
            raise DataError("Expected fitted ConnectivityFeatures, found none. Call fit with training subjects first.")
        return self._filled(*self._columns(cohort))

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Names of the columns `[E]`: `"region~region"`, with the atlas before a colon where there are several.

        Raises:
            DataError: If nothing was fitted.
        """
        if not hasattr(self, "atlases_"):
            raise DataError("Expected fitted ConnectivityFeatures, found none. Call fit with training subjects first.")
        names: list[str] = []
        for name, atlas in self.atlases_.items():
            prefix = f"{name}:" if len(self.atlases_) > 1 else ""
            regions, pairs = atlas.display_names, self._pairs(len(atlas)).T.tolist()
            names += [f"{prefix}{regions[i]}~{regions[j]}" for i, j in pairs]
        return np.asarray(names, dtype=object)

    def _atlas_names(self) -> list[str]:
        names = [self.atlas] if isinstance(self.atlas, str) else list(self.atlas)
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Expected one or more different atlases for ConnectivityFeatures, found {names}.")
        return names

    def _pairs(self, n_regions: int) -> npt.NDArray[np.int64]:
        return np.stack(np.triu_indices(n_regions, k=1 if self.kind in HOLLOW_KINDS else 0))

    def _fit(self, cohort: Cohort) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        names = self._atlas_names()
        self.atlases_: dict[str, Atlas] = {name: cohort.atlas(name) for name in names}
        self.connectivity_ = {name: Connectivity(self.kind, self.fisher_z, self.shrinkage) for name in names}
        values, observed = self._columns(cohort, fit=True)
        count = observed.sum(axis=0)
        self.mean_ = (np.where(observed, values, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(count, 1)).astype(np.float32)
        return values, observed

    def _filled(self, values: npt.NDArray[np.float32], observed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        return np.where(observed, values, self.mean_)

    def _columns(self, cohort: Cohort, *, fit: bool = False) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        values, observed = [], []
        for name, atlas in self.atlases_.items():
            pairs = self._pairs(len(atlas))
            block = np.zeros((len(cohort), pairs.shape[1]), dtype=np.float32)
            seen = np.zeros(block.shape, dtype=bool)
            data = cohort.regions.get(name)
            rows = [] if data is None else [row for row, subject in enumerate(cohort.ids) if subject in data.values]
            if data is not None and (rows or fit):
                connectivity, subjects = self.connectivity_[name], [cohort.ids[row] for row in rows]
                matrices, regions = connectivity.fit_transform(data, subjects) if fit else connectivity.transform(data, subjects)
                block[rows], seen[rows] = _upper(matrices.numpy(), pairs), _both(regions.numpy(), pairs)
            values.append(block)
            observed.append(seen)
        together = np.concatenate(observed, axis=1)
        absent = [cohort.ids[row] for row in np.flatnonzero(~together.any(axis=1))]
        if absent:
            raise DataError(
                f"Expected every subject of {cohort.name!r} to have connections in one of the atlases {list(self.atlases_)}, found none for "
                f"{len(absent)}: {absent[:5]}. Leave them out."
            )
        return np.concatenate(values, axis=1), together


def _upper(matrices: npt.NDArray[np.float32], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    # nilearn divides the diagonal by √2.
    scale = np.where(pairs[0] == pairs[1], np.float32(2**-0.5), np.float32(1.0))
    return matrices[:, pairs[0], pairs[1]] * scale


def _both(observed: npt.NDArray[np.bool_], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return observed[:, pairs[0]] & observed[:, pairs[1]]


def _n_rows(part: tuple[list[int], Tensor]) -> int:
    return len(part[0])


def _observed(data: RegionData, subjects: Sequence[str]) -> Bool[Tensor, "n R"]:
    if not subjects:
        return torch.zeros((0, len(data.atlas)), dtype=torch.bool)
    return torch.from_numpy(np.stack([data.observed[subject] for subject in subjects]))


def _check_subjects(data: RegionData, subjects: Sequence[str]) -> None:
    absent = [subject for subject in subjects if subject not in data.values]
    if absent:
        raise DataError(
            f"Expected data in atlas {data.atlas.name!r} for every subject, found none for {len(absent)} of {len(subjects)}: {absent[:5]}. "
            "Leave them out, or load their data."
        )


def _check_diagonal(matrices: Tensor, observed: Tensor, names: list[str], *, positive: bool) -> None:
    diagonal = torch.diagonal(matrices, dim1=-2, dim2=-1)
    fine = diagonal.isfinite() & (diagonal > 0) if positive else diagonal.isfinite()
    wrong = (~fine & observed).any(dim=-1).nonzero().flatten().tolist()
    if wrong:
        raise DataError(
            f"Expected {'positive variances' if positive else 'finite values'} on the diagonal of every matrix, found others for {len(wrong)}: "
            f"{[names[row] for row in wrong[:5]]}. Store the matrices with their diagonal."
        )


def _never_observed(atlas: Atlas, observed: Bool[Tensor, "n R"]) -> str:
    labels = atlas.labels[~observed.any(dim=0).numpy()].tolist()
    return (
        f"Expected every region of atlas {atlas.name!r} in at least one of the {len(observed)} training subjects for a tangent reference, "
        f"found none with the labels {labels[:5]}. Leave those regions out with atlas.select."
    )
