"""A folder of one file a subject, joined with a table of participants."""

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from graphssl.data import Cohort, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.regions import missing_regions as list_missing_regions
from graphssl.data.schema import Role
from graphssl.datasets.arrays import SUFFIXES
from graphssl.datasets.data_dictionary import read_data_dictionary, with_units
from graphssl.datasets.labelled import Place
from graphssl.datasets.participants import PERSON, drop_empty_columns, find_participants, is_longitudinal, read_participants, roles_of
from graphssl.datasets.regions import FileFormat, HeaderUse, MissingRegions, read_regions, without_signal
from graphssl.errors import ConfigError, DataError, SchemaError

OnUnmatched = Literal["error", "exclude"]


@dataclass(frozen=True)
class Matches:
    """Files and subjects put together.

    Args:
        files: File by subject id, in the order of the ids.
        ids_without_file: Subjects of the table without a file.
        files_without_id: Files that belong to no subject of the table.
    """

    files: dict[str, Path]
    ids_without_file: tuple[str, ...] = ()
    files_without_id: tuple[Path, ...] = ()


@dataclass(frozen=True)
class People:
    """Who took part, what each column is for, and how strictly scans and people are put together.

    Args:
        participants: Table of participants; without any, every scan is a subject and there are no columns.
        id_column: Column of the subject ids.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family, or of the person where scans are repeated.
        covariates: Columns that may explain the target without the brain. All others have the role `feature`.
        missing_regions: `"mask"` hides a region without signal in a subject, and lists it in `excluded`.
        on_unmatched: `"exclude"` leaves out and lists subjects without a file and files without a subject.
        name: Name of the cohort; that of the folder when left out.
        repeated: Whether a row is a scan, and the column `person` groups those of one person.

    Raises:
        ConfigError: If an option is none of those that exist.
        SchemaError: If one column is given two roles.
    """

    participants: str | os.PathLike[str] | pd.DataFrame | None = None
    id_column: str = "participant_id"
    target: str | None = None
    site: str | None = None
    group: str | None = None
    covariates: Sequence[str] = ()
    missing_regions: MissingRegions = "error"
    on_unmatched: OnUnmatched = "exclude"
    name: str | None = None
    repeated: bool = False

    def __post_init__(self) -> None:
        check_option("missing_regions", self.missing_regions, MissingRegions)
        check_option("on_unmatched", self.on_unmatched, OnUnmatched)
        self.roles  # noqa: B018 - refuses a column with two roles at once

    @property
    def roles(self) -> dict[str, Role]:
        """Role by column name."""
        given = roles_of(self.target, self.site, self.group, self.covariates)
        return {**given, PERSON: "group"} if self.repeated else given

    def with_table(self, source: Path) -> "tuple[pd.DataFrame | None, People]":
        """The table of participants, or None where there is none and no column has a role; and what its columns are for.

        Raises:
            DataError: If it cannot be read.
            SchemaError: If it does not fit, or is needed and absent.
        """
        if self.participants is not None:
            table = read_participants(self.participants, id_column=self.id_column, roles=self.roles)
            self._check_columns(table)
            return table, replace(self, repeated=is_longitudinal(table))
        if self.roles:
            raise SchemaError(
                f"Expected a table with the columns {list(self.roles)}, found no participants.tsv or .csv in {source}. Pass participants=…"
            )
        return None, self

    def schema(self, table: pd.DataFrame) -> Schema:
        """The columns of a table that was read.

        Raises:
            SchemaError: If a role names a column that is absent.
        """
        return with_units(Schema.infer(table, self.roles), read_data_dictionary(self.participants))

    def _check_columns(self, table: pd.DataFrame) -> None:
        absent = [name for name in self.roles if name not in table.columns]
        if absent:
            names = [str(name) for name in table.columns]
            plain = {name.casefold(): name for name in names}
            near = difflib.get_close_matches(absent[0].casefold(), plain, n=1)
            perhaps = f" Did you mean {plain[near[0]]!r}?" if near else ""
            raise SchemaError(f"Expected a column {absent[0]!r} in the table, found {', '.join(names)}.{perhaps}")

    def check_all_matched(self, matches: Matches) -> None:
        """Refuse subjects without a file and files without a subject, where that is asked for.

        Raises:
            DataError: If there are any; names some.
        """
        if self.on_unmatched == "error":
            _check_all_matched(matches)


def load_folder(folder: str | os.PathLike[str], layout: FileFormat, people: People, pattern: str | None = None) -> Cohort:
    """Load a folder as `load_timeseries` and `load_matrices` describe; `layout` says what the files hold.

    Raises:
        DataError: If there are no files, no file fits a subject, two fit one, or files cannot be read.
        AtlasError: If no file fits the atlas.
        SchemaError: If the table does not fit, or ids differ from file names in leading zeros only.
        ConfigError: If an option is none of those that exist.
    """
    check_option("header", layout.header, HeaderUse)
    source = Path(folder)
    root = source.parent if source.is_file() else source
    if people.participants is None:
        people = replace(people, participants=find_participants(root))
    given = people.participants
    files = [source] if source.is_file() else find_files(source, pattern, leave_out=given if isinstance(given, str | os.PathLike) else None)
    table, people = people.with_table(root)
    matches = match_stems(files) if table is None else match_files(files, table.index.tolist())
    people.check_all_matched(matches)
    if table is None:
        table = pd.DataFrame(index=pd.Index(list(matches.files), dtype="str"))
    return join(people.name or source.resolve().stem, table, [(layout, matches.files)], people, unmatched_rows(matches))


def join(
    name: str,
    table: pd.DataFrame,
    sources: Sequence[tuple[FileFormat, Mapping[str, Place]]],
    people: People,
    excluded: Sequence[tuple[str, str, str]] = (),
) -> Cohort:
    """Read files of one atlas or several and make a cohort of everybody who has a signal in at least one.

    Args:
        name: Name of the cohort.
        table: Row by subject id.
        sources: Layout and file by subject id, by atlas.
        people: What each column is for, and what happens to regions without signal.
        excluded: What was left out before.

    Raises:
        DataError: If nobody has a signal, or files cannot be read or do not fit.
        AtlasError: If no file fits its atlas.
        SchemaError: If a role names a column that is absent.
    """
    regions = {layout.atlas.name: read_regions(files, layout, people.missing_regions) for layout, files in sources}
    ids = [subject for subject in table.index if any(subject in data.values for data in regions.values())]
    if not ids:
        n_files = sum(len(files) for _, files in sources)
        raise DataError(f"Expected a signal in some region of {', '.join(regions)} for some subject, found none in {n_files} files.")
    rows = list(excluded)
    for layout, files in sources:
        data = regions[layout.atlas.name]
        rows += [*without_signal(data, files), *list_missing_regions(data, ids)]
        rows += [("region", subject, f"no file of atlas {layout.atlas.name}") for subject in ids if subject not in files]
    chosen, empty = drop_empty_columns(table.loc[ids], people.roles)
    excluded_table = pd.DataFrame([*rows, *empty], columns=list(EXCLUDED_COLUMNS), dtype="str")
    return Cohort(name, chosen, people.schema(chosen), regions, excluded_table)


def check_option(name: str, value: str, options: object) -> None:
    """Check an argument against the literal it is typed as.

    Raises:
        ConfigError: If it is none of them.
    """
    if value not in get_args(options):
        raise ConfigError(f"Expected {name} to be one of {', '.join(map(repr, get_args(options)))}; found {value!r}.")


def find_files(folder: Path, pattern: str | None = None, leave_out: str | os.PathLike[str] | None = None) -> list[Path]:
    """Files of a folder that may hold an array, sorted by path.

    Args:
        folder: The folder.
        pattern: Which files, such as `"**/*_timeseries.tsv"`; those with a known ending in the folder itself when left out.
        leave_out: A file that is none of them, such as the table of participants.

    Raises:
        DataError: If the folder is absent or no file fits.
        ConfigError: If the pattern is empty, or a whole path.
    """
    if not folder.is_dir():
        raise DataError(f"Expected a folder at {folder}, found none. Check the path.")
    if pattern is not None and (not pattern or Path(pattern).is_absolute()):
        raise ConfigError(f"Expected a pattern of names below the folder, such as '**/*_fc.csv', found {pattern!r}. Leave the folder out of it.")
    known = {suffix.lower() for suffix in SUFFIXES} | ({".txt"} if pattern is not None else set())
    candidates = folder.iterdir() if pattern is None else folder.glob(pattern)
    tables = [folder / "participants.tsv", folder / "participants.csv", *([Path(leave_out)] if leave_out is not None else [])]
    left_out = {path.resolve() for path in tables}
    readable = (path for path in candidates if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file())
    files = sorted(path for path in readable if path.resolve() not in left_out)
    if not files:
        raise DataError(f"Expected files {_wanted(pattern)} in {folder}, found none.{_hint(folder, known)}")
    return files


def match_stems(files: Sequence[Path]) -> Matches:
    """Every file is a subject; its name without the ending is the id, or that of its folder where all files are called alike (`H01/fc.csv`).

    Raises:
        DataError: If two files have one name with different endings.
    """
    by_id: defaultdict[str, list[Path]] = defaultdict(list)
    for path, called in _called(files).items():
        by_id[called].append(path)
    return Matches(_one_each(by_id))


def match_files(files: Sequence[Path], ids: Sequence[str]) -> Matches:
    """Find the subject of each file in its name.

    An id fits a name that equals it, or that holds it as a whole token (`Olin_0050102_rois_cc200` holds `0050102` and `Olin_0050102`); the longest
    id that fits counts; `0012_ses-baseline` is also found as `0012_baseline`. In a BIDS name (`sub-01_task-rest_run-1`) it is what follows `sub-`, so
    that a run is not taken for a subject. Where all files are called alike (`H01/fc.csv`), the names of their folders are looked at instead.

    Args:
        files: The files.
        ids: Subject ids of the table.

    Raises:
        DataError: If a name fits two subjects, two names fit one subject, or nothing fits.
        SchemaError: If ids and names differ in leading zeros, or in upper and lower case, only.
    """
    known = {subject.removeprefix("sub-").replace("_ses-", mark): subject for mark in ("_", "_ses-") for subject in ids}
    known |= {subject: subject for subject in ids}
    known = {_composed(name): subject for name, subject in known.items()}
    by_id: defaultdict[str, list[Path]] = defaultdict(list)
    strangers = []
    names = _called(files)
    for path, called in names.items():
        fitting = _ids_in_name(called, known)
        if len(fitting) > 1:
            both = " and ".join(map(repr, fitting))
            raise DataError(f"Expected one subject a file, found {path.name} to fit {both}. Rename it, or leave it out with a pattern.")
        if fitting:
            by_id[fitting[0]].append(path)
        else:
            strangers.append(path)
    without = [subject for subject in ids if subject not in by_id]
    _check_zeros(without, [(path, names[path]) for path in strangers])
    if not by_id:
        _check_case(without, [(path, names[path]) for path in strangers])
        raise DataError(
            f"Expected file names that hold subject ids of the table, found none among {len(files)} files and {len(ids)} subjects: "
            f"files such as {_examples(_shown(files))}; ids such as {_examples(list(ids))}. "
            "Name the column that the files are called by with id_column=…"
        )
    return Matches(_one_each({subject: by_id[subject] for subject in ids if subject in by_id}), tuple(without), tuple(strangers))


def unmatched_rows(matches: Matches) -> list[tuple[str, str, str]]:
    """What did not meet, as rows of a cohort's list of things left out."""
    rows = [("subject", subject, "in the table, without a file") for subject in matches.ids_without_file]
    shown = dict(zip(all_files := [*matches.files_without_id, *matches.files.values()], _shown(all_files), strict=True))
    return rows + [("subject", shown[path], "a file, without a row in the table") for path in matches.files_without_id]


def _called(files: Sequence[Path]) -> dict[Path, str]:
    """By what each file is known: its name without the ending; that of its folder where all files are called alike."""
    by_folder = len(files) > 1 and len({path.name for path in files}) == 1
    return {path: path.parent.name if by_folder else path.stem for path in files}


def _shown(files: Sequence[Path]) -> list[str]:
    """Names of files for a message, with their folder where names repeat."""
    names = [path.name for path in files]
    return [path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}" for path in files]


def _ids_in_name(stem: str, known: Mapping[str, str]) -> list[str]:
    """Subjects that a file name fits: none, one, or several whose ids are of one length. `known` gives the subject by what it may be called."""
    stem = _composed(stem)
    if stem in known:
        return [known[stem]]
    tokens = list(_TOKEN.finditer(stem))
    starts = [token.start() for token in tokens]
    if stem.startswith(_BIDS):
        starts = [start for start in starts if start in (0, len(_BIDS))]
    spans = {stem[start : token.end()] for start in starts for token in tokens if token.end() > start}
    fitting = sorted(spans & known.keys())
    longest = max(map(len, fitting), default=0)
    return list(dict.fromkeys(known[name] for name in fitting if len(name) == longest))


def _composed(name: str) -> str:
    """A name with letters and their accents as one: file systems of Apple write them as two, tables as one."""
    return unicodedata.normalize("NFC", name)


def _check_zeros(ids: Sequence[str], files: Sequence[tuple[Path, str]]) -> None:
    bare_ids = {_bare(subject): subject for subject in ids if _bare(subject)}
    tokens = [(path, token) for path, called in files for token in _numeric_tokens(called)]
    pairs = [(bare_ids[_bare(token)], token, path.name) for path, token in tokens if _bare(token) in bare_ids]
    if pairs:
        subject, token, name = pairs[0]
        raise SchemaError(
            f"Expected ids as they stand in the file names, found id {subject!r} in the table and {token!r} in {name}: one number with other leading "
            f"zeros, as in {len(pairs)} files. Read the id column as text (dtype=str), or pad it: "
            f'table[column].astype("str").str.zfill({len(token)}).'
        )


def _check_case(ids: Sequence[str], files: Sequence[tuple[Path, str]]) -> None:
    plain = {name.casefold(): subject for subject in ids for name in (subject.removeprefix(_BIDS), subject)}
    pairs = [(path.name, fitting[0]) for path, called in files if (fitting := _ids_in_name(called.casefold(), plain))]
    if pairs:
        raise SchemaError(
            f"Expected ids as they stand in the file names, found id {pairs[0][1]!r} in the table for {pairs[0][0]}: another use of capitals, as in "
            f"{len(pairs)} files. Write them alike."
        )


def _numeric_tokens(stem: str) -> list[str]:
    if stem.startswith(_BIDS):
        return [stem.removeprefix(_BIDS).split("_")[0]]
    return _TOKEN.findall(stem)


def _bare(name: str) -> str:
    """A numeric id without prefix and leading zeros; empty where it is no number."""
    digits = name.removeprefix(_BIDS)
    return (digits.lstrip("0") or "0") if digits.isascii() and digits.isdigit() else ""


def _one_each(by_id: dict[str, list[Path]]) -> dict[str, Path]:
    several = {subject: paths for subject, paths in by_id.items() if len(paths) > 1}
    if several:
        subject, paths = next(iter(several.items()))
        names = ", ".join(_shown(paths)[:3])
        raise DataError(
            f"Expected one file a subject, found {len(several)} subjects with more, such as {subject!r}: {names}. "
            'Choose files with a pattern such as pattern="*_run-1_*"; repeated scans need a row and an id each, and a group column.'
        )
    return {subject: paths[0] for subject, paths in by_id.items()}


def _check_all_matched(matches: Matches) -> None:
    n_ids, n_files = len(matches.ids_without_file), len(matches.files_without_id)
    if n_ids or n_files:
        raise DataError(
            f"Expected a file for every subject and a subject for every file, found {n_ids} subjects without a file "
            f"({_examples(list(matches.ids_without_file))}) and {n_files} files without a subject "
            f'({_examples(_shown(matches.files_without_id))}). Mend the table, or pass on_unmatched="exclude" to leave them out.'
        )


def _examples(names: Sequence[str]) -> str:
    return (", ".join(map(repr, names[:3])) + (" …" if len(names) > 3 else "")) or "none"


def _wanted(pattern: str | None) -> str:
    return f"that fit {pattern!r}" if pattern is not None else f"with one of the endings {', '.join(SUFFIXES)}"


def _hint(folder: Path, known: Collection[str]) -> str:
    """What to do where a folder holds no file of the kind."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not _BESIDE.search(path.name)]
    below = next((path for path in paths if path.suffix.lower() in known), None)
    if below is not None:
        return f' There are some below it, such as {below.relative_to(folder)}: pass pattern="**/*{below.suffix}".'
    if any(path.suffix == ".txt" for path in paths):
        return ' There are .txt files: pass pattern="**/*.txt" if they hold arrays.'
    image = next((path for path in paths if path.name.endswith((".nii", ".nii.gz"))), None)
    if image is None:
        return ""
    return (
        f" There are images, such as {image.relative_to(folder)}: regions are taken from them by a pipeline such as XCP-D or C-PAC, or by nilearn's "
        "NiftiLabelsMasker. Give what these write."
    )


_BIDS = "sub-"
# Tables that BIDS and fMRIPrep write beside scans, and which hold no regions.
_BESIDE = re.compile(r"_desc-confounds|_(?:events|physio|scans|sessions|channels|confounds|regressors)\.tsv$|^participants\.|^dataset_description")
_TOKEN = re.compile(r"[^\W_]+")
