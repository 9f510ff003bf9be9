"""Scans as files: which of them to read, and as what. Every layout of one file a scan ends here.

A pipeline leaves several files of one scan: other atlases, other measures, other denoising, other formats; and a subject may have been scanned more
than once. Nothing of this is merged or chosen in silence: what is not read is listed, and what only the user can decide is asked for.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from graphssl.data import Atlas, Cohort, Provenance
from graphssl.data.regions import VALUE_KINDS, MatrixKind, ValueKind
from graphssl.datasets.arrays import is_whole_number, read_labelled
from graphssl.datasets.folder import PERSON, People, check_option, join, match_files, unmatched_rows
from graphssl.datasets.labelled import Array
from graphssl.datasets.regions import FileFormat, HeaderUse
from graphssl.errors import ChoiceError, ConfigError, DataError

Repeats = Literal["choose", "group"]
Excluded = list[tuple[str, str, str]]

# What differs between two scans of one subject; anything else that differs between two files is another version of the same scan.
SCAN_ENTITIES = ("ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "cond")
# What the stand-in for an atlas is called where files do not name theirs.
UNNAMED = "unnamed"


@dataclass(frozen=True)
class Content:
    """What a file holds, as far as its name or its layout say.

    Args:
        words: What to call it, such as `"relmat.tsv"`.
        kind: Kind of the values; None where the numbers have to tell.
        fisher_z: Whether correlations were transformed by arctanh; None where the numbers have to tell.
        variable: Name of the array in the file.
        rank: Of several contents of the same scans, the one of the lowest rank is read.
        measure: A measure that is named and not known; its kind has to be given.
    """

    words: str
    kind: ValueKind | None = None
    fisher_z: bool | None = None
    variable: str | None = None
    rank: int = 0
    measure: str = ""


@dataclass(frozen=True)
class Scan:
    """One file of one scan, in one atlas.

    Args:
        path: The file.
        subject: Subject id, as the name has it.
        content: What the file holds.
        atlas: What the name calls the atlas; empty where it says nothing.
        entities: What else the name says, such as `{"ses": "1", "desc": "simple"}`.
        pipeline: What made it, with its version where known.
        n_timepoints: Number of time points, where a sidecar tells it.
    """

    path: Path
    subject: str
    content: Content
    atlas: str = ""
    entities: Mapping[str, str] = field(default_factory=dict)
    pipeline: str = ""
    n_timepoints: int | None = None


@dataclass(frozen=True)
class Choices:
    """What the user decides where files leave it open.

    Args:
        select: Values that names must have, such as `("ses-1", "desc-simple")`; `"run-none"` takes those without a run.
        repeats: `"group"` keeps all scans of a subject as rows of one group.
        kind: Kind of the matrices.
        fisher_z: Whether correlations were transformed by arctanh.
        variable: Name of the array in `.mat` files, or the part of it that follows the atlas.
        header: Whether names of columns are checked.
        transpose: Whether the regions of a time series are rows.
        log1p: Whether counts of streamlines are turned into log(1 + count).

    Raises:
        ConfigError: If an option is none of those that exist.
    """

    select: Sequence[str] = ()
    repeats: Repeats = "choose"
    kind: MatrixKind | None = None
    fisher_z: bool | None = None
    variable: str | None = None
    header: HeaderUse = "check"
    transpose: bool = False
    log1p: bool = False

    def __post_init__(self) -> None:
        check_option("repeats", self.repeats, Repeats)
        check_option("header", self.header, HeaderUse)
        odd = [word for word in self.select if not word.partition("-")[2]]
        if odd:
            raise ConfigError(f"Expected select to name values as file names do, such as ses-1 or desc-simple; found {odd[0]!r}.")


def load_scans(root: Path, scans: Sequence[Scan], *, atlases: Sequence[Atlas], choices: Choices, people: People, source: str) -> Cohort:
    """Choose among files, read them, and make a cohort.

    Args:
        root: Where they lie, for messages and for the name of the cohort.
        scans: All files that were recognised.
        atlases: Atlases to read; each is found by name among those that the files name, or is the only one.
        choices: What was decided.
        people: The table of participants and its columns.
        source: What the provenance calls the source.

    Returns:
        A cohort with a row a subject; with `repeats="group"` a row a scan, and the column `person` with the role `group`.

    Raises:
        ChoiceError: If several things are there of which one has to be named.
        DataError: If files cannot be read, or two are the same scan.
        AtlasError: If files are of another atlas.
        SchemaError: If the table of participants does not fit.
        ConfigError: If an option does not fit what the files hold.
    """
    excluded: Excluded = []
    chosen = {atlas.name: _one_version(members, choices, excluded) for atlas, members in _by_atlas(_selected(scans, choices), atlases, excluded)}
    everything = [scan for members in chosen.values() for scan in members]
    keys = _varying(everything, choices)
    rows, table, people = _rows(root, everything, keys, people, excluded)
    sources = []
    for atlas in atlases:
        mine = [scan for scan in chosen[atlas.name] if _unit(scan, keys) in rows]
        if not mine:
            raise DataError(f"Expected scans in atlas {atlas.name!r} of subjects in the table, found none. Check the ids.")
        files = {rows[_unit(scan, keys)]: scan.path for scan in mine}
        _check_apart(mine, files, keys)
        sources.append((_layout(atlas, mine, choices, source), files))
    return join(people.name or root.resolve().name, table, sources, people, excluded)


def unknown_atlases(scans: Sequence[Scan], choices: Choices) -> list[Atlas]:
    """Stand-ins for the atlases of the files, with the labels or names that the first file of each carries and no places.

    They serve to check files where no atlas is at hand; nothing can be trained on them.

    Raises:
        DataError: If a file cannot be read.
    """
    found: dict[str, Atlas] = {}
    for scan in _selected(scans, choices):
        if scan.atlas not in found:
            content = min((other.content for other in scans if other.atlas == scan.atlas), key=lambda content: content.rank)
            first = next(other for other in scans if other.atlas == scan.atlas and other.content == content)
            array = read_labelled(first.path, variable=content.variable)
            array = array.transposed if choices.transpose else array
            found[scan.atlas] = stand_in(scan.atlas or UNNAMED, array.columns, array.values.shape[1])
    return list(found.values())


def stand_in(name: str, columns: Sequence[str] | None, n_regions: int) -> Atlas:
    """An atlas without places for columns of a file: their label ids where they are whole numbers, else their names."""
    numbered = columns is not None and all(is_whole_number(column) and int(column) > 0 for column in columns) and len(set(columns)) == len(columns)
    labels = np.array([int(column) for column in columns or ()]) if numbered else np.arange(1, n_regions + 1)
    names = tuple(columns) if columns is not None and not numbered and len(columns) == n_regions else ("",) * n_regions
    return Atlas(name, labels, names, np.zeros((n_regions, 3), np.float32), ("",) * n_regions)


# Choosing


def _selected(scans: Sequence[Scan], choices: Choices) -> list[Scan]:
    chosen = [scan for scan in scans if _has_variable(scan, choices.variable)]
    if scans and not chosen:
        keys = sorted({scan.content.variable or "one array without a name" for scan in scans})
        raise ChoiceError(f"Expected the variable {choices.variable!r}, found {', '.join(keys)}. Name one of them, or the part after the atlas.")
    for word in choices.select:
        key, _, value = word.partition("-")
        fitting = [scan for scan in chosen if _same(_value(scan, key), value)]
        if not fitting:
            there = _shown(_value(scan, key) for scan in chosen)
            raise ChoiceError(f"Expected files with {word}, found {key}: {there}. Select what is there.")
        chosen = fitting
    return chosen


def _has_variable(scan: Scan, variable: str | None) -> bool:
    key = scan.content.variable
    return (
        variable is None or key is None or key == variable or key.removesuffix("_connectivity").endswith(f"_{variable.removesuffix('_connectivity')}")
    )


def _value(scan: Scan, key: str) -> str:
    """The value of an entity, or `none` where the name has none: XCP-D writes all runs together without `run-`."""
    return (scan.atlas if key in ("atlas", "seg") else scan.entities.get(key, "")) or "none"


def _same(found: str, wanted: str) -> bool:
    """Whether two values are one; `01` is 1."""
    return found == wanted or (found.isdigit() and wanted.isdigit() and int(found) == int(wanted))


def _by_atlas(scans: Sequence[Scan], atlases: Sequence[Atlas], excluded: Excluded) -> list[tuple[Atlas, list[Scan]]]:
    there: defaultdict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        there[scan.atlas].append(scan)
    if len(there) == 1 and len(atlases) == 1:
        return [(atlases[0], list(scans))]
    found = []
    for atlas in atlases:
        token = next((name for name in there if _plain(name) == _plain(atlas.name)), None)
        if token is None:
            names = ", ".join(name or "one without a name" for name in there)
            raise ChoiceError(
                f"Expected files in the atlas {atlas.name!r}, found the atlases {names}. Name the atlas as they do "
                f"(--atlas '{next(iter(there))}=FILE', or load_atlas(…, name=…)), or choose the files with select, such as atlas-{next(iter(there))}."
            )
        found.append((atlas, there.pop(token)))
    excluded += [("file", f"atlas {name} ({len(members)} files)", "no atlas of that name was given") for name, members in there.items()]
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _one_version(scans: list[Scan], choices: Choices, excluded: Excluded) -> list[Scan]:
    """One content in one version, the same for everybody."""
    scans = _of_kind(scans, choices)
    by_rank: defaultdict[int, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_rank[scan.content.rank].append(scan)
    best = min(by_rank, key=lambda rank: (-len({_scan_key(scan) for scan in by_rank[rank]}), rank))
    chosen = by_rank.pop(best)
    for members in by_rank.values():
        excluded.append(("file", f"{members[0].content.words} ({len(members)} files)", f"not read: {chosen[0].content.words} was"))
    keys = dict.fromkeys(key for scan in chosen for key in scan.entities if key not in SCAN_ENTITIES)
    if choices.repeats == "choose":
        keys["task"] = None
    for key in keys:
        values = sorted({scan.entities.get(key, "") for scan in chosen})
        if len(values) > 1:
            raise ChoiceError(_which(key, values, len(chosen)))
    return chosen


def _of_kind(scans: list[Scan], choices: Choices) -> list[Scan]:
    wanted: list[tuple[str, Callable[[Content], object], object]] = [
        ("kind", lambda content: content.kind, choices.kind),
        ("fisher_z", lambda content: content.fisher_z, choices.fisher_z),
    ]
    for what, value_of, value in wanted:
        fitting = [scan for scan in scans if value is None or value_of(scan.content) in (None, value)]
        if not fitting:
            there = _shown(str(value_of(scan.content)) for scan in scans)
            raise ChoiceError(f"Expected files with {what}={value!r}, found those with {there}. Leave {what} out, or give another path.")
        scans = fitting
    return scans


def _which(key: str, values: Sequence[str], n_files: int) -> str:
    if key == "variable":
        return f"Expected one matrix a scan, found {len(values)} in each file: {', '.join(values)}. Name the one to read with variable=…"
    shown = ", ".join(value or "none" for value in values)
    word = next(value for value in values if value)
    return f"Expected files of one {key}, found {n_files} of several: {shown}. Choose with select, such as {key}-{word}."


def _shown(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))


# Subjects and scans


def _scan_key(scan: Scan) -> Hashable:
    return scan.subject, *(scan.entities.get(key, "") for key in SCAN_ENTITIES)


def _varying(scans: Sequence[Scan], choices: Choices) -> tuple[str, ...]:
    """The entities by which scans of one subject differ, and which stand in the id of a row.

    Raises:
        ChoiceError: If a subject has several scans and they are not to be kept as a group.
    """
    by_subject: defaultdict[str, set[Hashable]] = defaultdict(set)
    for scan in scans:
        by_subject[scan.subject].add(_scan_key(scan))
    repeated = {subject for subject, keys in by_subject.items() if len(keys) > 1}
    if not repeated:
        return ()
    mine = [scan for scan in scans if scan.subject in repeated]
    differing = {key: sorted({scan.entities.get(key, "") for scan in mine}) for key in SCAN_ENTITIES}
    differing = {key: values for key, values in differing.items() if len(values) > 1}
    if choices.repeats == "group":
        return tuple(differing)
    there = "; ".join(f"{key}: {', '.join(value or 'none' for value in values)}" for key, values in differing.items())
    words = " ".join(f"{key}-{next(value for value in values if value)}" for key, values in differing.items())
    raise ChoiceError(
        f"Expected one scan a subject, found several of {len(repeated)} subjects ({there}). Choose with select, such as {words}, "
        'or keep all of them with repeats="group": a row a scan, whose person never stands on both sides of a split.'
    )


def _unit(scan: Scan, keys: Sequence[str]) -> str:
    return "_".join([scan.subject, *(f"{key}-{scan.entities[key]}" for key in keys if scan.entities.get(key))])


def _check_apart(scans: Sequence[Scan], files: Mapping[str, Path], keys: Sequence[str]) -> None:
    if len(files) == len(scans):
        return
    by_unit: defaultdict[str, list[Path]] = defaultdict(list)
    for scan in scans:
        by_unit[_unit(scan, keys)].append(scan.path)
    paths = next(paths for paths in by_unit.values() if len(paths) > 1)
    raise DataError(f"Expected one file a scan, found {len(paths)} of the same: {', '.join(map(str, paths[:3]))}. Give a folder with one of them.")


def _rows(root: Path, scans: Sequence[Scan], keys: Sequence[str], people: People, excluded: Excluded) -> tuple[dict[str, str], pd.DataFrame, People]:
    """Row by unit of the scans that have one, the table of these rows, and the roles of its columns."""
    ids = {scan.subject: scan.subject for scan in scans}
    table = people.read_table(root)
    if table is not None:
        called = {Path(f"{scan.subject}{scan.path.suffix}"): scan.subject for scan in scans}
        matches = match_files(list(called), table.index.tolist())
        people.check_all_matched(matches)
        excluded += unmatched_rows(matches)
        ids = {called[path]: subject for subject, path in matches.files.items()}
    units = {_unit(scan, keys): scan.subject for scan in scans if scan.subject in ids}
    rows = {unit: ids[subject] + unit.removeprefix(subject) for unit, subject in units.items()}
    persons = pd.Series([ids[subject] for subject in units.values()], index=pd.Index(list(rows.values()), dtype="str"), dtype="str")
    if table is None:
        table = pd.DataFrame(index=persons.index)
    else:
        position = {subject: place for place, subject in enumerate(table.index)}
        persons = persons.iloc[np.argsort([position[person] for person in persons], kind="stable")]
        table = table.loc[persons.tolist()].set_index(persons.index)
    if keys:
        table, people = table.assign(**{PERSON: persons}), replace(people, repeated=True)
    return rows, table, people


# What the numbers are


def _layout(atlas: Atlas, scans: Sequence[Scan], choices: Choices, source: str) -> FileFormat:
    contents = {(scan.content.kind, scan.content.fisher_z, scan.content.variable) for scan in scans}
    if len(contents) > 1:
        there = _shown(scan.content.words for scan in scans)
        raise ChoiceError(f"Expected files of one content in atlas {atlas.name!r}, found {there}. Choose with kind=…, fisher_z=… or select.")
    content = scans[0].content
    lengths = [scan.n_timepoints for scan in scans if scan.n_timepoints is not None]
    kind, fisher_z = _settled(scans[0], choices)
    provenance = Provenance(
        kind,
        fisher_z,
        " + ".join(dict.fromkeys(scan.pipeline for scan in scans if scan.pipeline)),
        source,
        n_timepoints=(min(lengths), max(lengths)) if lengths else None,
    )
    return FileFormat(atlas, provenance, content.variable, choices.transpose, choices.header, log1p=choices.log1p)


def _settled(scan: Scan, choices: Choices) -> tuple[ValueKind, bool]:
    """Kind and whether it is Fisher z: as the user or the layout says, else as the numbers of the first file tell."""
    kind = scan.content.kind or choices.kind
    fisher_z = choices.fisher_z if scan.content.fisher_z is None else scan.content.fisher_z
    if kind is None and scan.content.measure:
        raise ChoiceError(
            f"Expected a measure that is known, found {scan.content.measure!r} in {scan.path.name}. Say with kind=… what the matrices are, "
            "such as adjacency for the weights of any graph."
        )
    if kind in ("correlation", "partial correlation"):
        return kind, bool(is_fisher_z(read_labelled(scan.path, variable=scan.content.variable).values) if fisher_z is None else fisher_z)
    if kind is not None:
        return kind, bool(fisher_z)
    return kind_of(read_labelled(scan.path, variable=scan.content.variable).values, fisher_z, scan.path.name)


def is_fisher_z(matrix: Array) -> bool:
    """Whether correlations were transformed: something lies beyond ±1, or the diagonal is infinite as arctanh(1) is."""
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    return bool(np.isinf(matrix.diagonal()).any() or (np.abs(off[np.isfinite(off)]) > _LARGEST_CORRELATION).any())


def kind_of(matrix: Array, fisher_z: bool | None, name: str) -> tuple[MatrixKind, bool]:
    """What a matrix of which nothing is said may be: correlations, or counts of streamlines.

    Raises:
        ChoiceError: If it may be several things.
    """
    off = np.where(np.eye(len(matrix), dtype=bool) | ~np.isfinite(matrix), 0.0, matrix)
    if np.abs(off).max() <= _LARGEST_CORRELATION:
        return "correlation", bool(fisher_z if fisher_z is not None else np.isinf(matrix.diagonal()).any())
    if fisher_z or np.isinf(matrix.diagonal()).all():
        return "correlation", True
    if off.min() >= 0 and (off % 1 == 0).all():
        return "streamline count", False
    raise ChoiceError(
        f"Expected matrices whose kind is plain, found values from {off.min():.3g} to {off.max():.3g} in {name}. Say what they are: fisher_z=True "
        f"for Fisher z, or kind=… with one of {', '.join(VALUE_KINDS[1:])}."
    )


_LARGEST_CORRELATION = 1 + 1e-4
