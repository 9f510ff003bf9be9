"""From one atlas to another, as a scikit-learn transformer."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from graphssl.atlases.apply import convert_cohort, convert_matrices, convert_regions, convert_series
from graphssl.atlases.autoencoder import autoencoder_map
from graphssl.atlases.geometry import geometry_map
from graphssl.atlases.label_volume import LabelVolume, Parcellation, atlas_of
from graphssl.atlases.linear import joint_map, ridge_map
from graphssl.atlases.map import AtlasMap
from graphssl.atlases.overlap import coverage, overlap_map
from graphssl.atlases.paired import PairedSubjects, mean_matrix, paired_subjects
from graphssl.atlases.parcellation import load_parcellation, parcellation_of, regions_in
from graphssl.atlases.transport import transport_map
from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import Provenance, RegionData
from graphssl.errors import AtlasError, ConfigError, DataError

Method = Literal["overlap", "geometry", "transport", "ridge", "autoencoder", "joint"]
METHODS: dict[str, Callable[..., AtlasMap]] = {
    "overlap": overlap_map,
    "geometry": geometry_map,
    "transport": transport_map,
    "ridge": ridge_map,
    "autoencoder": autoencoder_map,
    "joint": joint_map,
}
# Those that cannot be made without subjects who have both atlases.
LEARNED = ("ridge", "autoencoder", "joint")


class AtlasConverter(TransformerMixin, BaseEstimator):
    """Converts time series and connectivity matrices from one atlas to another.

    Methods, the more they need the better they are:

    - `"overlap"` needs two label volumes: means weighted by shared volume. The one that keeps units, and that converts counts of streamlines.
    - `"geometry"` needs places only, volumes or centroids: what regions near by and mirrored let expect, and how sure that is. With subjects in the
      source atlas their mean correlation sets its parameters.
    - `"transport"` needs places only, too: optimal transport of volumes; with `{"cost": "functional"}` subjects with time series in both atlases.
    - `"autoencoder"` needs these as well: through coordinates of an autoencoder of each atlas.
    - `"ridge"` needs subjects with time series in both atlases: plain ridge regression, as a baseline.
    - `"joint"` needs some subjects with both, ten are of use: regression that starts from geometry.

    Args:
        source: Atlas of the data: a name, a file, an `Atlas` or a `LabelVolume`.
        target: Atlas of the result, likewise.
        method: How the map is made.
        options: Further arguments of the map's function, such as `{"penalty": 0.1}` for ridge.
        repair: Whether converted matrices that are not positive semi-definite are replaced by the nearest that are.
        device: Where matrices are converted.

    Attributes:
        map_: The [`AtlasMap`][graphssl.atlases.AtlasMap].
        n_subjects_: Number of subjects with both atlases that it was learned from.

    Example:
        >>> from graphssl.atlases import simulated_atlas
        >>> converter = AtlasConverter(simulated_atlas(40), simulated_atlas(20), method="geometry").fit()
        >>> converter.transform(np.eye(40)[None]).shape
        (1, 20, 20)
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Parcellation,
        target: str | os.PathLike[str] | Parcellation,
        method: Method = "overlap",
        options: Mapping[str, Any] | None = None,
        repair: bool = False,
        device: str = "cpu",
    ) -> None:
        self.source = source
        self.target = target
        self.method = method
        self.options = options
        self.repair = repair
        self.device = device

    def fit(
        self, X: Cohort | npt.ArrayLike | Sequence[npt.ArrayLike] | None = None, y: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None
    ) -> Self:
        """Make the map, from training subjects where the method learns.

        Args:
            X: A cohort with data in the source atlas, and for learned methods in the target atlas too; or time series `[T, R_s]` or correlations
                `[R_s, R_s]` of subjects in the source atlas; nothing for methods that need no subject.
            y: The same subjects' in the target atlas, where `X` is no cohort.

        Raises:
            ConfigError: If the method is unknown or an option does not fit it.
            AtlasError: If the two atlases do not lie in one space, or the data are in others.
            DataError: If the method learns and nobody has both atlases.
        """
        if self.method not in METHODS:
            raise ConfigError(f"Expected the method to be one of {', '.join(METHODS)}; found {self.method!r}.")
        _check_options(self.method, list(self.options or {}))
        source, target = load_parcellation(self.source), load_parcellation(self.target)
        first, second = _data(X, source), _data(X if isinstance(X, Cohort) else y, target)
        source, target = _matched(source, first), _matched(target, second)
        pairs = None
        if self.method in LEARNED or (self.method == "transport" and (self.options or {}).get("cost") == "functional"):
            pairs = _paired(first, second, source, target)
        made = _made(self.method, source, target, first, pairs, dict(self.options or {}))
        if isinstance(source, LabelVolume) and isinstance(target, LabelVolume) and np.isnan(made.coverage).all():
            made = replace(made, coverage=coverage(source, target))
        self.map_ = made
        self.n_subjects_ = 0 if pairs is None else len(pairs)
        return self

    def transform(self, X: Any) -> Any:
        """Convert subjects.

        Args:
            X: A cohort (its data in the source atlas are replaced), region data, correlation matrices `[n, R_s, R_s]`, one matrix `[R_s, R_s]`, one
                series `[T, R_s]`, or a list of series or matrices.

        Returns:
            The same kind of thing in the target atlas; NaN where a region cannot be served.

        Raises:
            sklearn.exceptions.NotFittedError: If no map was made.
            AtlasError: If the data are in another atlas.
        """
        check_is_fitted(self)
        if isinstance(X, Cohort):
            return convert_cohort(self.map_, X, repair=self.repair, device=self.device)
        if isinstance(X, RegionData):
            return convert_regions(self.map_, X, repair=self.repair, device=self.device)[0]
        if isinstance(X, Sequence):
            return [self.transform(np.asarray(one)) for one in X]
        values, n = np.asarray(X), len(self.map_.source)
        if values.ndim == 2 and values.shape[0] != n:
            return convert_series(self.map_, values)
        stacked = values[None] if values.ndim == 2 else values
        found = convert_matrices(self.map_, stacked, repair=self.repair, device=self.device).values
        return found[0] if values.ndim == 2 else found


def _made(
    method: str, source: Parcellation, target: Parcellation, first: RegionData | None, pairs: PairedSubjects | None, options: dict[str, Any]
) -> AtlasMap:
    if method == "overlap":
        if not (isinstance(source, LabelVolume) and isinstance(target, LabelVolume)):
            lacking = " and ".join(f"{part.name!r}" for part in (source, target) if isinstance(part, Atlas))
            raise AtlasError(f"Expected label volumes of both atlases for the method 'overlap', found only centroids of {lacking}. Use 'geometry'.")
        return overlap_map(source, target, **options)
    if method == "geometry":
        return geometry_map(source, target, _mean_correlation(first), **options)
    if method == "transport":
        return transport_map(source, target, pairs, **options)
    assert pairs is not None
    if method == "joint":
        return joint_map(source, target, pairs, **options)
    return ridge_map(pairs, **options) if method == "ridge" else autoencoder_map(pairs, **options)


def _check_options(method: str, options: list[str]) -> None:
    known = [name for name, parameter in inspect.signature(METHODS[method]).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"Expected options of the method {method!r} ({', '.join(known) or 'it has none'}), found {unknown}.")


def _matched(parcellation: Parcellation, data: RegionData | None) -> Parcellation:
    return parcellation if data is None else parcellation_of(parcellation, data.atlas)


def _data(X: Any, parcellation: Parcellation) -> RegionData | None:
    """Region data of a cohort or of arrays in a parcellation; None where there are none."""
    if X is None:
        return None
    if isinstance(X, Cohort):
        return regions_in(X, parcellation)
    atlas = atlas_of(parcellation)
    arrays = [np.asarray(one, dtype=np.float32) for one in X]
    square = all(array.ndim == 2 and array.shape[0] == array.shape[1] for array in arrays)
    return RegionData(atlas, {str(place): array for place, array in enumerate(arrays)}, Provenance("correlation" if square else "timeseries"))


def _paired(first: RegionData | None, second: RegionData | None, source: Parcellation, target: Parcellation) -> PairedSubjects:
    for data, parcellation in ((first, source), (second, target)):
        if data is None:
            name = atlas_of(parcellation).name
            raise DataError(
                f"Expected training subjects with data in {name!r}, found none. Fit on a cohort that has both atlases, or use 'geometry'."
            )
    assert first is not None
    assert second is not None
    return paired_subjects(first, second)


def _mean_correlation(data: RegionData | None) -> npt.NDArray[np.float64] | None:
    """Mean correlation of the subjects at hand, where their data tell one."""
    if data is None or data.provenance.kind not in ("timeseries", "correlation") or not len(data):
        return None
    return mean_matrix(paired_subjects(data, data).source)
