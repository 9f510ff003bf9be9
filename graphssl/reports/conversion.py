"""What a conversion between atlases did, as plain arrays and sentences: for the screen, the page and the table of regions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.reports.names import count, interval, listed, number

Array = npt.NDArray[np.float64]

REGION_COLUMNS = (
    "label", "name", "network", "x", "y", "z", "coverage", "expected_error", "served", "n_sources", "largest_source", "largest_source_name",
)  # fmt: skip
# A region less of whose volume is covered is counted.
HALF = 0.5


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """How alike data are after a conversion and back.

    Args:
        back: How it was converted back, such as `"overlap"`.
        r: Correlation over pairs of regions of each subject's matrix with its round trip `[n]`.
        before: Connections of the subject with the median correlation `[E]`.
        after: The same after the round trip `[E]`.
        n_subjects: Number of subjects there are; a sample of them is taken where they are many.
    """

    back: str
    r: Array
    before: Array
    after: Array
    n_subjects: int


@dataclass(frozen=True, eq=False)
class ConversionReport:
    """A conversion as it is reported.

    Args:
        source: Name of the source atlas.
        target: Name of the target atlas.
        what: What was converted, such as `"12 subjects, time series"`.
        method: How the map was made.
        regions: Target regions, with `REGION_COLUMNS`; NaN where coverage or error is not known.
        weights: Weights of the map `[R_t, R_s]`.
        source_networks: Network of each source region `[R_s]`; empty where none is known.
        resampled: What was done to bring two volumes onto one grid, or what stood for them.
        error: Expected root mean square error over connections of served regions; NaN where nothing is known of it.
        error_from: Where the expected error comes from.
        networks_from: Atlas whose networks were lent to regions without one; empty where none was needed.
        round_trip: There and back; None where it was not measured.
        remarks: What else there is to say, by name.
    """

    source: str
    target: str
    what: str
    method: str
    regions: pd.DataFrame
    weights: Array
    source_networks: tuple[str, ...]
    resampled: str
    error: float
    error_from: str
    networks_from: str = ""
    round_trip: RoundTrip | None = None
    remarks: Sequence[tuple[str, str]] = field(default_factory=tuple)


def conversion_facts(report: ConversionReport) -> list[tuple[str, str]]:
    """What a conversion did and how far it can be believed, as names and sentences."""
    n_source, n_target = report.weights.shape[::-1]
    return [
        ("Converted", f"{report.what} from {report.source} ({count(n_source, 'region')}) to {report.target} ({count(n_target, 'region')})"),
        ("Method", report.method),
        ("Volumes", report.resampled),
        ("Coverage", _coverage(report)),
        ("Not served", _unserved(report)),
        ("Worst served", _worst(report)),
        ("Error", _error(report)),
        ("Round trip", _round_trip(report)),
        *report.remarks,
    ]


def conversion_summary(report: ConversionReport) -> dict[str, Any]:
    """The numbers of a conversion as plain values, for JSON; None where one is not known."""
    coverage, trip = report.regions["coverage"], report.round_trip
    worst = worst_served(report.regions)
    return {
        "source": report.source,
        "target": report.target,
        "method": report.method,
        "n_source_regions": report.weights.shape[1],
        "n_target_regions": report.weights.shape[0],
        "volumes": report.resampled,
        "coverage": None if coverage.isna().all() else {"median": float(coverage.median()), "below_half": int((coverage < HALF).sum())},
        "not_served": [int(label) for label in report.regions["label"][~report.regions["served"]]],
        "worst_served": [int(label) for label in worst["label"]],
        "expected_error": None if math.isnan(report.error) else report.error,
        "expected_error_from": report.error_from,
        "round_trip": None
        if trip is None
        else {"r": float(np.median(trip.r)), "low": float(trip.r.min()), "high": float(trip.r.max()), "back": trip.back, "n_subjects": len(trip.r)},
        "remarks": dict(report.remarks),
    }


def worst_served(regions: pd.DataFrame, n: int = 5) -> pd.DataFrame:
    """The served regions of which most is expected to be wrong; by coverage where no error is known, none where neither is."""
    served = regions[regions["served"]]
    by, ascending = ("expected_error", False) if served["expected_error"].notna().any() else ("coverage", True)
    return served.dropna(subset=[by]).sort_values([by, "label"], ascending=[ascending, True]).head(n)


def _coverage(report: ConversionReport) -> str:
    known = report.regions["coverage"].dropna()
    if known.empty:
        return "not known: not both atlases have voxels here"
    below, median = int((known < HALF).sum()), _percent(float(known.median()))
    return f"median {median} of a target region’s volume lies in source regions; less than half in {below} of {len(known)} regions"


def _unserved(report: ConversionReport) -> str:
    names = report.regions["name"][~report.regions["served"]].tolist()
    return f"{count(len(names), 'region')} cannot be served, NaN and masked: {listed(names)}" if names else "none, every region has a source"


def _worst(report: ConversionReport) -> str:
    rows = worst_served(report.regions)
    if rows.empty:
        return "not known, neither coverage nor errors are"
    return ", ".join(f"{row['name']} ({_quality(row)})" for _, row in rows.iterrows())


def _quality(row: "pd.Series[Any]") -> str:
    coverage, error = float(row["coverage"]), float(row["expected_error"])
    said = [] if math.isnan(error) else [f"error {number(error)}"]
    return ", ".join(said if math.isnan(coverage) else [*said, f"covered {_percent(coverage)}"])


def _error(report: ConversionReport) -> str:
    if math.isnan(report.error):
        return "not known of this map: nobody was measured, and chained maps bring none"
    return f"{number(report.error)} expected of a correlation (root mean square over connections), {report.error_from}"


def _round_trip(report: ConversionReport) -> str:
    trip = report.round_trip
    if trip is None:
        return "not measured"
    way, r = f"{report.source} → {report.target} → {report.source}, back by {trip.back}", number(float(np.median(trip.r)))
    if trip.n_subjects == 1:
        return f"r {r} of the matrix with its round trip ({way})"
    whom = f"{len(trip.r)} of {trip.n_subjects} subjects" if len(trip.r) < trip.n_subjects else f"{len(trip.r)} subjects"
    return f"r {r} of a matrix with its round trip (median of {whom}, {interval(float(trip.r.min()), float(trip.r.max()))}; {way})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
