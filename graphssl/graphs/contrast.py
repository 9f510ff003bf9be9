"""Linear contrastive pre-training in closed form: what differs between the halves of one scan counts less."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from graphssl.data.cohort import Cohort
from graphssl.data.harmonize import UnseenPolicy
from graphssl.data.regions import ConnectivityKind, RegionData
from graphssl.errors import ConfigError, DataError
from graphssl.graphs.connectivity import ConnectivityFeatures

Floats = npt.NDArray[np.float32]

_CONSTANT = 1e-6
_SMALLEST_SHARE = 1e-7
# Half of it must still give a correlation; readers ask scans for ten time points.
_FEWEST_TIME_POINTS = 20


class ScanContrast(TransformerMixin, BaseEstimator):
    """Connectivity of several atlases and kinds, mapped so that two halves of a scan look alike and two people do not.

    Connections differ between the halves of one scan by noise and by the state of the person. Their covariance `S` is known from unlabelled
    scans alone, and the map `(S + l)^(-1/2)` makes those differences equally small in every direction: within-class covariance normalisation (Hatch,
    Kajarekar & Stolcke, Interspeech 2006) with a person as a class. It is the linear counterpart of contrasting windows of scans. Directions that
    no difference was seen in are kept as they are.

    Each atlas and kind is a block: connections centred and scaled on training subjects, the means of sites taken away (site-wise de-meaning,
    Reardon et al., Frontiers in Computational Neuroscience 2021), the map applied, and all scaled to vectors of mean squared length one over the
    training subjects, so that each block counts the same in whatever linear model follows. Labels are never read.

    Args:
        atlases: Atlases to use; all of the cohort when left out.
        kinds: Kinds of connectivity, in nilearn's words.
        shrinkage: How much of the mean variance of the differences is added to every direction (`l`); the larger, the less is changed. None
            leaves the map out, and time series are then not needed.
        sites: What to take away from sites not met in training: `"pooled"` nothing, `"estimate"` the mean of the site's own scans in the call (it is
            transductive over the site: all its subjects belong in one call), `"error"` refuses them. None leaves the means of all sites in.
        min_subjects: Fewest subjects from which the mean of a site is estimated; nothing is taken from a smaller site.

    Attributes:
        blocks_: One fitted block an atlas and kind.
    """

    def __init__(
        self,
        atlases: Sequence[str] | None = None,
        kinds: Sequence[ConnectivityKind] = ("correlation", "tangent"),
        shrinkage: float | None = 30.0,
        sites: UnseenPolicy | None = "pooled",
        min_subjects: int = 5,
    ) -> None:
        self.atlases = atlases
        self.kinds = kinds
        self.shrinkage = shrinkage
        self.sites = sites
        self.min_subjects = min_subjects

    def fit(self, cohort: Cohort, y: object = None) -> Self:
        """Learn from training subjects, whose labels are not needed.

        Raises:
            ConfigError: If there is no kind, the shrinkage is not above 0 or the policy for sites is unknown.
            DataError: If there are no region data, or they are not time series of 20 time points or more and the map is wanted.
        """
        self.fit_transform(cohort)
        return self

    def fit_transform(self, cohort: Cohort, y: object = None) -> Floats:
        """Fit on training subjects and give their features `[n, F]`."""
        self._check_arguments()
        names = list(self.atlases) if self.atlases is not None else list(cohort.regions)
        if not names:
            raise DataError(f"Expected {cohort.name!r} to have region data, found none. Load time series or matrices.")
        self.blocks_: list[Block] = []
        values = []
        for name in names:
            served = _served(cohort, name)
            if not served:
                raise DataError(f"Expected training subjects with data in atlas {name!r}, found none among {len(cohort)}.")
            part = cohort.select(served)
            halves = None if self.shrinkage is None else _halves(part, name)
            for kind in self.kinds:
                block, mapped = self._fitted(part, name, kind, halves)
                self.blocks_.append(block)
                values.append(_spread_out(mapped, part, cohort))
        return self._joined(values)

    def transform(self, cohort: Cohort) -> Floats:
        """Features `[n, F]` of any subjects, in the order of the table; those of an atlas that a subject lacks are zero, the training mean.

        Raises:
            AtlasError: If an atlas is not the one of the training subjects.
            DataError: If nothing was fitted, a subject has no data in any of the atlases, or a site is new and `sites="error"`.
        """
        if not hasattr(self, "blocks_"):
            raise DataError("Expected a fitted ScanContrast, found none. Call fit with training subjects first.")
        fitted = sorted({block.atlas for block in self.blocks_})
        absent = sorted(set(cohort.ids).difference(*(_served(cohort, name) for name in fitted)))
        if absent:
            raise DataError(f"Expected every subject to have data in one of the atlases {fitted}, found none for {len(absent)}: {absent[:5]}.")
        values = []
        for block in self.blocks_:
            served = _served(cohort, block.atlas)
            if not served:
                values.append(np.zeros((len(cohort), len(block.mean)), dtype=np.float32))
                continue
            part = cohort.select(served)
            standard = block.standard(block.features.transform(part))
            values.append(_spread_out(block.mapped(self._demeaned(standard, part, block.site_means)), part, cohort))
        return self._joined(values)

    def _fitted(self, part: Cohort, atlas: str, kind: ConnectivityKind, halves: tuple[Cohort, Cohort] | None) -> tuple["Block", Floats]:
        features = ConnectivityFeatures(atlas, kind)
        values = features.fit_transform(part)
        spread = values.std(axis=0)
        block = Block(atlas, features, values.mean(axis=0), np.where(spread > _CONSTANT, spread, np.inf), {})
        standard = block.standard(values)
        block = replace(block, site_means=self._site_means(standard, part))
        if halves is not None and self.shrinkage is not None:
            first, second = (block.standard(features.transform(half)) for half in halves)
            directions, damping = _map((first - second) / np.float32(np.sqrt(2)), self.shrinkage)
            block = replace(block, directions=directions, damping=damping)
        mapped = block.mapped(self._demeaned(standard, part, block.site_means))
        length = float(np.sqrt(np.square(mapped).sum(axis=1).mean())) or 1.0
        return replace(block, length=length), mapped / np.float32(length)

    def _site_means(self, standard: Floats, part: Cohort) -> dict[str, Floats]:
        if self.sites is None or part.sites is None:
            return {}
        sites, counts = np.unique(part.sites.to_numpy().astype(str), return_counts=True)
        return {site: standard[part.sites.to_numpy() == site].mean(axis=0) for site in sites[counts >= self.min_subjects].tolist()}

    def _demeaned(self, standard: Floats, part: Cohort, known: Mapping[str, Floats]) -> Floats:
        if self.sites is None or part.sites is None:
            return standard
        sites, result = part.sites.to_numpy(), standard.copy()
        for site in np.unique(sites):
            rows = sites == site
            result[rows] -= self._mean_of(str(site), standard[rows], known)
        return result

    def _mean_of(self, site: str, standard: Floats, known: Mapping[str, Floats]) -> Floats | float:
        if site in known:
            return known[site]
        if self.sites == "error":
            raise DataError(
                f"Expected subjects of the fitted sites {sorted(known)}, found {site!r}. Fit on it too, or choose what to do with other sites: "
                "sites='pooled' leaves them as they are, 'estimate' takes the mean of their own scans away."
            )
        return standard.mean(axis=0) if self.sites == "estimate" and len(standard) >= self.min_subjects else 0.0

    def _joined(self, values: Sequence[Floats]) -> Floats:
        return np.concatenate(values, axis=1) / np.float32(np.sqrt(len(values)))

    def _check_arguments(self) -> None:
        if not self.kinds:
            raise ConfigError("Expected at least one kind of connectivity for ScanContrast, found none.")
        if self.shrinkage is not None and not self.shrinkage > 0:
            raise ConfigError(f"Expected a shrinkage above 0, or None to leave the map out; found {self.shrinkage}.")
        if self.sites not in (None, *get_args(UnseenPolicy)):
            raise ConfigError(f"Expected sites to be None or one of {', '.join(map(repr, get_args(UnseenPolicy)))}; found {self.sites!r}.")


@dataclass(frozen=True)
class Block:
    """What was learned of one atlas and kind.

    Attributes:
        atlas: Name of the atlas.
        features: Fitted connectivity.
        mean: Mean of each connection `[F]`.
        spread: Standard deviation of each `[F]`; infinite where constant, which makes it zero.
        site_means: Standardised mean connections of each site `[F]`.
        directions: Directions that halves of scans differ in `[F, K]`, orthonormal.
        damping: How much of each direction is taken away `[K]`, in [0, 1).
        length: Root mean squared length of the mapped training vectors.
    """

    atlas: str
    features: ConnectivityFeatures
    mean: Floats
    spread: Floats
    site_means: Mapping[str, Any]
    directions: Floats | None = None
    damping: Floats | None = None
    length: float = 1.0

    def standard(self, values: Floats) -> Floats:
        """Centred and scaled connections."""
        return np.asarray((values - self.mean) / self.spread, dtype=np.float32)

    def mapped(self, standard: Floats) -> Floats:
        """What differs within scans damped, and scaled."""
        if self.directions is None or self.damping is None:
            return standard / np.float32(self.length)
        damped = (standard @ self.directions * self.damping) @ self.directions.T
        return np.asarray((standard - damped) / np.float32(self.length), dtype=np.float32)


def _map(differences: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """`√l · (S + l)^(-1/2)` for `S` the second moment of differences `[n, F]`, as identity − V · diag(damping) · Vᵀ, without a matrix `[F, F]`."""
    n, n_features = differences.shape
    moments = (differences @ differences.T).astype(np.float64) / n  # has the eigenvalues of S
    variance, vectors = np.linalg.eigh(moments)
    kept = variance > _SMALLEST_SHARE * max(variance[-1], np.finfo(np.float32).tiny)
    variance, vectors = variance[kept], vectors[:, kept]
    level = shrinkage * variance.sum() / n_features
    directions = differences.T @ (vectors / np.sqrt(n * variance)).astype(np.float32)
    return directions, (1 - np.sqrt(level / (level + variance))).astype(np.float32)


def _served(cohort: Cohort, atlas: str) -> list[str]:
    data = cohort.regions.get(atlas)
    return [subject for subject in cohort.ids if data is not None and subject in data.values]


def _halves(part: Cohort, atlas: str) -> tuple[Cohort, Cohort]:
    """The first and the second half of each scan, as cohorts."""
    data = part.regions[atlas]
    if data.provenance.kind != "timeseries":
        raise DataError(
            f"Expected time series in atlas {atlas!r} to compare halves of a scan, found {data.provenance.kind} matrices. "
            "Load time series, or leave the map out with shrinkage=None."
        )
    short = [subject for subject, series in data.values.items() if len(series) < _FEWEST_TIME_POINTS]
    if short:
        raise DataError(f"Expected scans of {_FEWEST_TIME_POINTS} time points or more to halve, found shorter ones of {len(short)}: {short[:5]}.")
    first, second = (
        RegionData(data.atlas, {s: half(np.asarray(x)) for s, x in data.values.items()}, replace(data.provenance, n_timepoints=None))
        for half in (lambda x: x[: len(x) // 2], lambda x: x[len(x) // 2 :])
    )
    return replace(part, regions={atlas: first}), replace(part, regions={atlas: second})


def _spread_out(values: Floats, part: Cohort, cohort: Cohort) -> Floats:
    """Rows of the subjects with data among zeros for the others."""
    if len(part) == len(cohort):
        return values
    result = np.zeros((len(cohort), values.shape[1]), dtype=np.float32)
    has_data = set(part.ids)
    result[[row for row, subject in enumerate(cohort.ids) if subject in has_data]] = values
    return result
