"""Open what a path holds, and say in one screen what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import pandas as pd

from graphssl.atlases import guess_atlases, load_atlas
from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import MatrixKind, RegionData
from graphssl.data.schema import Column
from graphssl.datasets import recognise
from graphssl.datasets.abide_lists import LISTS, ListName
from graphssl.datasets.layouts import Layout
from graphssl.datasets.listing import Listing, list_files
from graphssl.datasets.scan_files import Choices, Repeats
from graphssl.datasets.stand_ins import UNNAMED
from graphssl.errors import ChoiceError, ConfigError
from graphssl.experiment.runs import describe

_SHOWN = 8
# How the adapters say that a subject of the table has no scan at hand.
_NO_FILE = "in the table, without a file|^no file, or no region with a signal"


@dataclass(frozen=True)
class Source:
    """A path and what its files do not say. What is left at None is as the adapter of the layout has it.

    Args:
        path: Folder of files, one file, or a saved cohort.
        atlas: Atlas of the regions: a name, a table, a label volume, or `NAME=FILE`; several for sources with several.
        participants: Table of participants; the one in the folder when left out.
        id_column: Column of subject ids in it.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family, or of the person where scans are repeated.
        covariates: Columns that may explain the target without the brain.
        kind: Kind of matrices: nilearn's words, `streamline count`, or `adjacency`.
        fisher_z: Whether the matrices hold Fisher z.
        missing_regions: `mask` hides regions without signal, `error` refuses them.
        select: Values that file names must have, such as `ses-1` or `desc-simple`; several as a list.
        repeats: `group` keeps all scans of a subject as rows of one group, `choose` asks for one.
        variable: Name of the array where a file has several.
        header: `ignore` takes columns to be in the order of the atlas, whatever they are called.
        transpose: Whether the regions of time series are rows.
        log1p: Whether to turn streamline counts into log(1 + count).
        pattern: Which files of a plain folder to read, such as `**/*_fc.csv`.
        pipeline: Pipeline of ABIDE files (`cpac`, …), or how the data were made, for the record.
        strategy: Strategy of ABIDE files, such as `filt_global`.
        subjects: Named list of ABIDE subjects: `abide1-1035` or `abide1-871`.
    """

    path: str
    atlas: Sequence[str] | str = ()
    participants: str | None = None
    id_column: str | None = None
    target: str | None = None
    site: str | None = None
    group: str | None = None
    covariates: Sequence[str] | str | None = None
    kind: MatrixKind | None = None
    fisher_z: bool | None = None
    missing_regions: Literal["error", "mask"] | None = None
    select: Sequence[str] | str | None = None
    repeats: Repeats | None = None
    variable: str | None = None
    header: Literal["check", "ignore"] | None = None
    transpose: bool | None = None
    log1p: bool | None = None
    pattern: str | None = None
    pipeline: str | None = None
    strategy: str | None = None
    subjects: ListName | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What was given, by name of the adapters' arguments."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("path", "atlas")}
        lists = {name: several(given[name]) for name in ("covariates", "select") if given[name] is not None}
        return {**given, **lists}


@dataclass(frozen=True)
class Found:
    """What a look at a source gave.

    Args:
        layout: What it was recognised as.
        cohort: What it holds, or None where something has to be decided first.
        advice: What to do; the source can be built as it is where nothing is missing.
        complete: Whether the source can be built as it is.
    """

    layout: Layout
    cohort: Cohort | None
    advice: tuple[str, ...]
    complete: bool


def open_source(source: Source) -> Cohort:
    """Load a source as what it is recognised as.

    Raises:
        ConfigError: If an atlas is needed and none is given, or an option does not apply.
        DataError: If the files cannot be read.
    """
    layout, listing = _recognise(source), list_files(source.path)
    atlases = _atlases(source, listing)
    if not atlases:
        needed = layout.stand_ins(listing, _choices(source))
        if needed:
            raise ConfigError(f"Expected the atlas of the regions for {layout.name} data, found none. {' '.join(map(_atlas_hint, needed))}")
    return layout.load(source.path, atlases, **source.options)


def look(source: Source) -> Found:
    """Check a source as far as it goes: without an atlas with stand-ins for its regions, and up to the first thing that only the user can decide.

    Raises:
        InputError: If files cannot be read or do not fit.
    """
    layout, listing = _recognise(source), list_files(source.path)
    try:
        atlases = _atlases(source, listing)
        needed = [] if atlases else layout.stand_ins(listing, _choices(source))
        cohort = layout.load(source.path, atlases or needed, **source.options)
    except ChoiceError as error:
        return Found(layout, None, (str(error),), False)
    return Found(layout, cohort, (*map(_atlas_hint, needed), *_advice(cohort)), not needed)


def report_source(source: Source, cohort: Cohort | None = None) -> tuple[str, dict[str, Any]]:
    """What a source holds, as text for a person and as a record for a machine.

    Args:
        source: The source.
        cohort: What it holds, where it is open already.

    Raises:
        InputError: If files cannot be read or do not fit.
    """
    found = look(source) if cohort is None else Found(_recognise(source), cohort, tuple(_advice(cohort)), True)
    lines = [f"Recognised as  {found.layout.name}: {source.path} ({found.layout.what})"]
    record: dict[str, Any] = {"recognised": found.layout.name, "complete": found.complete, "advice": list(found.advice)}
    if found.cohort is not None:
        lines += [repr(found.cohort), *_details(found.cohort), *_left_out(found.cohort)]
        record |= {**describe(found.cohort), "excluded": found.cohort.excluded.to_dict("records")}
    lines += [f"To do: {advice}" for advice in found.advice] or ["Nothing to mend."]
    return "\n".join(lines), record


def _recognise(source: Source) -> Layout:
    return recognise(source.path, variable=source.variable, pattern=source.pattern)


def _choices(source: Source) -> Choices:
    names = {field.name for field in fields(Choices)}
    return Choices(**{name: value for name, value in source.options.items() if name in names and value is not None})


def _atlases(source: Source, listing: Listing) -> list[Atlas]:
    """The atlases that are given; else the one BrainNet Viewer's node file beside the matrices describes."""
    given = [load_atlas(entry) for entry in several(source.atlas)]
    nodes = listing.ending(".node")
    if not given and len(nodes) == 1 and listing.ending(".edge"):
        return [load_atlas(listing.root / nodes[0])]
    return given


def several(words: Sequence[str] | str) -> tuple[str, ...]:
    """One word or several, as the command line gives them."""
    return (words,) if isinstance(words, str) else tuple(words)


# What is said


def _details(cohort: Cohort) -> list[str]:
    lines = [f"  {name:<9} {_provenance(data)}" for name, data in cohort.regions.items()]
    columns = [f"{column.name} ({', '.join(filter(None, _column(column)))})" for column in cohort.schema]
    lines += [f"  columns   {_shortened(columns)}"] if columns else []
    return lines + ([f"  list      {LISTS[cohort.name].describe(cohort.ids)}"] if cohort.name in LISTS else [])


def _column(column: Column) -> tuple[str, str | None, str | None]:
    return column.kind, column.unit, column.role if column.role != "feature" else None


def _provenance(data: RegionData) -> str:
    made = data.provenance
    said = [f"labels {_shortened(data.atlas.labels.tolist())}", made.pipeline]
    if made.n_timepoints is not None:
        fewest, most = made.n_timepoints
        said.append(f"{fewest} time points" if fewest == most else f"{fewest} to {most} time points")
    said.append(f"diagonal {made.diagonal}" if made.diagonal else "")
    return "; ".join(part for part in said if part)


def _left_out(cohort: Cohort) -> list[str]:
    """What was left out, by reason, the most frequent first."""
    lines = []
    for kind, rows in cohort.excluded.groupby("what", sort=False):
        reasons = sorted(rows.groupby("reason", sort=False)["id"], key=lambda entry: -len(entry[1]))
        lines.append(f"Left out, {kind} ({len(rows)}):")
        lines += [f"  {reason}: {_shortened(ids.tolist())}" + (f" ({len(ids)})" if len(ids) > 1 else "") for reason, ids in reasons[:_SHOWN]]
        rest = sum(len(ids) for _, ids in reasons[_SHOWN:])
        lines += [f"  … and {rest} more"] if rest else []
    return lines


def _advice(cohort: Cohort) -> list[str]:
    advice = []
    columns = [column.name for column in cohort.schema if column.role == "feature"]
    there = f"; there are {_shortened(columns)}" if columns else "; there is no table of participants" if not len(cohort.schema) else ""
    if not cohort.schema.named("target"):
        advice.append(f"no column has the role 'target': name the one to predict with --target{there}")
    for name in cohort.schema.named("target"):
        classes = cohort.subjects[name].dropna().unique()
        if len(classes) < 2:
            advice.append(f"the target {name!r} has {'one class only' if len(classes) else 'no labels'}: nothing can be learned from it")
    without = int(cohort.excluded["reason"].str.contains(_NO_FILE).sum())
    if without > len(cohort):
        advice.append(
            f"{without} of {without + len(cohort)} subjects of the table have no file: complete the download, or give the folder that has them"
        )
    sites = cohort.sites
    if sites is None:
        advice.append("no column has the role 'site': name it with --site, or scores cannot be checked on unseen sites")
    elif sites.value_counts().min() < 2:
        alone = pd.Series(sites.value_counts())
        advice.append(f"sites with one subject cannot be left out: {alone[alone < 2].index.tolist()[:5]}")
    return advice


def _atlas_hint(regions: Atlas) -> str:
    named = [name for name in regions.names if name]
    carried = f"called {_shortened(named)}" if named else f"with the labels {_shortened(regions.labels.tolist())}"
    guesses = guess_atlases(regions)
    perhaps = f" Perhaps {' or '.join(guesses)}." if guesses else ""
    whose, name = ("The files", "NAME") if regions.name == UNNAMED else (f"Files of {regions.name!r}", regions.name)
    return (
        f"{whose} have {len(regions)} regions, {carried}, and say not where these are.{perhaps} Give the atlas the data were made with: "
        f"--atlas '{name}=FILE', a table (label, name, x, y, z) or a label volume, or a name of graphssl.atlases.list_atlases()."
    )


def _shortened(values: Sequence[Any]) -> str:
    words = [str(value) for value in values]
    return ", ".join(words) if len(words) <= _SHOWN else f"{', '.join(words[:4])} … {words[-1]}"
