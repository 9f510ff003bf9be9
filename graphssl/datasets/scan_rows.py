"""Scans as rows of a cohort: the chosen files meet the table of participants. Every layout of one file a scan ends here."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from graphssl.data import Atlas, Cohort, Provenance
from graphssl.data.regions import ValueKind
from graphssl.datasets.arrays import read_labelled
from graphssl.datasets.folder import People, join, match_files, unmatched_rows
from graphssl.datasets.kinds import is_fisher_z, kind_of
from graphssl.datasets.labelled import Place
from graphssl.datasets.participants import PERSON
from graphssl.datasets.regions import FileFormat
from graphssl.datasets.scan_files import SCAN_ENTITIES, Choices, Excluded, Scan, by_atlas, one_version, readable, scan_key, selected, shown
from graphssl.errors import ChoiceError, DataError


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
    fitting = by_atlas(selected(readable(scans, excluded), choices), atlases, excluded)
    chosen = {atlas.name: one_version(members, choices, excluded) for atlas, members in fitting}
    everything = [scan for members in chosen.values() for scan in members]
    keys = _varying(everything, choices)
    rows, table, people = _rows(root, everything, keys, people, excluded)
    sources = []
    for atlas in atlases:
        mine = [scan for scan in chosen[atlas.name] if _unit(scan, keys) in rows]
        if not mine:
            raise DataError(f"Expected scans in atlas {atlas.name!r} of subjects in the table, found none. Check the ids.")
        files = {rows[_unit(scan, keys)]: scan.place for scan in mine}
        _check_apart(mine, files, keys)
        sources.append((_layout(atlas, mine, choices, source), files))
    return join(people.name or root.resolve().name, table, sources, people, excluded)


# Subjects and scans


def _varying(scans: Sequence[Scan], choices: Choices) -> tuple[str, ...]:
    """The entities by which scans of one subject differ, and which stand in the id of a row.

    Raises:
        ChoiceError: If a subject has several scans and they are not to be kept as a group.
    """
    by_subject: defaultdict[str, set[Hashable]] = defaultdict(set)
    for scan in scans:
        by_subject[scan.subject].add(scan_key(scan))
    repeated = {subject for subject, keys in by_subject.items() if len(keys) > 1}
    if not repeated:
        return ()
    mine = [scan for scan in scans if scan.subject in repeated]
    differing = {key: sorted({scan.entities.get(key, "") for scan in mine}) for key in SCAN_ENTITIES}
    differing = {key: values for key, values in differing.items() if len(values) > 1}
    if choices.repeats == "group":
        return tuple(differing)
    there = "; ".join(f"{key}: {', '.join(value or 'none' for value in values)}" for key, values in differing.items())
    words = ", ".join(f'"{key}-{next(value for value in values if value)}"' for key, values in differing.items())
    raise ChoiceError(
        f"Expected one scan a subject, found several of {len(repeated)} subjects ({there}). Choose with select=[{words}], "
        'or keep all of them with repeats="group": a row a scan, whose person never stands on both sides of a split.'
    )


def _unit(scan: Scan, keys: Sequence[str], subject: str | None = None) -> str:
    """What tells a scan from others: its subject, here perhaps under another id, and the entities by which scans differ."""
    return "_".join([subject or scan.subject, *(f"{key}-{scan.entities[key]}" for key in keys if scan.entities.get(key))])


def _check_apart(scans: Sequence[Scan], files: Mapping[str, Place], keys: Sequence[str]) -> None:
    if len(files) == len(scans):
        return
    by_unit: defaultdict[str, list[Path]] = defaultdict(list)
    for scan in scans:
        by_unit[_unit(scan, keys)].append(scan.path)
    paths = next(paths for paths in by_unit.values() if len(paths) > 1)
    raise DataError(f"Expected one file a scan, found {len(paths)} of the same: {', '.join(map(str, paths[:3]))}. Give a folder with one of them.")


def _rows(root: Path, scans: Sequence[Scan], keys: Sequence[str], people: People, excluded: Excluded) -> tuple[dict[str, str], pd.DataFrame, People]:
    """Row by unit of the scans that have one, the table of these rows, and the roles of its columns."""
    table, people = people.with_table(root)
    # A table with a row a session is met by the sessions of the files.
    own = ["ses"] if people.repeated else []
    ids = {_unit(scan, own): _unit(scan, own) for scan in scans}
    if table is not None:
        called = {Path(f"{unit}{scan.path.suffix}"): unit for scan in scans for unit in [_unit(scan, own)]}
        matches = match_files(list(called), table.index.tolist())
        people.check_all_matched(matches)
        excluded += unmatched_rows(matches)
        ids = {called[path]: subject for subject, path in matches.files.items()}
    others = [key for key in keys if key not in own]
    found = {_unit(scan, keys): (ids[_unit(scan, own)], scan) for scan in scans if _unit(scan, own) in ids}
    rows = {unit: _unit(scan, others, subject) for unit, (subject, scan) in found.items()}
    origin = pd.Series([subject for subject, _ in found.values()], index=pd.Index(list(rows.values()), dtype="str"), dtype="str")
    if table is None:
        table = pd.DataFrame(index=origin.index)
    else:
        position = {subject: place for place, subject in enumerate(table.index)}
        origin = origin.iloc[np.argsort([position[subject] for subject in origin], kind="stable")]
        table = table.loc[origin.tolist()].set_index(origin.index)
    if keys and not own:
        table, people = table.assign(**{PERSON: origin}), replace(people, repeated=True)
    return rows, table, people


# What the numbers are


def _layout(atlas: Atlas, scans: Sequence[Scan], choices: Choices, source: str) -> FileFormat:
    contents = {(scan.content.kind, scan.content.fisher_z, scan.content.variable) for scan in scans}
    if len(contents) > 1:
        there = shown(scan.content.words for scan in scans)
        raise ChoiceError(f"Expected files of one content in atlas {atlas.name!r}, found {there}. Choose with kind=…, fisher_z=… or select=…")
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
        return kind, bool(is_fisher_z(read_labelled(scan.place, variable=scan.content.variable).values) if fisher_z is None else fisher_z)
    if kind is not None:
        return kind, bool(fisher_z)
    return kind_of(read_labelled(scan.place, variable=scan.content.variable).values, fisher_z, scan.path.name)
