"""Files of scans, and which of them to read.

A pipeline leaves several files of one scan: other atlases, other measures, other denoising, other formats; and a subject may have been scanned more
than once. Nothing of this is merged or chosen in silence: what is not read is listed, and what only the user can decide is asked for.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from graphssl.data import Atlas
from graphssl.data.regions import MatrixKind, ValueKind
from graphssl.datasets.folder import check_option
from graphssl.datasets.labelled import Page, Place
from graphssl.datasets.regions import HeaderUse
from graphssl.errors import ChoiceError, ConfigError, DataError

Repeats = Literal["choose", "group"]
Excluded = list[tuple[str, str, str]]

# What differs between two scans of one subject; anything else that differs between two files is another version of the same scan.
SCAN_ENTITIES = ("ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "cond")


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
        no_scan: Why it is not read, for what is no connectome of a scan.
    """

    words: str
    kind: ValueKind | None = None
    fisher_z: bool | None = None
    variable: str | None = None
    rank: int = 0
    measure: str = ""
    no_scan: str = ""


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
        page: Place of its matrix in the file, from 0, where the file holds those of several subjects.
    """

    path: Path
    subject: str
    content: Content
    atlas: str = ""
    entities: Mapping[str, str] = field(default_factory=dict)
    pipeline: str = ""
    n_timepoints: int | None = None
    page: int | None = None

    @property
    def place(self) -> Place:
        """Where its array is."""
        return self.path if self.page is None else Page(self.path, self.page)


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


def selected(scans: Sequence[Scan], choices: Choices) -> list[Scan]:
    """Files with the values and the variable that were asked for.

    Raises:
        ChoiceError: If there is none; says what there is.
    """
    chosen = [scan for scan in scans if _has_variable(scan, choices.variable)]
    if scans and not chosen:
        keys = sorted({scan.content.variable or "one array without a name" for scan in scans})
        raise ChoiceError(f"Expected the variable {choices.variable!r}, found {', '.join(keys)}. Name one of them, or the part after the atlas.")
    for word in choices.select:
        key, _, value = word.partition("-")
        fitting = [scan for scan in chosen if _same(_value(scan, key), value)]
        if not fitting:
            there = shown(_value(scan, key) for scan in chosen)
            raise ChoiceError(f"Expected files with {word}, found {key}: {there}. Select what is there.")
        chosen = fitting
    return chosen


def readable(scans: Sequence[Scan], excluded: Excluded) -> list[Scan]:
    """Files that hold scans; others that the layout knows are added to `excluded`, with the reason.

    Raises:
        DataError: If there are only others.
    """
    by_reason: defaultdict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_reason[scan.content.no_scan].append(scan)
    chosen = by_reason.pop("", [])
    for reason, members in by_reason.items():
        if not chosen:
            raise DataError(f"Expected scans, found {_counted(members)} only: {reason}.")
        excluded.append(("file", _counted(members), reason))
    return chosen


def by_atlas(scans: Sequence[Scan], atlases: Sequence[Atlas], excluded: Excluded) -> list[tuple[Atlas, list[Scan]]]:
    """Files of each atlas; those of others are added to `excluded`.

    Raises:
        ChoiceError: If files name no such atlas.
    """
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
                f"(--atlas '{next(iter(there))}=FILE', or load_atlas(…, name=…)), or choose the files with select=[\"atlas-{next(iter(there))}\"]."
            )
        found.append((atlas, there.pop(token)))
    excluded += [("file", f"atlas {name} ({len(members)} files)", "no atlas of that name was given") for name, members in there.items()]
    return found


def one_version(scans: list[Scan], choices: Choices, excluded: Excluded) -> list[Scan]:
    """One content in one version, the same for everybody; other contents are added to `excluded`.

    Raises:
        ChoiceError: If versions differ and none was chosen.
    """
    scans = _of_kind(scans, choices)
    by_rank: defaultdict[int, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_rank[scan.content.rank].append(scan)
    best = min(by_rank, key=lambda rank: (-len({scan_key(scan) for scan in by_rank[rank]}), rank))
    chosen = by_rank.pop(best)
    for members in by_rank.values():
        excluded.append(("file", _counted(members), f"{chosen[0].content.words} was read instead"))
    keys = dict.fromkeys(key for scan in chosen for key in scan.entities if key not in SCAN_ENTITIES)
    if choices.repeats == "choose":
        keys["task"] = None
    for key in keys:
        values = sorted({scan.entities.get(key, "") for scan in chosen})
        if len(values) > 1:
            raise ChoiceError(_which(key, values, len(chosen)))
    return chosen


def scan_key(scan: Scan) -> Hashable:
    """The same for all files of one scan."""
    return scan.subject, *(scan.entities.get(key, "") for key in SCAN_ENTITIES)


def shown(values: Iterable[str]) -> str:
    """Values that are there, for a message."""
    return ", ".join(sorted({value for value in values if value}))


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


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _counted(scans: Sequence[Scan]) -> str:
    """What files of one content are called, and how many they are."""
    n_files = len({scan.path for scan in scans})
    return f"{scans[0].content.words} ({n_files} {'file' if n_files == 1 else 'files'})"


def _of_kind(scans: list[Scan], choices: Choices) -> list[Scan]:
    wanted: list[tuple[str, Callable[[Content], object], object]] = [
        ("kind", lambda content: content.kind, choices.kind),
        ("fisher_z", lambda content: content.fisher_z, choices.fisher_z),
    ]
    for what, value_of, value in wanted:
        fitting = [scan for scan in scans if value is None or value_of(scan.content) in (None, value)]
        if not fitting:
            there = shown(str(value_of(scan.content)) for scan in scans)
            raise ChoiceError(f"Expected files with {what}={value!r}, found those with {there}. Leave {what} out, or give another path.")
        scans = fitting
    return scans


def _which(key: str, values: Sequence[str], n_files: int) -> str:
    if key == "variable":
        return f"Expected one matrix a scan, found {len(values)} in each file: {', '.join(values)}. Name the one to read with variable=…"
    shown = ", ".join(value or "none" for value in values)
    word = next(value for value in values if value)
    return f'Expected files of one {key}, found {n_files} of several: {shown}. Choose with select=["{key}-{word}"].'
