"""A map from one atlas to another: what stands between `AtlasConverter` and the numbers, and can be saved, shared and chained."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.data.atlas import Atlas, check_atlas
from graphssl.errors import AtlasError, CheckpointError
from graphssl.folders import file_written_whole

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Correction:
    """How a converted matrix moves with the subject's own: a linear function of a few patterns of source connectivity.

    Args:
        mean: Mean source correlation of the training subjects `[R_s, R_s]`.
        patterns: Patterns of deviation from it, each of unit norm over the regions' pairs `[K, R_s, R_s]`.
        edges: What one unit of each pattern adds to the target matrix `[K, R_t, R_t]`.
    """

    mean: Floats
    patterns: Floats
    edges: Floats


@dataclass(frozen=True, eq=False)
class AtlasMap:
    """Target regions as weighted sums of source regions, with what that leaves unexplained.

    A time series is converted as `x_t = W x_s`. A correlation matrix is converted as `W C Wᵀ + U`, divided by the roots of its diagonal: the variance
    of a mean of correlated regions depends on how they correlate, and `U` is what of the target regions the source regions do not tell.

    Args:
        source: Regions of the data.
        target: Regions of the result.
        weights: Weights `W` `[R_t, R_s]`; a row of zeros is a region that cannot be served.
        method: How the weights were found.
        coverage: Share of each target region's volume that source regions cover `[R_t]`, 0 to 1; NaN where no volumes were given.
        unexplained: Covariance `U` of what the map does not tell, in units of the target regions' variances `[R_t, R_t]`; None for none.
        source_covariance: Correlation of source regions in the population `[R_s, R_s]`: a region that a subject lacks is predicted from the others.
            None where none is known: then its weight goes to the observed ones.
        standardized: Whether weights are meant for z-scored series (whatever is learned from subjects is) or for series in their own units.
        correction: What converted matrices take from the subject's own connectivity beyond the weights.
        shares: Share of each source region's volume that lies in each target region `[R_t, R_s]`, for counts of streamlines; None without volumes.
        edge_error: Expected root mean square error of a converted correlation `[R_t, R_t]`; None where nothing is known of it.
        record: How it was made, as plain values: subjects, hashes, penalties, where the expected error comes from.

    Raises:
        AtlasError: If shapes do not fit the two atlases, or a number is not finite.
    """

    source: Atlas
    target: Atlas
    weights: Floats
    method: str
    coverage: Floats
    unexplained: Floats | None = None
    source_covariance: Floats | None = None
    standardized: bool = False
    correction: Correction | None = None
    shares: Floats | None = None
    edge_error: Floats | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_source, n_target = len(self.source), len(self.target)
        shapes = {
            "weights": (n_target, n_source),
            "coverage": (n_target,),
            "unexplained": (n_target, n_target),
            "source_covariance": (n_source, n_source),
            "shares": (n_target, n_source),
            "edge_error": (n_target, n_target),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is not None:
                object.__setattr__(self, name, _checked(name, array, shape, self))

    def __repr__(self) -> str:
        lost = int((~self.served).sum())
        unserved = f", {lost} regions not served" if lost else ""
        return f"AtlasMap({self.source.name!r} → {self.target.name!r}, {self.method}, {len(self.source)} → {len(self.target)} regions{unserved})"

    @cached_property
    def served(self) -> npt.NDArray[np.bool_]:
        """Which target regions have any weight `[R_t]`."""
        return np.asarray((self.weights != 0).any(axis=1))

    @property
    def region_error(self) -> Floats:
        """Expected root mean square error of the connections of each target region `[R_t]`; NaN where nothing is known of it."""
        if self.edge_error is None:
            return np.full(len(self.target), np.nan)
        inside = np.outer(self.served, self.served) & ~np.eye(len(self.target), dtype=bool)
        n_edges = inside.sum(axis=1)
        sums = np.where(inside, self.edge_error**2, 0.0).sum(axis=1)
        return np.where(n_edges > 0, np.sqrt(sums / np.maximum(n_edges, 1)), np.nan)

    def then(self, second: "AtlasMap") -> "AtlasMap":
        """The map through an atlas between: the product of the weights, with what either leaves unexplained.

        Corrections and expected errors do not chain and are left out.

        Raises:
            AtlasError: If the second map does not start where this one ends.
        """
        check_atlas(self.target, second.source)
        unexplained = None
        if self.unexplained is not None or second.unexplained is not None:
            unexplained = np.zeros((len(second.target),) * 2)
            if self.unexplained is not None:
                unexplained += second.weights @ self.unexplained @ second.weights.T
            if second.unexplained is not None:
                unexplained += second.unexplained
        return AtlasMap(
            self.source,
            second.target,
            second.weights @ self.weights,
            f"{self.method}, then {second.method}",
            _chained_coverage(self, second),
            unexplained=unexplained,
            source_covariance=self.source_covariance,
            standardized=self.standardized,
            shares=None if self.shares is None or second.shares is None else second.shares @ self.shares,
            record={"through": self.target.name, "first": dict(self.record), "second": dict(second.record)},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the map to one file of the safetensors format, whole or not at all; no pickle.

        Args:
            path: The file; `.safetensors` is added where the name has another ending.
        """
        from safetensors.numpy import save_file

        target = Path(path)
        target = target if target.suffix == _SUFFIX else target.with_name(target.name + _SUFFIX)
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        if self.correction is not None:
            arrays |= {f"correction.{part.name}": getattr(self.correction, part.name) for part in fields(Correction)}
        record = {
            "source": self.source.to_dict(),
            "target": self.target.to_dict(),
            "method": self.method,
            "standardized": self.standardized,
            "record": dict(self.record),
        }
        stored: dict[str, npt.NDArray[Any]] = {name: np.ascontiguousarray(array, dtype=_stored_type(name)) for name, array in arrays.items()}
        with file_written_whole(target) as aside:
            save_file(stored, aside, metadata={_KEY: json.dumps(record)})
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "AtlasMap":
        """Read a map that was saved.

        Raises:
            CheckpointError: If the file is absent, truncated or no atlas map.
        """
        from safetensors import SafetensorError, safe_open

        source = Path(path)
        if not source.is_file():
            raise CheckpointError(
                f"Expected an atlas map at {source}, found no file. Write one with AtlasMap.save or graphssl convert-atlas --save_map."
            )
        try:
            with safe_open(source, framework="numpy") as file:
                record = json.loads((file.metadata() or {})[_KEY])
                arrays = {name: np.asarray(file.get_tensor(name), dtype=np.float64) for name in file.keys()}  # noqa: SIM118
            parts = {name.partition(".")[2]: arrays.pop(name) for name in [name for name in arrays if name.startswith("correction.")]}
            return cls(
                Atlas.from_dict(record["source"]),
                Atlas.from_dict(record["target"]),
                method=record["method"],
                standardized=record["standardized"],
                correction=Correction(**parts) if parts else None,
                record=record["record"],
                **arrays,
            )
        except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
            raise CheckpointError(f"Expected an atlas map in {source}, found a truncated file or another one ({error}). Save it again.") from error


def identity_map(atlas: Atlas) -> AtlasMap:
    """The map of an atlas to itself, which changes nothing."""
    n = len(atlas)
    return AtlasMap(atlas, atlas, np.eye(n), "identity", np.ones(n), shares=np.eye(n), edge_error=np.zeros((n, n)))


_SUFFIX = ".safetensors"
_KEY = "graphssl.atlas_map"
_ARRAYS = ("weights", "coverage", "unexplained", "source_covariance", "shares", "edge_error")


def _stored_type(name: str) -> type:
    """Single precision for the large parts that are only ever added up."""
    return np.float32 if name in ("correction.patterns", "correction.edges", "edge_error") else np.float64


def _checked(name: str, array: npt.ArrayLike, shape: tuple[int, ...], owner: AtlasMap) -> Floats:
    found = np.asarray(array, dtype=np.float64)
    if found.shape != shape:
        raise AtlasError(
            f"Expected {name} of the shape {shape} for a map from {owner.source.name!r} to {owner.target.name!r}, found {found.shape}. "
            "Rows and columns stand in the order of the atlases' labels."
        )
    if not np.isfinite(found).all() and name != "coverage":
        raise AtlasError(f"Expected finite {name} in the map from {owner.source.name!r} to {owner.target.name!r}, found NaN or infinite ones.")
    return found


def _chained_coverage(first: AtlasMap, second: AtlasMap) -> Floats:
    """Share of the last regions that is covered through regions that are covered themselves."""
    size = np.abs(second.weights).sum(axis=1)
    held = np.abs(second.weights) @ np.where(np.isnan(first.coverage), 1.0, first.coverage)
    return second.coverage * np.divide(held, size, out=np.zeros_like(held), where=size > 0)
