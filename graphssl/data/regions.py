"""Region data of a cohort in one atlas: a time series or a matrix a subject, with where they came from."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from graphssl.data.atlas import Atlas
from graphssl.errors import AtlasError, DataError

Array = npt.NDArray[np.float32]

# nilearn's words for kinds of connectivity: what can be computed from time series.
ConnectivityKind = Literal["correlation", "partial correlation", "tangent", "covariance", "precision"]
# What tractography or other tools write, and no time series gives: counts, log(1 + count), and the weights of any other graph.
StructuralKind = Literal["streamline count", "log streamline count", "adjacency"]
MatrixKind = Literal[ConnectivityKind, StructuralKind]
ValueKind = Literal["timeseries", MatrixKind]

_CORRELATIONS = ("correlation", "partial correlation")
STRUCTURAL_KINDS: tuple[str, ...] = get_args(StructuralKind)
# Their diagonal says nothing, so that tools write what they like there: one, zero, NaN, the infinity of a Fisher z, a region's own fibres.
HOLLOW_KINDS: tuple[str, ...] = (*_CORRELATIONS, *STRUCTURAL_KINDS)
VALUE_KINDS: tuple[str, ...] = get_args(ValueKind)
_COUNTS = ("streamline count", "log streamline count")
_MIN_TIME_POINTS = 10
_SYMMETRY_TOLERANCE = 1e-3
_RANGE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Provenance:
    """How the values were made; it travels with them into graphs and checkpoints.

    Args:
        kind: `"timeseries"`, or the kind of matrix: nilearn's words, or `"streamline count"`, `"log streamline count"` (log(1 + count)) and
            `"adjacency"` (edges of any other graph) for what no time series gives.
        fisher_z: Whether correlations were transformed by arctanh.
        pipeline: The processing, such as `"cpac filt_global"`, with its version where the source tells it.
        source: Where the values came from, such as the adapter's name.
        diagonal: What stands on the diagonal of the matrices as read: `"one"`, `"zero"`, `"nan"`, `"infinite"`, `"values"`, or several.
        n_timepoints: Fewest and most time points of a scan, where known.
    """

    kind: ValueKind
    fisher_z: bool = False
    pipeline: str = ""
    source: str = ""
    # Both follow from the values and stay out of a cohort's hash.
    diagonal: str = field(default="", repr=False)
    n_timepoints: tuple[int, int] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.n_timepoints is not None:
            fewest, most = self.n_timepoints  # JSON gives a list
            object.__setattr__(self, "n_timepoints", (int(fewest), int(most)))
        if self.kind not in VALUE_KINDS:
            raise DataError(f"Expected the kind of region data to be one of {', '.join(VALUE_KINDS)}; found {self.kind!r}.")

    def joined(self, other: "Provenance") -> "Provenance":
        """Of values of both, which are of one kind."""
        lengths = [length for one in (self, other) for length in one.n_timepoints or ()]
        return replace(
            self,
            pipeline=_both(self.pipeline, other.pipeline, " + "),
            diagonal=_both(self.diagonal, other.diagonal, ", "),
            n_timepoints=(min(lengths), max(lengths)) if lengths else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class RegionData:
    """Time series `[T, R]` or matrices `[R, R]` of subjects, by subject id, in the order of the atlas' labels.

    A region that is constant or wholly NaN in a subject counts as not observed there; it is masked later, never read as zero.
    NaN anywhere else is an error.

    Args:
        atlas: The regions, in the order of the columns.
        values: Array by subject id; subjects without data in this atlas are simply absent.
        provenance: How the values were made.
        observed: Which regions have a signal `[R]`, by subject id; worked out from the values when left out.

    Raises:
        AtlasError: If an array has another number of regions than the atlas.
        DataError: If an array is not `[T, R]` or `[R, R]`, has scattered NaN, is not symmetric, or holds Fisher z declared as correlation,
            or negative numbers declared as counts.
    """

    atlas: Atlas
    values: Mapping[str, Array]
    provenance: Provenance
    observed: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.observed and self.observed.keys() >= self.values.keys():
            if any(np.asarray(array).dtype != np.float32 for array in self.values.values()):
                object.__setattr__(self, "values", {subject: np.asarray(array, dtype=np.float32) for subject, array in self.values.items()})
            return
        check = _check_series if self.provenance.kind == "timeseries" else _check_matrix
        values, observed = {}, {}
        for subject, array in self.values.items():
            values[subject] = np.asarray(array, dtype=np.float32)
            _check_regions(values[subject], subject, self.atlas)
            observed[subject] = check(values[subject], subject, self)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "observed", observed)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        missing = sum(int((~seen).sum()) for seen in self.observed.values())
        z = ", Fisher z" if self.provenance.fisher_z else ""
        size = f"{len(self)} subjects × {len(self.atlas)} regions of {self.atlas.name}"
        return f"RegionData({size}, {self.provenance.kind}{z}, {missing} regions without signal)"

    def select(self, subjects: Iterable[str]) -> "RegionData":
        """Data of the given subjects, as far as they have any."""
        chosen = [subject for subject in subjects if subject in self.values]
        return RegionData(self.atlas, {s: self.values[s] for s in chosen}, self.provenance, {s: self.observed[s] for s in chosen})

    def union(self, other: "RegionData") -> "RegionData":
        """Data of both, where atlas and provenance fit.

        Raises:
            AtlasError: If the atlases differ.
            DataError: If the kind differs, or r would be mixed with z.
        """
        if self.atlas.hash != other.atlas.hash:
            raise AtlasError(
                f"Expected atlas {self.atlas.name!r} with hash {self.atlas.hash} on both sides, found {other.atlas.hash}: "
                "the same name stands for other labels. Rename one of the atlases, or convert the data."
            )
        for what in ("kind", "fisher_z"):
            mine, theirs = getattr(self.provenance, what), getattr(other.provenance, what)
            if mine != theirs:
                raise DataError(f"Expected the same {what} in both cohorts for atlas {self.atlas.name!r}, found {mine} and {theirs}.")
        provenance = self.provenance.joined(other.provenance)
        return RegionData(self.atlas, {**self.values, **other.values}, provenance, {**self.observed, **other.observed})


def missing_regions(data: RegionData, subjects: Collection[str]) -> list[tuple[str, str, str]]:
    """What is not observed, as rows `(what, id, reason)` for a cohort's list of things left out."""
    rows = []
    for subject in subjects:
        if subject in data.observed and not data.observed[subject].all():
            labels = data.atlas.labels[~data.observed[subject]].tolist()
            shown = ", ".join(map(str, labels[:8])) + (" …" if len(labels) > 8 else "")
            rows.append(("region", subject, f"{len(labels)} of {len(data.atlas)} regions of {data.atlas.name} without signal: {shown}"))
    return rows


def _both(mine: str, theirs: str, mark: str) -> str:
    return mine if mine == theirs else f"{mine}{mark}{theirs}"


def _check_regions(array: Array, subject: str, atlas: Atlas) -> None:
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"Expected a two-dimensional array for subject {subject!r}, found shape {array.shape}.")
    if array.shape[1] != len(atlas):
        raise AtlasError(
            f"Expected {len(atlas)} regions of atlas {atlas.name!r} for subject {subject!r}, found {array.shape[1]}. "
            "Give the atlas the data were made with; every subject needs the same regions."
        )


def _check_series(series: Array, subject: str, data: RegionData) -> npt.NDArray[np.bool_]:
    if len(series) < _MIN_TIME_POINTS:
        raise DataError(f"Expected at least {_MIN_TIME_POINTS} time points for subject {subject!r}, found {len(series)}.")
    nan = ~np.isfinite(series)
    absent = nan.all(axis=0)
    if (nan.any(axis=0) & ~absent).any():
        where = data.atlas.labels[nan.any(axis=0) & ~absent].tolist()
        raise DataError(
            f"Expected finite time series for subject {subject!r}, found NaN or infinite time points in region labels {where[:5]}. "
            "Censor or interpolate those time points before loading."
        )
    filled = np.where(absent, 0.0, series)
    return np.ptp(filled, axis=0) > 0


def _check_matrix(matrix: Array, subject: str, data: RegionData) -> npt.NDArray[np.bool_]:
    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"Expected a square matrix for subject {subject!r}, found shape {matrix.shape}.")
    off = ~np.eye(len(matrix), dtype=bool)
    nan = ~np.isfinite(matrix) & off
    absent = (nan | ~off).all(axis=0)
    seen: npt.NDArray[np.bool_] = ~absent & (np.where(off & ~nan, matrix, 0.0) != 0).any(axis=0)
    inside = np.ix_(~absent, ~absent)
    if nan[inside].any():
        raise DataError(
            f"Expected finite connections for subject {subject!r}, found {int(nan[inside].sum())} NaN or infinite ones outside of empty rows. "
            "A region without signal is a whole row and column of NaN; scattered NaN cannot be masked."
        )
    bad_diagonal = seen & ~np.isfinite(matrix.diagonal())
    if bad_diagonal.any() and data.provenance.kind not in HOLLOW_KINDS:
        raise DataError(
            f"Expected finite variances on the diagonal for subject {subject!r}, found NaN or infinite ones in region labels "
            f"{data.atlas.labels[bad_diagonal].tolist()[:5]}. The diagonal of a {data.provenance.kind} matrix is data: write it too."
        )
    values = np.where(off, np.nan_to_num(matrix), 0.0)
    gap = float(np.abs(values - values.T).max())
    if gap > _SYMMETRY_TOLERANCE * max(1.0, float(np.abs(values).max())):
        raise DataError(
            f"Expected a symmetric matrix for subject {subject!r}, found entries that differ from their mirror by up to {gap:.3g}. "
            "Symmetrise it first if it holds one triangle; directed matrices are not connectomes of this kind."
        )
    correlation = data.provenance.kind in _CORRELATIONS and not data.provenance.fisher_z
    if correlation and np.abs(values).max() > 1 + _RANGE_TOLERANCE:
        raise DataError(
            f"Expected correlations within [-1, 1] for subject {subject!r}, found {float(np.abs(values).max()):.3g}. "
            "If the values are Fisher z, say so with fisher_z=True; other kinds have names of their own (covariance, precision)."
        )
    if data.provenance.kind in _COUNTS and values.min() < 0:
        raise DataError(
            f"Expected streamline counts of zero or more for subject {subject!r}, found {float(values.min()):.3g}. "
            "Give the kind that the matrices are of, such as adjacency for other weights."
        )
    return seen
