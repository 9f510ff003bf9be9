"""Recognise what a path holds, open it, and say in one screen what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graphssl.atlases import load_atlas
from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import ConnectivityKind
from graphssl.datasets import load_abide, load_abide_arrays, load_matrices, load_timeseries, read_array
from graphssl.datasets.folder import find_files
from graphssl.errors import ConfigError, DataError
from graphssl.experiment.runs import describe

Recognised = Literal["cohort", "abide", "abide_arrays", "timeseries", "matrices"]

_SHOWN = 8


@dataclass(frozen=True)
class Source:
    """A path and what its files do not say.

    Args:
        path: Folder of files, or a saved cohort.
        atlas: Atlas of the regions: a name, a table, a label volume, or `NAME=FILE`; several for sources with several.
        participants: Table of participants; the one in the folder when left out.
        id_column: Column of subject ids in it.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family, or of the person where scans are repeated.
        covariates: Columns that may explain the target without the brain.
        kind: Kind of matrices, in nilearn's words.
        fisher_z: Whether the matrices hold Fisher z.
        missing_regions: `mask` hides regions without signal, `error` refuses them.
    """

    path: str
    atlas: Sequence[str] | str = ()
    participants: str | None = None
    id_column: str = "participant_id"
    target: str | None = None
    site: str | None = None
    group: str | None = None
    covariates: Sequence[str] | str = ()
    kind: ConnectivityKind = "correlation"
    fisher_z: bool = False
    missing_regions: Literal["error", "mask"] = "error"


def recognise(path: str | Path) -> Recognised:
    """What kind of source a path is.

    Raises:
        DataError: If there is no such folder, or nothing in it is known.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"Expected a folder at {folder}, found {'a file' if folder.is_file() else 'nothing'}. Give the folder that holds the files.")
    if (folder / "cohort.json").is_file():
        return "cohort"
    if (folder / "subjects.csv").is_file() and any(folder.glob("timeseries_*.npz")):
        return "abide_arrays"
    if any(folder.rglob("*_rois_*.1D")):
        return "abide"
    shape = _first_shape(folder)
    return "matrices" if shape[0] == shape[1] else "timeseries"


def open_source(source: Source) -> Cohort:
    """Load a source as what it is recognised as.

    Raises:
        ConfigError: If an atlas is needed and none is given.
        DataError: If the files cannot be read.
    """
    what = recognise(source.path)
    if what == "cohort":
        return Cohort.load(source.path)
    atlases = [load_atlas(entry) for entry in _several(source.atlas)]
    if not atlases:
        raise ConfigError(_atlas_hint(source, what))
    if what == "abide_arrays":
        return load_abide_arrays(source.path, atlases=atlases)
    if what == "abide":
        return load_abide(source.path, atlases=atlases)
    return _open_folder(source, what, atlases)


def report_source(source: Source, cohort: Cohort | None = None) -> tuple[str, dict[str, Any]]:
    """What a source holds, as text for a person and as a record for a machine."""
    what = recognise(source.path)
    cohort = cohort if cohort is not None else open_source(source)
    lines = [f"Recognised as  {what}: {source.path}", repr(cohort)]
    for kind, rows in cohort.excluded.groupby("what", sort=False):
        lines.append(f"Left out, {kind} ({len(rows)}):")
        lines += [f"  {row.id}: {row.reason}" for row in rows.head(_SHOWN).itertuples()]
        lines += [f"  … and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    lines += [f"To do: {advice}" for advice in _advice(cohort)] or ["Nothing to mend."]
    excluded = cohort.excluded.to_dict("records")
    return "\n".join(lines), {"recognised": what, **describe(cohort), "excluded": excluded, "advice": _advice(cohort)}


def _open_folder(source: Source, what: Recognised, atlases: Sequence[Atlas]) -> Cohort:
    if len(atlases) > 1:
        raise ConfigError(f"Expected one atlas for a folder of {what}, found {len(atlases)}. Give the one its regions belong to.")
    shared: dict[str, Any] = {
        "atlas": atlases[0],
        "participants": source.participants,
        "id_column": source.id_column,
        "target": source.target,
        "site": source.site,
        "group": source.group,
        "covariates": _several(source.covariates),
        "missing_regions": source.missing_regions,
    }
    if what == "matrices":
        return load_matrices(source.path, kind=source.kind, fisher_z=source.fisher_z, **shared)
    return load_timeseries(source.path, **shared)


def _several(words: Sequence[str] | str) -> tuple[str, ...]:
    """One word or several, as the command line gives them."""
    return (words,) if isinstance(words, str) else tuple(words)


def _advice(cohort: Cohort) -> list[str]:
    advice = []
    if not cohort.schema.named("target"):
        advice.append("no column has the role 'target': name the one to predict with --target")
    for name in cohort.schema.named("target"):
        classes = cohort.subjects[name].dropna().unique()
        if len(classes) < 2:
            advice.append(f"the target {name!r} has {'one class only' if len(classes) else 'no labels'}: nothing can be learned from it")
    sites = cohort.sites
    if sites is None:
        advice.append("no column has the role 'site': name it with --site, or scores cannot be checked on unseen sites")
    elif sites.value_counts().min() < 2:
        advice.append(f"sites with one subject cannot be left out: {sites.value_counts()[lambda counts: counts < 2].index.tolist()[:5]}")
    return advice


def _atlas_hint(source: Source, what: Recognised) -> str:
    found = f" The first file has {_first_shape(Path(source.path))[1]} regions." if what in ("timeseries", "matrices") else ""
    return (
        f"Expected the atlas of the regions for {what} data, found none.{found} "
        "Give --atlas with a name, a table or a label volume; see graphssl.atlases."
    )


def _first_shape(folder: Path) -> tuple[int, ...]:
    """Shape of the first file of a folder that holds numbers: tables of people or regions may lie beside the scans."""
    problems: list[DataError] = []
    for path in find_files(folder):
        try:
            return read_array(path)[0].shape
        except DataError as error:
            problems.append(error)
    raise problems[0]
