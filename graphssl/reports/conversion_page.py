"""The page of a conversion between atlases, and its table of regions: a folder that opens offline."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from graphssl.folders import written_whole
from graphssl.reports.conversion import ConversionReport, conversion_facts, worst_served
from graphssl.reports.conversion_figures import coverage_and_error, map_matrix, there_and_back, worst_on_brain
from graphssl.reports.markup import Html, document, facts, figure, folded, paragraph, pictures, section, table, tag
from graphssl.reports.names import count, number

PAGE = "report.html"


def write_conversion_report(folder: str | os.PathLike[str], report: ConversionReport) -> Path:
    """Write `report.html` and `regions.csv` into a folder, whole or not at all; an earlier report there is replaced.

    Args:
        folder: The folder.
        report: What was converted and how far it can be believed.

    Returns:
        Path of the page.

    Raises:
        RunFolderError: If the folder holds something else.
    """
    with written_whole(folder, marker=PAGE, what="an earlier report of a conversion") as aside:
        (aside / PAGE).write_text(render_conversion(report), encoding="utf-8")
        report.regions.to_csv(aside / "regions.csv", index=False, float_format="%.6g")
    return Path(folder) / PAGE


def render_conversion(report: ConversionReport) -> str:
    """The page as text."""
    title = f"{report.source} converted to {report.target}"
    top = tag("header", paragraph("graphssl report · conversion between atlases", "kicker"), tag("h1", title), facts(conversion_facts(report)))
    body = [
        section("The map", "map", figure(map_matrix(report))),
        section("How well regions are served", "regions", *_regions(report)),
        section("There and back", "round-trip", *_round_trip(report)),
    ]
    return document(f"{title}: graphssl report", top, body, _foot())


def _regions(report: ConversionReport) -> Iterator[Html]:
    yield from pictures(coverage_and_error(report), worst_on_brain(report))
    worst = worst_served(report.regions, n=_MOST_ROWS)
    lost = report.regions[~report.regions["served"]]
    if not lost.empty:
        yield _table(lost, f"{count(len(lost), 'region')} that cannot be served: NaN in what was converted, and masked wherever it is read.")
    if not worst.empty:
        yield _table(worst, f"The {len(worst)} worst-served regions. Sources: source regions that carry nine tenths of the weight.")
    yield folded(f"All {len(report.regions)} regions (regions.csv has them too)", _table(report.regions, ""))


def _table(regions: pd.DataFrame, caption: str) -> Html:
    head = ["Region", "Label", "Network", "Coverage", "Expected error", "Sources", "Largest source"]
    rows: list[list[object]] = [
        [
            row["name"],
            row["label"],
            row["network"] or "–",
            number(float(row["coverage"]), 2),
            number(float(row["expected_error"]), 3),
            row["n_sources"],
            row["largest_source_name"] or "–",
        ]
        for _, row in regions.iterrows()
    ]
    return table(head, rows, caption=caption, numeric=(1, 3, 4, 5))


def _round_trip(report: ConversionReport) -> Iterator[Html]:
    if report.round_trip is None:
        yield paragraph("Not measured: nothing can be converted back by this map’s atlases, or their regions are too few.", "soft")
    else:
        yield paragraph(
            "A matrix converted and converted back is compared with itself. This needs no truth in the target atlas, and sees what both ways lose "
            "together: it says how much of the data the target atlas can hold, not how right the converted values are."
        )
        yield from pictures(there_and_back(report))


def _foot() -> Html:
    said = (
        "Coverage: share of a region’s volume that lies in regions of the source. Expected error: root mean square over the region’s connections, of "
        "correlations, from held-out subjects where the map was learned, else from a model. Research software; not a medical device."
    )
    return tag("footer", paragraph(said))


_MOST_ROWS = 15
