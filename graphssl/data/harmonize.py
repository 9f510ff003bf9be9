"""Harmonisation of sites (ComBat), for sites met in training and for others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from graphssl.data.regress import Floats, as_covariates, as_sites, centre, check_not_confounded, column_means, slopes_within
from graphssl.errors import CheckpointError, ConfigError, DataError

UnseenPolicy = Literal["error", "pooled", "estimate"]

_TOLERANCE = 1e-8
_MAX_ITERATIONS = 1000
# A feature that varies less than this share of its size is constant but for rounding errors.
_SMALLEST_SPREAD = 1e-9
_WITHHELD = -1


class SiteHarmonizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Takes out of features what the site adds to their level and spread, feature by feature (ComBat).

    A feature of a subject is modelled as intercept + covariates · slopes + location of the site + spread of the site · rest. Location and spread of
    a site are shrunken by empirical Bayes towards what they are in its other features (normal and inverse gamma priors with moments over the
    features, the equations of Johnson, Li & Rabinovic, Biostatistics 2007, doi:10.1093/biostatistics/kxj037; for connectivity Yu et al., Human Brain
    Mapping 2018, doi:10.1002/hbm.24241). What covariates explain is kept, as far as they are named: without the age, a site of old people is moved
    to the others. Everything is learned from training subjects; `transform` serves any.

    **Sites never seen in training** are treated by `unseen`:

    - `"error"` refuses them;
    - `"pooled"` takes them for the average site, which leaves their subjects as they are; what a subject becomes depends on no other subject;
    - `"estimate"` estimates location and spread from the features of the site's subjects in the call of `transform`, shrunken towards their moments
      over all training sites and features. **This uses the unlabelled scans of that site jointly (it is transductive over the site)**: what a subject
      becomes depends on who is transformed with it, all of the site's subjects belong in one call, and a site of patients only is moved to the others
      together with its disease. A site with fewer than `min_subjects` subjects in the call is treated as `"pooled"`.

    **What cannot be learned is left alone.** NaN features are left out of every estimate and stay NaN. A feature that is constant, or observed in
    fewer than two training subjects, is returned unchanged. A feature never observed in a site has there the location and spread of the prior. A
    covariate that a subject lacks (NaN) counts as the training mean.

    **The target** is no covariate: `transform` would need the label of a test subject, and a column of it hands the answer to whatever is trained on
    the result. With `keep_target=True` the labels `y` of the training subjects enter the fit alone, so that a site with many patients is not moved
    to the others; `transform` never sees a label.

    Args:
        unseen: What to do with sites that were not fitted.
        min_subjects: Fewest subjects from which location and spread of a site are estimated, at least 2. A smaller training site is left out of the
            fit and counts as unseen, or is refused where `unseen="error"`. With few subjects estimates are rough.
        keep_target: Whether class labels `y` enter the fit as a covariate; subjects whose label is withheld (-1 or NaN) are then left out of the fit.

    Attributes:
        sites_: Names of the fitted sites `[S]`, sorted.
        intercept_: Level of each feature at the mean of the covariates, over all subjects `[F]`.
        slopes_: Change of each feature with each covariate `[P, F]`.
        covariate_mean_: Mean of the covariates over training subjects `[P]`.
        scale_: Standard deviation of each feature within sites `[F]`; zero where nothing could be learned.
        location_: Shrunken location of each site, in units of `scale_` `[S, F]`.
        variance_: Shrunken variance of each site, in units of `scale_` squared `[S, F]`.
        prior_: Prior of a site never seen.
        n_features_in_: Number of features.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> sites = np.repeat(["a", "b"], 50)
        >>> X = rng.standard_normal((100, 3)) + 5 * (sites == "b")[:, None]
        >>> harmonized = SiteHarmonizer().fit_transform(X, sites=sites)
        >>> bool(abs(harmonized[:50].mean() - harmonized[50:].mean()) < 0.1)
        True
    """

    def __init__(self, unseen: UnseenPolicy = "error", min_subjects: int = 5, keep_target: bool = False) -> None:
        self.unseen = unseen
        self.min_subjects = min_subjects
        self.keep_target = keep_target

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike | None = None, *, sites: npt.ArrayLike, covariates: npt.ArrayLike | None = None) -> Self:
        """Learn intercepts, slopes, and location and spread of every site from training subjects.

        Args:
            X: Features `[n, F]`; NaN where a subject lacks one.
            y: Class labels `[n]`, read only where `keep_target=True`.
            sites: Site of each subject `[n]`.
            covariates: Covariates `[n, P]` as numbers, whose effects are kept; NaN where unknown.

        Raises:
            ConfigError: If an argument is none of those that exist, or the target is to be kept and there are no labels.
            DataError: If sites or covariates do not fit, fewer than two sites have enough subjects, or the site explains a covariate wholly.
        """
        self._check_arguments()
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        labels = as_sites(sites, len(values))
        table = as_covariates(covariates, len(values))
        classes, labelled = _class_columns(y, len(values)) if self.keep_target else (np.zeros((len(values), 0)), np.ones(len(values), dtype=bool))
        self.sites_ = self._large_enough(labels[labelled])
        fitted = np.isin(labels, self.sites_) & labelled
        self._estimate(values[fitted], np.searchsorted(self.sites_, labels[fitted]), table[fitted], classes[fitted])
        return self

    def transform(self, X: npt.ArrayLike, *, sites: npt.ArrayLike, covariates: npt.ArrayLike | None = None) -> Floats:
        """Harmonised features `[n, F]`; NaN stays NaN.

        Args:
            X: Features `[n, F]`.
            sites: Site of each subject `[n]`.
            covariates: Covariates `[n, P]` in the order of the training subjects.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If sites or covariates do not fit, or a site was not fitted and `unseen="error"`.
        """
        check_is_fitted(self)
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        labels = as_sites(sites, len(values))
        table = as_covariates(covariates, len(values), len(self.covariate_mean_))
        expected = self.intercept_ + centre(table, self.covariate_mean_) @ self.slopes_
        varies = self.scale_ > 0
        scale = np.where(varies, self.scale_, 1.0)
        rest = (values - expected) / scale
        for site in np.unique(labels):
            rows = labels == site
            location, variance = self._effect(str(site), rest[rows])
            rest[rows] = (rest[rows] - location) / np.sqrt(variance)
        return np.where(varies, rest * scale + expected, values)

    def fit_transform(
        self, X: npt.ArrayLike, y: npt.ArrayLike | None = None, *, sites: npt.ArrayLike, covariates: npt.ArrayLike | None = None
    ) -> Floats:
        """Fit on subjects and harmonise them.

        Args:
            X: Features `[n, F]`; NaN where a subject lacks one.
            y: Class labels `[n]`, read only where `keep_target=True`.
            sites: Site of each subject `[n]`.
            covariates: Covariates `[n, P]` whose effects are kept.
        """
        return self.fit(X, y, sites=sites, covariates=covariates).transform(X, sites=sites, covariates=covariates)

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Arguments, names and prior as plain values, and fitted arrays, to be written without pickle.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self)
        prior = [self.prior_.location, self.prior_.location_variance, self.prior_.variance, self.prior_.variance_variance]
        return {"arguments": self.get_params(), "sites": self.sites_.tolist(), "prior": prior}, {name: getattr(self, f"{name}_") for name in _ARRAYS}

    @classmethod
    def from_state(cls, record: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing, or arrays do not fit one another.
        """
        try:
            harmonizer = cls(**record["arguments"])
            harmonizer.sites_ = np.asarray(record["sites"], dtype=np.str_)
            harmonizer.prior_ = Prior(*map(float, record["prior"]))
            for name in _ARRAYS:
                setattr(harmonizer, f"{name}_", np.asarray(arrays[name], dtype=np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Expected the fitted state of a SiteHarmonizer, found none of {error}. The file is damaged.") from error
        n_sites, n_features = len(harmonizer.sites_), len(harmonizer.intercept_)
        shapes = {
            "scale": (n_features,),
            "slopes": (len(harmonizer.covariate_mean_), n_features),
            "location": (n_sites, n_features),
            "variance": (n_sites, n_features),
        }
        for name, shape in shapes.items():
            found = getattr(harmonizer, f"{name}_").shape
            if found != shape:
                raise CheckpointError(f"Expected {name} of the shape {shape} in the state of a SiteHarmonizer, found {found}. The files do not fit.")
        harmonizer.n_features_in_ = n_features
        return harmonizer

    def _check_arguments(self) -> None:
        if self.unseen not in get_args(UnseenPolicy):
            raise ConfigError(f"Expected unseen to be one of {', '.join(map(repr, get_args(UnseenPolicy)))}; found {self.unseen!r}.")
        if self.min_subjects < 2:
            raise ConfigError(f"Expected min_subjects of at least 2, found {self.min_subjects}: one subject has no spread.")

    def _large_enough(self, labels: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
        names, counts = np.unique(labels, return_counts=True)
        small = dict(zip(names[counts < self.min_subjects].tolist(), counts[counts < self.min_subjects].tolist(), strict=True))
        if small and self.unseen == "error":
            raise DataError(
                f"Expected at least {self.min_subjects} training subjects of every site, found {small}. Leave those sites out, "
                "lower min_subjects, or treat them as unseen with unseen='pooled' or 'estimate'."
            )
        large = names[counts >= self.min_subjects]
        if len(large) < 2:
            raise DataError(
                f"Expected at least two training sites of {self.min_subjects} subjects or more, found {large.tolist()}"
                f"{f' beside {small}' if small else ''}: there is no difference between sites to take out. Leave the harmonisation out."
            )
        return large

    def _estimate(self, values: Floats, codes: npt.NDArray[np.integer], covariates: Floats, classes: Floats) -> None:
        """The fit proper, on subjects of the fitted sites."""
        self.covariate_mean_ = column_means(covariates)
        known = centre(covariates, self.covariate_mean_)
        together = np.column_stack([known, classes - column_means(classes)])
        check_not_confounded(together, codes)
        slopes = slopes_within(values, together, codes)
        self.slopes_ = slopes[: known.shape[1]]
        rest = values - together @ slopes
        self.intercept_ = column_means(rest)
        count, mean, squares = _moments(rest - self.intercept_, codes, len(self.sites_))
        total = count.sum(axis=0)
        scale = np.sqrt(squares.sum(axis=0) / np.maximum(total, 1))
        varies = (total >= 2) & (scale > _SMALLEST_SPREAD * np.abs(self.intercept_))
        self.scale_ = np.where(varies, scale, 0.0)
        unit = np.where(varies, scale, 1.0)
        count, mean, squares = np.where(varies, count, 0.0), mean / unit, squares / unit**2
        self.prior_ = _prior(count, mean, squares) or _NO_EFFECT
        fitted = [_shrink(*site, _prior(*site)) for site in zip(count, mean, squares, strict=True)]
        self.location_ = np.stack([location for location, _ in fitted])
        self.variance_ = np.stack([variance for _, variance in fitted])

    def _effect(self, site: str, rest: Floats) -> tuple[Floats, Floats]:
        """Location and variance of a site `[F]`, for standardised features of its subjects `[n, F]`."""
        if site in self.sites_:
            index = int(np.flatnonzero(self.sites_ == site)[0])
            return self.location_[index], self.variance_[index]
        if self.unseen == "error":
            raise DataError(
                f"Expected subjects of the fitted sites {self.sites_.tolist()}, found {site!r}. "
                "Fit on it too, or choose what to do with other sites: unseen='pooled' leaves them as they are, 'estimate' learns from their scans."
            )
        if self.unseen == "pooled" or len(rest) < self.min_subjects:
            return np.zeros(rest.shape[1]), np.ones(rest.shape[1])
        count, mean, squares = (part[0] for part in _moments(rest, np.zeros(len(rest), dtype=np.int64), 1))
        return _shrink(count, mean, squares, self.prior_)


@dataclass(frozen=True)
class Prior:
    """Moments of location and variance over features: a normal and an inverse gamma distribution.

    Attributes:
        location: Mean of the locations.
        location_variance: Their variance.
        variance: Mean of the variances.
        variance_variance: Their variance.
    """

    location: float
    location_variance: float
    variance: float
    variance_variance: float


_NO_EFFECT = Prior(0.0, 0.0, 1.0, 0.0)
_ARRAYS = ("intercept", "slopes", "covariate_mean", "scale", "location", "variance")


def _moments(values: Floats, codes: npt.NDArray[np.integer], n_groups: int) -> tuple[Floats, Floats, Floats]:
    """Number of finite values, their mean, and the sum of squares around it, by group `[S, F]`."""
    seen = np.isfinite(values)
    member = np.eye(n_groups)[codes].T
    count = member @ seen
    mean = member @ np.where(seen, values, 0.0) / np.maximum(count, 1.0)
    squares = member @ np.where(seen, values - mean[codes], 0.0) ** 2
    return count, mean, squares


def _prior(count: Floats, mean: Floats, squares: Floats) -> Prior | None:
    """Moments over the features of one site `[F]`, or of several `[S, F]`; None where there are too few to speak of."""
    several = count >= 2
    if several.sum() < 2:
        return None
    locations, variances = mean[several], squares[several] / (count[several] - 1)
    if not (variances > 0).any():
        return Prior(float(locations.mean()), float(locations.var(ddof=1)), 1.0, 0.0)
    return Prior(float(locations.mean()), float(locations.var(ddof=1)), float(variances.mean()), float(variances.var(ddof=1)))


def _shrink(count: Floats, mean: Floats, squares: Floats, prior: Prior | None) -> tuple[Floats, Floats]:
    """Location and variance of one site `[F]` under a prior: the conditional posterior means of Johnson et al. (2007), by turns.

    With the moments t² (location) and m, s² (variance), the inverse gamma prior has shape 2 + m²/s² and rate m + m³/s²; numerator and denominator of
    the posterior mean are multiplied by s² here, so that a prior without spread needs no case of its own.
    """
    if prior is None:
        variance = squares / np.maximum(count - 1, 1.0)
        return mean, np.where(variance > 0, variance, 1.0)
    location, variance = mean, np.full_like(mean, prior.variance)
    m, s2 = prior.variance, prior.variance_variance
    for _ in range(_MAX_ITERATIONS):
        weight = prior.location_variance * count
        moved = (weight * mean + variance * prior.location) / (weight + variance)
        around = squares + count * (mean - moved) ** 2
        changed = (0.5 * around * s2 + m * (s2 + m**2)) / (0.5 * count * s2 + s2 + m**2)
        change = max(np.abs(moved - location).max(initial=0.0), np.abs(changed - variance).max(initial=0.0))
        location, variance = moved, changed
        if change < _TOLERANCE:
            break
    return location, variance


def _class_columns(y: npt.ArrayLike | None, n_subjects: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """A column a class but the first `[n, C - 1]`, and whose label is not withheld `[n]`."""
    if y is None:
        raise ConfigError("Expected class labels y of the training subjects for keep_target=True, found none. Pass y=…, or keep_target=False.")
    labels: npt.NDArray[Any] = np.asarray(y, dtype=object)
    if labels.shape != (n_subjects,):
        raise DataError(f"Expected one class label for each of {n_subjects} subjects, found shape {labels.shape}.")
    labelled = ~(pd.isna(labels) | (labels == _WITHHELD))
    classes = sorted(set(labels[labelled].tolist()))
    columns = [[label == name for name in classes[1:]] for label in labels]
    return np.asarray(columns, dtype=np.float64).reshape(n_subjects, -1), labelled
