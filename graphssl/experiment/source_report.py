"""What a source holds, in one screen."""

from collections.abc import Iterator
from typing import Any

from graphssl.data.cohort import Cohort
from graphssl.data.regions import RegionData
from graphssl.data.schema import Column
from graphssl.datasets.abide_lists import LISTS
from graphssl.datasets.stand_ins import UNNAMED
from graphssl.experiment.runs import describe
from graphssl.experiment.source_advice import SHOWN, advice, as_options, shortened
from graphssl.experiment.sources import OPTIONS, Found, Source, look, recognised


def report_source(source: Source, cohort: Cohort | None = None) -> tuple[str, dict[str, Any]]:
    """What a source holds, as text for a person and as a record for a machine.

    Args:
        source: The source.
        cohort: What it holds, where it is open already.

    Raises:
        InputError: If files cannot be read or do not fit.
    """
    found = look(source) if cohort is None else Found(recognised(source), cohort, tuple(advice(cohort)), True)
    told = [as_options(line, OPTIONS) for line in found.advice]
    lines = [f"Recognised as {found.layout.name}: {found.layout.what}", f"Path          {source.path}"]
    record: dict[str, Any] = {"recognised": found.layout.name, "complete": found.complete, "advice": told}
    if found.cohort is not None:
        lines += [*_lines(found.cohort), *_left_out(found.cohort)]
        record |= {**describe(found.cohort), "excluded": found.cohort.excluded.to_dict("records")}
    lines += [f"To do: {line}" for line in told] or ["Nothing to mend."]
    return "\n".join(lines), record


# The screen


def _lines(cohort: Cohort) -> Iterator[str]:
    if len(cohort.regions) != 1:
        yield f"  {len(cohort)} subjects"
    for data in cohort.regions.values():
        atlas = "an unnamed atlas" if data.atlas.name == UNNAMED else data.atlas.name
        yield f"  {len(data)} subjects × {len(data.atlas)} regions of {atlas}: {_values(data)}"
        yield f"    labels {shortened(data.atlas.labels.tolist())}"
    yield from _images(cohort)
    for name in cohort.schema.named("target"):
        yield f"  target   {name}: {_counts(cohort, name)}"
    for name in cohort.schema.named("site"):
        yield f"  site     {name}: {_counts(cohort, name)}"
    if cohort.events is not None:
        yield f"  events   {cohort.events!r}"
    if not cohort.regions and len(cohort.schema):
        yield "  columns"
        yield from (f"    {line}" for line in str(cohort.schema).splitlines())
    others = [f"{column.name} ({_column(column)})" for column in cohort.schema if column.role not in ("target", "site")]
    if others and cohort.regions:
        yield f"  columns  {shortened(others)}"
    if cohort.name in LISTS:
        yield f"  list     {LISTS[cohort.name].describe(cohort.ids)}"


def _images(cohort: Cohort) -> Iterator[str]:
    for name, images in cohort.images.items():
        yield f"  {name:<8} {images.summary}"
        if images.has_masks:
            yield f"    masks of {shortened(images.classes)}"


def _values(data: RegionData) -> str:
    made = data.provenance
    said = ["time series" if made.kind == "timeseries" else f"{made.kind}, Fisher z" if made.fisher_z else made.kind]
    if made.n_timepoints is not None:
        fewest, most = made.n_timepoints
        said.append(f"{fewest} time points" if fewest == most else f"{fewest} to {most} time points")
    if made.diagonal not in ("", "values"):
        said.append(f"diagonal: {made.diagonal}")
    return "; ".join(filter(None, [", ".join(said), made.pipeline]))


def _counts(cohort: Cohort, name: str) -> str:
    """How many subjects have each value; those without one come last."""
    column = cohort.subjects[name]
    counts = column.value_counts()
    said = [f"{value} ({n})" for value, n in counts.items()]
    if column.dtype.kind == "f" and len(counts) > SHOWN:
        said = [f"{column.min():g} to {column.max():g}"]
    missing = int(column.isna().sum())
    return shortened(said) + (f"; without one {missing}" if missing else "")


def _column(column: Column) -> str:
    return ", ".join(filter(None, [column.kind, column.unit, column.role if column.role != "feature" else None]))


def _left_out(cohort: Cohort) -> list[str]:
    """What was left out, by reason, the most frequent first."""
    lines = []
    for kind, rows in cohort.excluded.groupby("what", sort=False):
        reasons = sorted(rows.groupby("reason", sort=False)["id"], key=lambda entry: -len(entry[1]))
        lines.append(f"Left out, {kind} ({len(rows)}):")
        lines += [f"  {shortened(ids.tolist())}{f' ({len(ids)})' if len(ids) > 1 else ''}: {reason}" for reason, ids in reasons[:SHOWN]]
        rest = sum(len(ids) for _, ids in reasons[SHOWN:])
        lines += [f"  … and {rest} more"] if rest else []
    return lines
