"""What covariates explain in features, by least squares within sites."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from graphssl.errors import DataError

Floats = npt.NDArray[np.float64]

# A covariate that varies within sites by less than this share of its variance says nothing that the site does not.
_SMALLEST_SHARE = 1e-9


class CovariateRemover(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Takes out of features what covariates explain linearly, as learned from training subjects ("regressing out").

    The slopes come from least squares on the training subjects; every subject is then moved to the training mean of the covariates. What the features
    say beyond the covariates stays, and so does their mean. A subject's missing covariate counts as the training mean. Where the target depends on
    a covariate, some of what the features say about the target goes with it. To take out sites as well, or to keep the covariates and take out
    the sites, see [`SiteHarmonizer`][graphssl.data.SiteHarmonizer].

    Attributes:
        slopes_: Change of each feature with each covariate `[P, F]`.
        covariate_mean_: Mean of the covariates over training subjects `[P]`.
        n_features_in_: Number of features.

    Example:
        >>> age = np.array([[20.0], [40.0], [60.0]])
        >>> CovariateRemover().fit_transform(0.5 * age, covariates=age).ravel().tolist()
        [20.0, 20.0, 20.0]
    """

    def fit(self, X: npt.ArrayLike, y: object = None, *, covariates: npt.ArrayLike, sites: npt.ArrayLike | None = None) -> Self:
        """Learn slopes from training subjects.

        Args:
            X: Features `[n, F]`; NaN where a subject lacks one.
            y: Ignored.
            covariates: Covariates `[n, P]` as numbers; NaN where unknown.
            sites: Site of each subject `[n]`; slopes are then those within sites, so that a difference between sites is not taken for an effect
                of a covariate.

        Raises:
            DataError: If covariates or sites do not fit the features, or a covariate is constant within every site and not between them.
        """
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        table = as_covariates(covariates, len(values))
        codes = np.zeros(len(values), dtype=np.int64) if sites is None else np.unique(as_sites(sites, len(values)), return_inverse=True)[1]
        self.covariate_mean_ = column_means(table)
        centred = centre(table, self.covariate_mean_)
        check_not_confounded(centred, codes)
        self.slopes_ = slopes_within(values, centred, codes)
        return self

    def transform(self, X: npt.ArrayLike, *, covariates: npt.ArrayLike) -> Floats:
        """Features without what the covariates explain `[n, F]`; NaN stays NaN.

        Args:
            X: Features `[n, F]`.
            covariates: Covariates `[n, P]` in the order of the training subjects.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If the covariates do not fit.
        """
        check_is_fitted(self)
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        table = as_covariates(covariates, len(values), len(self.covariate_mean_))
        return np.asarray(values - centre(table, self.covariate_mean_) @ self.slopes_)

    def fit_transform(self, X: npt.ArrayLike, y: object = None, *, covariates: npt.ArrayLike, sites: npt.ArrayLike | None = None) -> Floats:
        """Fit on subjects and give their features without what the covariates explain.

        Args:
            X: Features `[n, F]`; NaN where a subject lacks one.
            y: Not read.
            covariates: Covariates `[n, P]`; NaN where unknown.
            sites: Site of each subject `[n]`, within which slopes are learned; none when left out.
        """
        return self.fit(X, covariates=covariates, sites=sites).transform(X, covariates=covariates)


def slopes_within(values: Floats, covariates: Floats, codes: npt.NDArray[np.integer]) -> Floats:
    """Least-squares slopes of features on covariates, with an intercept of its own for every group.

    By the theorem of Frisch, Waugh and Lovell these are the slopes of both, centred within groups, on each other; so the groups need no columns, and
    missing features only change the sums. Where covariates say the same twice, the slopes are those of smallest norm.

    Args:
        values: Features `[n, F]`; NaN values are left out, feature by feature.
        covariates: Covariates `[n, P]`, finite.
        codes: Group of each subject `[n]`, from 0.

    Returns:
        Slopes `[P, F]`; zero where nothing can be estimated.
    """
    n_covariates = covariates.shape[1]
    if n_covariates == 0:
        return np.zeros((0, values.shape[1]))
    spread = covariates.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    seen = np.isfinite(values).astype(np.float64)
    shifted = np.where(seen > 0, values - column_means(values), 0.0)
    member = np.eye(int(codes.max()) + 1)[codes].T
    counts = np.maximum(member @ seen, 1.0)
    means = member @ shifted / counts
    columns = ((covariates - covariates.mean(axis=0)) / scale).T
    sums = [member @ (column[:, None] * seen) for column in columns]
    gram = np.empty((values.shape[1], n_covariates, n_covariates))
    moment = np.empty((values.shape[1], n_covariates))
    for p, first in enumerate(columns):
        moment[:, p] = first @ shifted - (sums[p] * means).sum(axis=0)
        for q, second in enumerate(columns[: p + 1]):
            gram[:, p, q] = gram[:, q, p] = (first * second) @ seen - (sums[p] * sums[q] / counts).sum(axis=0)
    inverse = np.linalg.pinv(gram, rcond=_SMALLEST_SHARE, hermitian=True)
    return np.asarray(np.einsum("fpq,fq->pf", inverse, moment) / scale[:, None])


def check_not_confounded(covariates: Floats, codes: npt.NDArray[np.integer]) -> None:
    """Check that covariates differ within groups in every way in which they differ at all.

    Args:
        covariates: Centred covariates `[n, P]`, finite.
        codes: Group of each subject `[n]`.

    Raises:
        DataError: If they do not; names the columns that are constant within every group.
    """
    spread = covariates.std(axis=0)
    scaled = covariates / np.where(spread > 0, spread, 1.0)
    member = np.eye(int(codes.max(initial=0)) + 1)[codes].T
    within = scaled - (member.T @ (member @ scaled / np.maximum(member.sum(axis=1, keepdims=True), 1.0)))
    if _rank(within) < _rank(scaled):
        constant = np.flatnonzero((spread > 0) & (within.var(axis=0) < _SMALLEST_SHARE)).tolist()
        raise DataError(
            "Expected covariates that vary within sites, found that the site explains "
            f"{f'the columns {constant}' if constant else 'a combination of them'} wholly: what is due to the one cannot be told from the other. "
            "Leave them out."
        )


def as_covariates(covariates: npt.ArrayLike | None, n_subjects: int, n_expected: int | None = None) -> Floats:
    """Covariates as numbers `[n, P]`; none are `[n, 0]`.

    Raises:
        DataError: If they are no such array, have another length, an infinite value, or another number of columns than expected.
    """
    if covariates is None:
        table = np.zeros((n_subjects, 0))
    else:
        try:
            table = np.asarray(covariates, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"Expected covariates as numbers, found {error}. Encode categories first, one column each but one.") from error
    if table.ndim != 2 or len(table) != n_subjects:
        raise DataError(f"Expected covariates [n, P] of {n_subjects} subjects, found shape {table.shape}. A single one is covariates[:, None].")
    if np.isinf(table).any():
        raise DataError("Expected finite covariates (NaN where unknown), found infinite ones. Mend them.")
    if n_expected is not None and table.shape[1] != n_expected:
        raise DataError(
            f"Expected the {n_expected} covariates of the training subjects, found {table.shape[1]}. Give the same columns in the same order."
        )
    return table


def as_sites(sites: npt.ArrayLike | None, n_subjects: int) -> npt.NDArray[np.str_]:
    """Sites as text `[n]`.

    Raises:
        DataError: If there is not one for every subject.
    """
    labels: npt.NDArray[Any] = np.asarray([] if sites is None else sites, dtype=object)
    if labels.shape != (n_subjects,):
        raise DataError(f"Expected the site of each of {n_subjects} subjects, found shape {labels.shape}. Pass sites=…")
    absent = np.flatnonzero(pd.isna(labels)).tolist()
    if absent:
        raise DataError(f"Expected a site for every subject, found none in the rows {absent[:5]}. Fill them in, or leave those subjects out.")
    return labels.astype(np.str_)


def column_means(values: Floats) -> Floats:
    """Mean of each column over its finite values; zero where it has none."""
    seen = np.isfinite(values)
    return np.asarray(np.where(seen, values, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1))


def centre(covariates: Floats, mean: Floats) -> Floats:
    """Covariates as differences from the training mean; an unknown one is no difference."""
    return np.asarray(np.where(np.isnan(covariates), 0.0, covariates - mean))


def _rank(columns: Floats) -> int:
    if not columns.size:
        return 0
    # Relative to columns of variance 1, not to the largest singular value: what is left within sites may be small altogether.
    values = np.linalg.svd(columns / np.sqrt(len(columns)), compute_uv=False)
    return int((values**2 > _SMALLEST_SHARE).sum())
