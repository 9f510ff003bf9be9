"""What there is to report of a conversion: coverage, expected error and sources of each region, and how alike data are there and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.atlases import AtlasMap, convert_regions, load_atlas, nearest_network
from graphssl.atlases.paired import paired_subjects
from graphssl.data.atlas import Atlas
from graphssl.data.regions import RegionData
from graphssl.errors import AtlasError, DataError
from graphssl.reports import ConversionReport, RoundTrip


def describe_conversion(
    atlas_map: AtlasMap, data: RegionData, *, back: AtlasMap, method: str = "", volumes: str = "", remarks: Sequence[tuple[str, str]] = ()
) -> ConversionReport:
    """A conversion as it is reported.

    Args:
        atlas_map: The map.
        data: What was converted.
        back: A map from target to source, for the round trip.
        method: How to call the method; the map's own word when left out.
        volumes: What was done to bring two volumes onto one grid; as the map has it when left out.
        remarks: What else there is to say, by name.
    """
    target, lent = _with_networks(atlas_map.target)
    source, lent_too = _with_networks(atlas_map.source)
    made = "time series" if data.provenance.kind == "timeseries" else f"{data.provenance.kind} matrices"
    z = " (Fisher z)" if data.provenance.fisher_z else ""
    return ConversionReport(
        source=atlas_map.source.name,
        target=atlas_map.target.name,
        what=f"{len(data)} subject{'s' if len(data) != 1 else ''}, {made}{z},",
        method=method or atlas_map.method,
        regions=_regions(atlas_map, target),
        weights=atlas_map.weights,
        source_networks=source.networks,
        resampled=volumes or "; ".join(_recorded(atlas_map.record, "grid")) or "none needed by this method",
        error=_overall_error(atlas_map),
        error_from="; ".join(_recorded(atlas_map.record, "error")) or "since both atlases are one",
        networks_from=_LENDER if lent or lent_too else "",
        round_trip=round_trip(atlas_map, back, data),
        remarks=tuple(remarks),
    )


def round_trip(there: AtlasMap, back: AtlasMap, data: RegionData, most_subjects: int = 100) -> RoundTrip | None:
    """How alike matrices are to themselves after a conversion and back; None where the data cannot be converted back.

    Time series are converted there and back, and their correlations are compared.

    Args:
        there: Map from source to target.
        back: Map from target to source.
        data: Data in the source atlas.
        most_subjects: Of more subjects, as many are taken at even steps.
    """
    ids = list(data.values)
    chosen = [ids[place] for place in np.unique(np.linspace(0, len(ids) - 1, min(len(ids), most_subjects)).round().astype(int))]
    part = data.select(chosen)
    try:
        returned = convert_regions(back, convert_regions(there, part)[0])[0]
    except (AtlasError, DataError):
        return None  # such as counts of streamlines, without volumes of both atlases
    edges = [_shared_edges(before, after) for before, after in zip(_matrices(part), _matrices(returned), strict=True)]
    r = np.array([_correlation(before, after) for before, after in edges])
    if np.isnan(r).any():
        return None
    middle = int(np.argsort(r)[(len(r) - 1) // 2])
    return RoundTrip(back.method, r, *edges[middle], n_subjects=len(ids))


# Of the atlases that come with nilearn, the one with networks for cortex, subcortex and cerebellum.
_LENDER = "seitzman300"
_MOST_OF_WEIGHT = 0.9


def _with_networks(atlas: Atlas) -> tuple[Atlas, bool]:
    """The atlas with networks for regions without any, where no region has one, and whether they were lent."""
    if atlas.network_names or atlas.space != load_atlas(_LENDER).space:
        return atlas, False
    filled = nearest_network(atlas, load_atlas(_LENDER))
    return filled, bool(filled.network_names)


def _regions(atlas_map: AtlasMap, target: Atlas) -> pd.DataFrame:
    size = np.abs(atlas_map.weights)
    largest = size.argmax(axis=1)
    descending = np.sort(size, axis=1)[:, ::-1].cumsum(axis=1)
    n_sources = (descending < _MOST_OF_WEIGHT * descending[:, -1:]).sum(axis=1) + 1
    labels, names, served = atlas_map.source.labels[largest], np.array(atlas_map.source.display_names)[largest], atlas_map.served
    return pd.DataFrame(
        {
            "label": target.labels,
            "name": target.display_names,
            "network": target.networks,
            **{axis: target.centroids[:, k] for k, axis in enumerate("xyz")},
            "coverage": atlas_map.coverage,
            "expected_error": atlas_map.region_error,
            "served": served,
            "n_sources": np.where(served, n_sources, 0),
            "largest_source": pd.array(np.where(served, labels, 0), dtype="Int64"),
            "largest_source_name": np.where(served, names, ""),
        }
    ).assign(largest_source=lambda table: table["largest_source"].mask(~table["served"]))


def _overall_error(atlas_map: AtlasMap) -> float:
    inside = np.outer(atlas_map.served, atlas_map.served) & ~np.eye(len(atlas_map.target), dtype=bool)
    if atlas_map.edge_error is None or not inside.any():
        return float("nan")
    return float(np.sqrt((atlas_map.edge_error[inside] ** 2).mean()))


def _recorded(record: Mapping[str, Any], name: str) -> list[str]:
    """What the record of a map, or of the maps it was chained of, says under a name."""
    own = [str(record[name])] if record.get(name) else []
    return own + [said for part in ("first", "second") if part in record for said in _recorded(record[part], name)]


def _matrices(data: RegionData) -> npt.NDArray[np.float32]:
    """Correlations of series, matrices as they are; NaN where a region is not observed `[n, R, R]`."""
    if data.provenance.kind in ("timeseries", "correlation"):
        return paired_subjects(data, data).source
    stacked = np.stack([data.values[subject] for subject in data.values]).astype(np.float32)
    seen = np.stack([data.observed[subject] for subject in data.values])
    return np.where(seen[:, :, None] & seen[:, None, :], stacked, np.float32(np.nan))


def _shared_edges(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    upper = np.triu_indices(len(before), 1)
    first, second = before[upper].astype(np.float64), after[upper].astype(np.float64)
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
