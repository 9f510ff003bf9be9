"""Atlas maps applied: to time series, to matrices of every kind that can be converted, to the region data of a cohort."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from graphssl.atlases.map import AtlasMap, Floats
from graphssl.data.atlas import check_atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import RegionData, missing_regions
from graphssl.data.scans import LARGEST_CORRELATION
from graphssl.errors import AtlasError, DataError
from graphssl.progress import tracked

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConvertedMatrices:
    """Matrices in the target atlas.

    Args:
        values: Matrices `[n, R_t, R_t]`; NaN in rows and columns of regions that cannot be served.
        served: Which regions were served `[n, R_t]`.
        variance: Variance of each converted region before correlations were divided by its root `[n, R_t]`, in units of source variances: low
            where sources that hardly correlate were averaged; NaN for kinds without.
        smallest_eigenvalue: Of the served part of each matrix, where it is below zero by more than rounding `[n]`; else zero.
    """

    values: npt.NDArray[np.float32]
    served: Bools
    variance: npt.NDArray[np.float32]
    smallest_eigenvalue: npt.NDArray[np.float32]


def convert_series(atlas_map: AtlasMap, series: npt.ArrayLike, observed: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
    """A time series in the target atlas `[T, R_t]`; NaN columns where a region cannot be served.

    Args:
        atlas_map: The map.
        series: Time series `[T, R_s]`.
        observed: Which source regions have a signal `[R_s]`; those that vary and hold no NaN when left out.

    Raises:
        AtlasError: If the number of regions is not that of the source atlas.
    """
    values = np.asarray(series, dtype=np.float64)
    _check_width(atlas_map, values.shape, 2)
    seen = np.isfinite(values).all(axis=0) & (np.ptp(np.nan_to_num(values), axis=0) > 0) if observed is None else np.asarray(observed, dtype=bool)
    values = np.where(seen, np.nan_to_num(values), 0.0)
    if atlas_map.standardized:
        values = values - values.mean(axis=0)
        scale = values.std(axis=0)
        values = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
    weights, _, served = _for_observed(atlas_map, seen)
    converted: npt.NDArray[np.float32] = np.where(served, values @ weights.T, np.nan).astype(np.float32)
    return converted


def convert_matrices(
    atlas_map: AtlasMap,
    matrices: npt.ArrayLike,
    observed: npt.ArrayLike | None = None,
    *,
    kind: str = "correlation",
    fisher_z: bool = False,
    repair: bool = False,
    device: str = "cpu",
) -> ConvertedMatrices:
    """Connectivity matrices in the target atlas.

    Correlations become `W C Wᵀ + U`, divided by the roots of the diagonal, covariances `W C Wᵀ`, and counts of streamlines are handed out by the
    shares of the source regions' volumes, so that their sum over covered regions stays. Fisher z is undone before and done after.

    Args:
        atlas_map: The map.
        matrices: Matrices `[n, R_s, R_s]`.
        observed: Which source regions each subject has `[n, R_s]`; those whose row is not all NaN when left out.
        kind: `"correlation"`, `"covariance"`, `"streamline count"` or `"log streamline count"`.
        fisher_z: Whether correlations were transformed by arctanh.
        repair: Whether a matrix that is not positive semi-definite is replaced by the nearest that is (eigenvalues below zero set to zero, then the
            diagonal restored); without it such a matrix is only told of.
        device: Where to compute.

    Raises:
        AtlasError: If the number of regions is not that of the source atlas, or the map has no volumes for streamlines.
        DataError: If the kind cannot be converted.
    """
    values = np.asarray(matrices, dtype=np.float32)
    _check_width(atlas_map, values.shape, 3)
    _check_kind(atlas_map, kind)
    seen = _rows_with_values(values) if observed is None else np.asarray(observed, dtype=bool)
    n, size = len(values), len(atlas_map.target)
    found = ConvertedMatrices(
        np.full((n, size, size), np.nan, np.float32), np.zeros((n, size), bool), np.full((n, size), np.nan, np.float32), np.zeros(n, np.float32)
    )
    chunks = [(chunk, pattern) for rows, pattern in _by_pattern(seen) for chunk in np.array_split(rows, max(1, len(rows) * size * size // _CHUNK))]
    for chunk, pattern in tracked(chunks, "Converting matrices", n, size=lambda part: len(part[0])):
        whole = torch.from_numpy(values[chunk]).to(device)
        _convert_some(atlas_map, whole, pattern, chunk, found, kind, fisher_z, repair)
    return found


def convert_regions(
    atlas_map: AtlasMap, data: RegionData, *, repair: bool = False, device: str = "cpu"
) -> tuple[RegionData, list[tuple[str, str, str]]]:
    """Region data of a cohort in the target atlas, and what there is to say of single subjects, as rows `(what, id, reason)`.

    Args:
        atlas_map: The map.
        data: Time series or matrices in the source atlas.
        repair: As for `convert_matrices`.
        device: Where to compute.

    Raises:
        AtlasError: If the data are in another atlas.
        DataError: If the kind of matrix cannot be converted.
    """
    check_atlas(atlas_map.source, data.atlas)
    subjects = list(data.values)
    provenance = replace(
        data.provenance, pipeline=f"{data.provenance.pipeline} converted from {atlas_map.source.name} ({atlas_map.method})".strip(), diagonal=""
    )
    if data.provenance.kind == "timeseries":
        converted = {s: convert_series(atlas_map, data.values[s], data.observed[s]) for s in tracked(subjects, "Converting scans")}
        return RegionData(atlas_map.target, converted, provenance), []
    stacked = np.stack([data.values[s] for s in subjects]) if subjects else np.zeros((0, len(data.atlas), len(data.atlas)), np.float32)
    seen = np.stack([data.observed[s] for s in subjects]) if subjects else np.zeros((0, len(data.atlas)), bool)
    kind, fisher_z = data.provenance.kind, data.provenance.fisher_z
    matrices = convert_matrices(atlas_map, stacked, seen, kind=kind, fisher_z=fisher_z, repair=repair, device=device)
    notes = [
        ("matrix", subject, f"converted to {atlas_map.target.name} {_negative(low, repair)}")
        for subject, low in zip(subjects, matrices.smallest_eigenvalue.tolist(), strict=True)
        if low < 0
    ]
    return RegionData(atlas_map.target, dict(zip(subjects, matrices.values, strict=True)), provenance), notes


def convert_cohort(atlas_map: AtlasMap, cohort: Cohort, *, keep: bool = False, repair: bool = False, device: str = "cpu") -> Cohort:
    """A cohort whose data in the source atlas are in the target atlas; its list of what was left out tells which regions are missing in whom.

    Args:
        atlas_map: The map.
        cohort: A cohort with region data in the source atlas.
        keep: Whether the data in the source atlas stay beside the converted ones.
        repair: As for `convert_matrices`.
        device: Where to compute.

    Raises:
        AtlasError: If the cohort has no data in the source atlas, or some in the target atlas already.
        DataError: If the kind of matrix cannot be converted.
    """
    found = [name for name, data in cohort.regions.items() if data.atlas.hash == atlas_map.source.hash]
    if not found:
        held = ", ".join(f"{name} ({len(data.atlas)} regions, hash {data.atlas.hash})" for name, data in cohort.regions.items()) or "none"
        raise AtlasError(
            f"Expected {cohort.name!r} to hold data in {atlas_map.source.name!r} ({len(atlas_map.source)} regions, hash {atlas_map.source.hash}), "
            f"found {held}. Give the map of the atlas the data are in."
        )
    name = found[0]
    if atlas_map.target.name in set(cohort.regions) - ({name} if not keep else set()):
        raise AtlasError(f"Expected no data in {atlas_map.target.name!r} yet in {cohort.name!r}, found some. Name the target atlas otherwise.")
    converted, notes = convert_regions(atlas_map, cohort.regions[name], repair=repair, device=device)
    others = {other: data for other, data in cohort.regions.items() if keep or other != name}
    told = pd.DataFrame([*notes, *missing_regions(converted, cohort.ids)], columns=cohort.excluded.columns)
    return replace(cohort, regions={**others, atlas_map.target.name: converted}, excluded=pd.concat([cohort.excluded, told], ignore_index=True))


# Elements of converted matrices worked on at once; with more, each step walks through memory anew and half as much time again is spent.
_CHUNK = 8_000_000
_COUNTS = ("streamline count", "log streamline count")
_INVERTED = ("partial correlation", "precision", "tangent")
# Eigenvalues of matrices in single precision are off by this much.
_ROUNDING = 1e-3


def _check_width(atlas_map: AtlasMap, shape: tuple[int, ...], n_axes: int) -> None:
    n = len(atlas_map.source)
    if len(shape) != n_axes or shape[-1] != n or (n_axes == 3 and shape[1] != n):
        wanted = f"[T, {n}]" if n_axes == 2 else f"[n, {n}, {n}]"
        raise AtlasError(f"Expected an array {wanted} for the regions of atlas {atlas_map.source.name!r}, found {list(shape)}.")


def _check_kind(atlas_map: AtlasMap, kind: str) -> None:
    if kind in _INVERTED:
        raise DataError(
            f"Expected matrices that regions' means keep (correlation, covariance, streamline counts), found {kind}: it belongs to its regions. "
            "Convert the time series or correlations, and compute it from them."
        )
    if kind in _COUNTS and atlas_map.shares is None:
        raise AtlasError(
            f"Expected a map made of label volumes for {kind} matrices, found one made by {atlas_map.method}: "
            "counts are handed out by the shares of volumes. Use the method 'overlap'."
        )
    if kind == "covariance" and atlas_map.standardized:
        raise DataError(
            f"Expected correlations for a map of standardised series ({atlas_map.method}), found covariances: it knows no scale. "
            "Give correlations, or use the method 'overlap'."
        )
    if kind not in ("correlation", "covariance", *_COUNTS):
        raise DataError(f"Expected correlation, covariance or streamline count matrices, found {kind}: what a region's mean of it is, is not known.")


def _rows_with_values(values: npt.NDArray[np.float32]) -> Bools:
    off = ~np.eye(values.shape[1], dtype=bool)
    return np.asarray((np.isfinite(values) & off).any(axis=2))


def _by_pattern(observed: Bools) -> Iterator[tuple[npt.NDArray[np.int64], Bools]]:
    """Rows that lack the same regions, and which they have."""
    if not len(observed):
        return
    patterns, owner = np.unique(observed, axis=0, return_inverse=True)
    for place, pattern in enumerate(patterns):
        yield np.flatnonzero(owner.reshape(-1) == place), pattern


def _for_observed(atlas_map: AtlasMap, observed: Bools) -> tuple[Floats, Floats | None, Bools]:
    """Weights of a subject's observed regions, what they leave unexplained, and the regions served."""
    weights, unexplained = atlas_map.weights, atlas_map.unexplained
    if observed.all():
        return weights, unexplained, atlas_map.served
    if not observed.any():
        return np.zeros_like(weights), unexplained, np.zeros(len(weights), dtype=bool)
    if atlas_map.source_covariance is None:
        before, after = np.abs(weights).sum(axis=1), np.abs(weights * observed).sum(axis=1)
        return weights * observed * np.divide(before, after, out=np.zeros_like(after), where=after > 0)[:, None], unexplained, after > 0
    covariance, lost = atlas_map.source_covariance, ~observed
    seen = covariance[np.ix_(observed, observed)] + _RIDGE * np.eye(int(observed.sum()))
    predict = np.linalg.solve(seen, covariance[np.ix_(observed, lost)]).T
    filled = np.zeros_like(weights)
    filled[:, observed] = weights[:, observed] + weights[:, lost] @ predict
    rest = covariance[np.ix_(lost, lost)] - predict @ covariance[np.ix_(observed, lost)]
    return filled, weights[:, lost] @ rest @ weights[:, lost].T + (0.0 if unexplained is None else unexplained), atlas_map.served


_RIDGE = 1e-3


def _convert_some(
    atlas_map: AtlasMap,
    values: Tensor,
    observed: Bools,
    rows: npt.NDArray[np.int64],
    found: ConvertedMatrices,
    kind: str,
    fisher_z: bool,
    repair: bool,
) -> None:
    weights, unexplained, served = _for_observed(atlas_map, observed)
    found.served[rows] = served
    if kind in _COUNTS:
        assert atlas_map.shares is not None
        counts = torch.expm1(values) if kind == "log streamline count" else values
        result = _sandwich(_tensor(atlas_map.shares, values), _cleaned(counts, observed, diagonal=None))
        result.diagonal(dim1=1, dim2=2).zero_()
        result = torch.log1p(result) if kind == "log streamline count" else result
    else:
        correlation = kind == "correlation"
        cleaned = _cleaned(torch.tanh(values) if fisher_z else values, observed, diagonal=1.0 if correlation else None)
        result = _sandwich(_tensor(weights, values), cleaned)
        if correlation:
            result = _as_correlation(atlas_map, result, cleaned, unexplained, observed, rows, found)
        result = _told_or_repaired(atlas_map, result, cleaned, served, rows, found, repair, correlation)
        if fisher_z:
            result = torch.atanh(result.clamp(-LARGEST_CORRELATION, LARGEST_CORRELATION))
    found.values[rows] = result.cpu().numpy()
    if not served.all():
        block = found.values[rows]
        block[:, ~served] = np.nan
        block[:, :, ~served] = np.nan
        found.values[rows] = block


def _tensor(array: npt.NDArray[Any], like: Tensor) -> Tensor:
    return torch.as_tensor(array, dtype=like.dtype, device=like.device)


def _cleaned(values: Tensor, observed: Bools, diagonal: float | None) -> Tensor:
    """Zero where a region is missing; the diagonal as it is, or one where the region is observed."""
    seen = torch.as_tensor(observed, device=values.device)
    cleaned = values.clone() if observed.all() else torch.where(seen[:, None] & seen, values, 0.0)
    if diagonal is not None:
        cleaned.diagonal(dim1=1, dim2=2).copy_(diagonal * seen)
    return cleaned


def _sandwich(weights: Tensor, values: Tensor) -> Tensor:
    """`W C Wᵀ` for every matrix, the first product as one of all rows."""
    half = (values.reshape(-1, values.shape[2]) @ weights.T).reshape(*values.shape[:2], len(weights))
    return weights @ half


def _as_correlation(
    atlas_map: AtlasMap,
    result: Tensor,
    cleaned: Tensor,
    unexplained: Floats | None,
    observed: Bools,
    rows: npt.NDArray[np.int64],
    found: ConvertedMatrices,
) -> Tensor:
    if unexplained is not None:
        result += _tensor(unexplained, result)
    variance = result.diagonal(dim1=1, dim2=2).clone()
    found.variance[rows] = variance.cpu().numpy()
    scale = torch.where(variance > _SMALLEST_VARIANCE, variance, 1.0).rsqrt()
    result *= scale[:, :, None]
    result *= scale[:, None, :]
    if atlas_map.correction is not None:
        seen = torch.as_tensor(observed, device=result.device)
        mean, patterns, edges = (
            _tensor(part, result) for part in (atlas_map.correction.mean, atlas_map.correction.patterns, atlas_map.correction.edges)
        )
        moved = torch.where(seen[:, None] & seen, cleaned - mean, 0.0)
        result += ((moved.flatten(1) @ patterns.flatten(1).T) @ edges.flatten(1)).view_as(result)
    result.clamp_(-1.0, 1.0).diagonal(dim1=1, dim2=2).fill_(1.0)
    return result


_SMALLEST_VARIANCE = 1e-8


def _told_or_repaired(
    atlas_map: AtlasMap,
    result: Tensor,
    source: Tensor,
    served: Bools,
    rows: npt.NDArray[np.int64],
    found: ConvertedMatrices,
    repair: bool,
    correlation: bool,
) -> Tensor:
    """Look for matrices that are not positive semi-definite, and repair them where asked to."""
    keep = torch.as_tensor(np.flatnonzero(served), device=result.device)
    # W C Wᵀ + U is positive semi-definite where C is, so that the smaller matrix is looked at, unless a correction was added.
    doubtful = _not_definite(source) if atlas_map.correction is None else _not_definite(result[:, keep][:, :, keep])
    for place in doubtful:
        block = result[place][keep][:, keep]
        values, vectors = torch.linalg.eigh(block.double())
        if float(values[0]) >= -_ROUNDING * float(block.diagonal().mean()):
            continue
        found.smallest_eigenvalue[rows[place]] = float(values[0])
        if repair:
            mended = (vectors * values.clamp(min=0.0)) @ vectors.T
            if correlation:
                root = mended.diagonal().clamp(min=_SMALLEST_VARIANCE).rsqrt()
                mended = mended * root[:, None] * root
            result[place][keep[:, None], keep] = mended.to(result.dtype)
    return result


def _not_definite(matrices: Tensor) -> list[int]:
    """Which matrices `[n, R, R]` have an eigenvalue below zero by more than rounding."""
    lifted = matrices.clone()
    diagonal = lifted.diagonal(dim1=1, dim2=2)
    diagonal += _ROUNDING * diagonal.mean(dim=1, keepdim=True).clamp(min=_SMALLEST_VARIANCE)
    return [int(place) for place in torch.linalg.cholesky_ex(lifted).info.nonzero().flatten()]


def _negative(lowest: float, repair: bool) -> str:
    what = f"is not positive semi-definite (smallest eigenvalue {lowest:.3g})"
    return f"{what}; repaired" if repair else f"{what}; left as it is, repair=True gives the nearest that is"
