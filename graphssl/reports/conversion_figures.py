"""Figures of a conversion between atlases: the map, coverage and error, the worst-served regions in the brain, there and back."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from graphssl.reports.canvas import INCH, canvas, marks, png, tell, tell_points
from graphssl.reports.conversion import Array, ConversionReport, worst_served
from graphssl.reports.markup import Picture
from graphssl.reports.names import listed, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def map_matrix(report: ConversionReport) -> Picture:
    """Weights of the map, target regions in rows and source regions in columns, both ordered by network."""
    rows, columns = _by_network(report.regions["network"].tolist()), _by_network(list(report.source_networks))
    weights = report.weights[np.ix_(rows, columns)]
    limit = float(np.quantile(np.abs(weights[weights != 0]), 0.99)) if weights.any() else 1.0
    signed = bool((weights < 0).any())
    with canvas(8.0, 6.4) as (figure, axes):
        shades = {"cmap": "RdBu_r", "vmin": -limit} if signed else {"cmap": "Blues", "vmin": 0.0}
        image = axes.imshow(weights, aspect="auto", interpolation="nearest", vmax=limit, **shades)
        figure.colorbar(image, ax=axes, shrink=0.7, label="Weight")
        _mark(axes, "y", [report.regions["network"].tolist()[row] for row in rows])
        _mark(axes, "x", [report.source_networks[column] for column in columns])
        axes.set_ylabel(f"Regions of {report.target}")
        axes.set_xlabel(f"Regions of {report.source}")
        drawn = png(figure)
    known = bool(report.regions["network"].any() and any(report.source_networks))
    order = "ordered by network" if known else "in the order of the atlases"
    lent = f" Regions without a network have that of the nearest region of {report.networks_from}." if report.networks_from else ""
    alt = f"Matrix of weights from {weights.shape[1]} regions of {report.source} to {weights.shape[0]} regions of {report.target}, {order}."
    caption = f"Each row says of which source regions a target region is made, {order}. The colour scale ends at the 99th percentile.{lent}"
    return Picture(drawn, alt, caption, round(8.0 * INCH))


def coverage_and_error(report: ConversionReport) -> Picture | None:
    """Expected error against coverage of each region, or the one of the two that is known, in order; None where neither is."""
    served = report.regions[report.regions["served"]]
    there = {name: bool(served[name].notna().any()) for name in ("coverage", "expected_error")}
    if not any(there.values()):
        return None
    worst = worst_served(report.regions)
    with canvas(8.0, 4.2) as (figure, axes):
        if all(there.values()):
            place, value, across = served["coverage"], served["expected_error"], "Share of the region’s volume that is covered"
            what = "Expected error against coverage"
        else:
            named = next(name for name, known in there.items() if known)
            value = served[named].sort_values(ascending=named == "coverage")
            place, across = pd.Series(np.arange(1, len(value) + 1), index=value.index), "Regions, the worst first"
            what = "Coverage" if named == "coverage" else "Expected error"
        points = axes.scatter(place, value, s=22, color="#56b4e9", edgecolors="#0b5cad", linewidths=0.5)
        tell(points, map(_served, served.loc[value.index].to_dict("records")))
        axes.scatter(place[worst.index], value[worst.index], s=26, color="#d55e00")
        for name, x, y in zip(worst["name"], place[worst.index], value[worst.index], strict=True):
            axes.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
        axes.set_xlabel(across)
        axes.set_ylabel("Share covered" if what == "Coverage" else "Expected error of its correlations")
        axes.grid(color="#e7ebef", linewidth=0.8)
        drawn, told = png(figure), marks(figure)
    alt = f"{what} of {len(served)} regions of {report.target}; the worst are {listed(worst['name'].tolist())}."
    return Picture(drawn, alt, f"{what} of each served region; the worst are named.", round(8.0 * INCH), told)


def worst_on_brain(report: ConversionReport) -> Picture | None:
    """The worst-served regions on a glass brain, those that cannot be served as crosses; None where there are neither."""
    from nilearn.plotting import plot_markers

    worst, served = worst_served(report.regions, n=_MOST_DRAWN), report.regions[report.regions["served"]]
    lost = report.regions[~report.regions["served"]]
    if worst.empty and lost.empty:
        return None
    by = "expected_error" if worst["expected_error"].notna().any() else "coverage"
    shown = served[served[by].notna()] if len(worst) else report.regions
    values = shown[by].fillna(0.0).to_numpy(dtype=np.float64)
    with canvas(9.6, 3.2, axes=False) as (figure, _):
        # The colour bar is labelled with two digits and cannot be drawn where its ends are alike.
        low, high = float(np.floor(100 * values.min())) / 100, float(np.ceil(100 * values.max())) / 100
        display = plot_markers(
            values,
            shown[["x", "y", "z"]].to_numpy(dtype=np.float64),
            node_size=np.where(shown.index.isin(worst.index), 60, 6),
            node_cmap="YlOrRd" if by == "expected_error" else "YlOrRd_r",
            node_vmin=low,
            node_vmax=max(high, low + 0.01),
            colorbar=not worst.empty,
            figure=figure,
        )
        tell_points(figure, list(map(_served, shown.to_dict("records"))))
        if not lost.empty:
            display.add_markers(lost[["x", "y", "z"]].to_numpy(dtype=np.float64), marker_color="black", marker_size=40, marker="x")
        drawn, told = png(figure), marks(figure)
    crosses = f", and crosses at the {len(lost)} that cannot be served" if len(lost) else ""
    named = listed(worst["name"].tolist()) or "not known"
    alt = f"Glass brain with the {len(worst)} worst-served regions of {report.target}{crosses}; the worst are {named}."
    scale = "expected error" if by == "expected_error" else "share covered"
    caption = f"The {len(worst)} worst-served regions (large) among the others (small), by {scale}{crosses}."
    return Picture(drawn, alt, caption, round(9.6 * INCH), told)


def there_and_back(report: ConversionReport) -> Picture | None:
    """Connections before and after a round trip, of the subject in the middle; None where it was not measured."""
    trip = report.round_trip
    if trip is None or not trip.before.size:
        return None
    with canvas(4.8, 4.4) as (figure, axes):
        axes.hexbin(trip.before, trip.after, gridsize=60, bins="log", cmap="Blues", mincnt=1, linewidths=0.1)
        ends = [float(min(trip.before.min(), trip.after.min())), float(max(trip.before.max(), trip.after.max()))]
        axes.plot(ends, ends, color="#97a1ac", linewidth=0.8)
        axes.set_xlabel(f"Connection in {report.source}")
        axes.set_ylabel("After the round trip")
        drawn = png(figure)
    r = float(np.corrcoef(trip.before, trip.after)[0, 1]) if trip.before.size > 1 else float("nan")
    alt = f"{trip.before.size} connections of one subject before and after the way {report.source} to {report.target} and back, r {number(r, 2)}."
    caption = (
        "Connections of the subject whose matrix is in the middle of all by its round trip. What the target atlas does not hold is lost on the way."
    )
    return Picture(drawn, alt, caption, round(4.8 * INCH))


_MOST_DRAWN = 20


def _served(region: Mapping[Hashable, Any]) -> str:
    """Name, network and numbers of a region."""
    known = {"covered": region["coverage"], "expected error": region["expected_error"]}
    name = f"{region['name']} ({region['network']})" if region["network"] else str(region["name"])
    return f"{name}: {listed(f'{what} {number(value)}' for what, value in known.items() if value == value)}"


def _by_network(networks: list[str]) -> Array:
    """Places of regions, those of one network together; unknown ones last, the order of the atlas within."""
    return np.asarray(sorted(range(len(networks)), key=lambda place: (not networks[place], networks[place], place)), dtype=np.int64)


def _mark(axes: "Axes", axis: Literal["x", "y"], networks: list[str]) -> None:
    """Lines between networks along an axis, and their names at their middle."""
    starts = [k for k, name in enumerate(networks) if k == 0 or name != networks[k - 1]]
    if len(starts) < 2:
        axes.set(**{f"{axis}ticks": []})
        return
    ends = [*starts[1:], len(networks)]
    line = axes.axvline if axis == "x" else axes.axhline
    for start in starts[1:]:
        line(start - 0.5, color="#97a1ac", linewidth=0.4)
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    wide = [end - start >= len(networks) / 50 for start, end in zip(starts, ends, strict=True)]
    names = [(networks[start] or "none") if enough else "" for start, enough in zip(starts, wide, strict=True)]
    if axis == "x":
        axes.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    else:
        axes.set_yticks(middles, names, fontsize=8)
    axes.tick_params(axis=axis, length=0)
