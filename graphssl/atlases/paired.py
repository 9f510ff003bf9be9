"""Subjects whose data are in both atlases: what maps are learned from, and what their error is measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from graphssl.atlases.apply import convert_matrices
from graphssl.atlases.map import AtlasMap, Floats
from graphssl.data.atlas import Atlas
from graphssl.data.regions import RegionData
from graphssl.errors import DataError

Matrices = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PairedSubjects:
    """Correlations of subjects within and between two atlases; NaN where a region is missing in a subject.

    Args:
        source_atlas: Regions of the source.
        target_atlas: Regions of the target.
        subjects: Their ids `[n]`.
        source: Correlations of source regions `[n, R_s, R_s]`.
        target: Correlations of target regions `[n, R_t, R_t]`.
        cross: Correlations between the two `[n, R_s, R_t]`; None where only matrices are at hand.
        note: What was done to bring series to one length, for the record.
    """

    source_atlas: Atlas
    target_atlas: Atlas
    subjects: tuple[str, ...]
    source: Matrices
    target: Matrices
    cross: Matrices | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.subjects)

    def select(self, rows: npt.NDArray[np.integer]) -> "PairedSubjects":
        """The subjects at the given places."""
        cross = None if self.cross is None else self.cross[rows]
        return replace(self, subjects=tuple(self.subjects[row] for row in rows), source=self.source[rows], target=self.target[rows], cross=cross)


def paired_subjects(source: RegionData, target: RegionData, subjects: Sequence[str] | None = None) -> PairedSubjects:
    """Subjects with data in both atlases.

    Time series of one scan are paired time point by time point. Where one lacks volumes (some pipelines drop the first), the ends are aligned and
    what is longer is cut at its start.

    Args:
        source: Time series or correlation matrices in the source atlas.
        target: The same kind in the target atlas.
        subjects: Whom to take; all that have both when left out.

    Raises:
        DataError: If nobody has both, the kinds differ or are neither series nor correlations, or two series differ in length by more than a tenth.
    """
    chosen = [s for s in (source.values if subjects is None else subjects) if s in source.values and s in target.values]
    if not chosen:
        raise DataError(
            f"Expected subjects with data in both {source.atlas.name!r} and {target.atlas.name!r}, found none. "
            "A map that needs none is made with the method 'geometry' or 'overlap'."
        )
    kinds = (source.provenance.kind, target.provenance.kind)
    if kinds[0] != kinds[1] or kinds[0] not in ("timeseries", "correlation"):
        raise DataError(f"Expected time series in both atlases, or correlations in both; found {kinds[0]} and {kinds[1]}. Bring them to one kind.")
    if kinds[0] == "correlation":
        return PairedSubjects(source.atlas, target.atlas, tuple(chosen), _matrices(source, chosen), _matrices(target, chosen))
    n_source, n_target = len(source.atlas), len(target.atlas)
    joint = np.empty((len(chosen), n_source + n_target, n_source + n_target), dtype=np.float32)
    n_cut = 0
    for row, subject in enumerate(chosen):
        first, second = source.values[subject], target.values[subject]
        length = common_length(len(first), len(second), subject)
        n_cut += len(first) != len(second)
        both = np.concatenate([first[len(first) - length :], second[len(second) - length :]], axis=1)
        joint[row] = _correlation(both, np.concatenate([source.observed[subject], target.observed[subject]]))
    note = f"series of {n_cut} subjects aligned at their ends" if n_cut else ""
    parts = joint[:, :n_source, :n_source], joint[:, n_source:, n_source:], joint[:, :n_source, n_source:]
    return PairedSubjects(source.atlas, target.atlas, tuple(chosen), *parts, note=note)


def common_length(first: int, second: int, subject: str) -> int:
    """Length to which two series of one scan are cut, at their start.

    Raises:
        DataError: If they differ by more than a tenth, and so are of two scans.
    """
    shorter, longer = min(first, second), max(first, second)
    if longer - shorter > _LARGEST_DIFFERENCE * longer:
        raise DataError(
            f"Expected time series of one scan of subject {subject!r} in both atlases, found {first} and {second} time points. "
            "Give the same scan, or correlation matrices."
        )
    return shorter


def mean_matrix(matrices: Matrices) -> Floats:
    """Mean over subjects, each entry over those who have it `[R, R]`; zero (one on the diagonal) where nobody has."""
    n = np.isfinite(matrices).sum(axis=0)
    total = np.nansum(matrices, axis=0, dtype=np.float64)
    mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
    if mean.shape[0] == mean.shape[1]:
        np.fill_diagonal(mean, np.where(np.diag(n) > 0, np.diag(mean), 1.0))
    return mean


def held_out_error(fit: Callable[[PairedSubjects], AtlasMap], pairs: PairedSubjects, expected: AtlasMap, *, n_folds: int = 5) -> AtlasMap:
    """The map with its expected error measured on subjects it was not fitted on.

    Folds go over subjects in their order. With few subjects the measured square is mixed with that expected before, which counts as ten subjects.

    Args:
        fit: Fits a map on some subjects.
        pairs: The subjects the map was fitted on.
        expected: The map fitted on all, with the error expected without subjects.
        n_folds: Number of folds.
    """
    if len(pairs) < 2 * n_folds:
        return expected
    total, n = np.zeros(expected.weights.shape[:1] * 2), np.zeros(expected.weights.shape[:1] * 2)
    for test in np.array_split(np.arange(len(pairs)), n_folds):
        fitted = fit(pairs.select(np.setdiff1d(np.arange(len(pairs)), test)))
        part = pairs.select(test)
        difference = convert_matrices(fitted, part.source).values - part.target
        total += np.nansum(difference.astype(np.float64) ** 2, axis=0)
        n += np.isfinite(difference).sum(axis=0)
    before = np.zeros_like(total) if expected.edge_error is None else expected.edge_error**2
    weight = 0.0 if expected.edge_error is None else _PRIOR_SUBJECTS
    error = np.sqrt((total + weight * before) / np.maximum(n + weight, 1.0))
    np.fill_diagonal(error, 0.0)
    return replace(expected, edge_error=error, record={**expected.record, "error": f"held-out subjects, {len(pairs)} in {n_folds} folds"})


_PRIOR_SUBJECTS = 10.0
_LARGEST_DIFFERENCE = 0.1


def _correlation(series: npt.NDArray[np.float32], observed: npt.NDArray[np.bool_]) -> Matrices:
    """Correlation with NaN where a region is missing `[R, R]`."""
    values = np.where(observed, np.nan_to_num(series), 0.0)
    values = values - values.mean(axis=0)
    norm = np.sqrt((values**2).sum(axis=0))
    seen = observed & (norm > 0)
    values = values / np.where(seen, norm, 1.0)
    found: Matrices = np.where(np.outer(seen, seen), values.T @ values, np.nan).astype(np.float32)
    return found


def _matrices(data: RegionData, subjects: Sequence[str]) -> Matrices:
    stacked = np.stack([data.values[subject] for subject in subjects]).astype(np.float32)
    stacked = np.tanh(stacked) if data.provenance.fisher_z else stacked
    seen = np.stack([data.observed[subject] for subject in subjects])
    stacked[~(seen[:, :, None] & seen[:, None, :])] = np.nan
    places = np.arange(stacked.shape[1])
    stacked[:, places, places] = np.where(seen, 1.0, np.nan)
    return stacked
