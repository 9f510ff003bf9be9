"""Images, volumes and clips as a cohort: a folder, a table of paths, or an NPZ file."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from graphssl.data import Cohort, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.schema import Role
from graphssl.datasets.arrays import SUFFIXES
from graphssl.datasets.columns import as_declared, guess_schema, is_called_id, with_categories
from graphssl.datasets.folder import check_option
from graphssl.datasets.image_arrays import array_file, find_arrays
from graphssl.datasets.image_entries import LABEL, SPLIT, Entry, Form, form_of, of_one_form, stem_of, unique_ids
from graphssl.datasets.image_folder import FolderUse, find_images, image_names
from graphssl.datasets.image_scan import Damaged, EmptyMasks, look_at
from graphssl.datasets.listing import Listing, list_files
from graphssl.datasets.participants import PERSON, as_text, drop_empty_columns, roles_of
from graphssl.datasets.table_files import TEXT_ENDINGS, read_table_files
from graphssl.errors import DataError, InputError, SchemaError

_PATHS = ("image", "image_path", "path", "file", "filename", "file_name", "image_file", "filepath", "img", "img_path", "video", "volume")
_MASK_PATHS = ("mask", "mask_path", "segmentation", "seg", "label_path", "mask_file")
_TABLES = ("images.csv", "images.tsv", "participants.tsv", "participants.csv", "metadata.csv", "labels.csv", "labels.tsv")
_GROUPS = re.compile(r"(person|patient|case|slide|series|volume|clip|subject|participant)([ _-]?(id|nr|no|name))?", re.IGNORECASE)
_LOOKED_AT = 20


def load_images(
    source: str | os.PathLike[str],
    *,
    form: Form | None = None,
    participants: str | os.PathLike[str] | pd.DataFrame | None = None,
    id_column: str | None = None,
    target: str | None = None,
    site: str | None = None,
    group: str | None = None,
    covariates: Sequence[str] = (),
    masks: str | None = None,
    mask_classes: Sequence[str] = (),
    labels: Sequence[str] = (),
    folders: FolderUse | None = None,
    person: str | None = None,
    pattern: str | None = None,
    damaged: Damaged = "error",
    empty_masks: EmptyMasks | None = None,
    name: str | None = None,
) -> Cohort:
    """Read images as a cohort: one row an image, with a group for the person, volume or clip that it is of. Every file is opened once and checked.

    Three layouts are known. A **folder** of PNG, JPEG, TIFF, NIfTI, DICOM or video files: sub-folders `train`, `val` and `test` are splits, others
    are classes (or persons), `images` and `labels` or `masks` hold images and masks of the same names. A **table** with a path an image (`image`),
    its mask (`mask`) and any columns; or one beside the files, found by ids. An **NPZ file**, of MedMNIST with its official splits, or with an array
    `images`, `volumes` or `clips` and arrays with a value each.

    Columns called `person`, `patient`, `case`, `slide`, `series`, `volume` or `clip` whose values repeat are groups: what is of one of them never
    stands on two sides of a split, and objectives can tell it by `ImageBatch.groups`.

    Args:
        source: The folder, table or file.
        form: Whether these are images, volumes or clips, where a folder holds several; others are left out.
        participants: Table with a row an image or a person, where it is not in the folder.
        id_column: Column of the ids in it; when left out, the first one called as ids are.
        target: Column to predict; `label` when left out, where folders, arrays or a table have it.
        site: Column of the site.
        group: Column of the person or family, where it is called otherwise.
        covariates: Columns that may explain the target.
        masks: Folder of masks, relative to the source.
        mask_classes: Names of the classes of masks, the background first.
        labels: Names of the classes of an NPZ file, in the order of their numbers.
        folders: Whether sub-folders are classes or persons, where it is not clear.
        person: Regular expression that finds the person in the name of a file, such as `"(la_[0-9]+)"`.
        pattern: Which files of a folder count, such as `"*/t1/*.nii.gz"`.
        damaged: `"exclude"` leaves out and lists images that cannot be read or do not fit; `"error"` refuses them.
        empty_masks: Whether images whose mask shows nothing are kept or left out.
        name: Name of the cohort; that of the folder or file when left out.

    Returns:
        A cohort whose `images` are called `image`, `volume` or `clip`. What was left out is listed in `excluded`.

    Raises:
        DataError: If there are no images, some are damaged, or tables and labels do not fit.
        ChoiceError: If several forms are found, sub-folders are of no clear use, or masks are empty, and nothing is said of it.
        SchemaError: If a named column is absent.
        ConfigError: If an option is none of those that exist, or `person` cannot be read.
    """
    for option, value, known in (("damaged", damaged, Damaged), ("form", form, Form), ("folders", folders, FolderUse)):
        if value is not None:
            check_option(option, value, known)
    if empty_masks is not None:
        check_option("empty_masks", empty_masks, EmptyMasks)
    listing = list_files(source)
    root, entries, rows = listing.root, [], []
    arrays = array_file(listing)
    if arrays is not None:
        entries = find_arrays(arrays, form, labels)
        rows = [("image", other, f"beside {arrays.name}") for other in image_names(listing)]
    elif listing.is_file and listing.names[0].lower().endswith(TEXT_ENDINGS):
        entries, rows = _of_table(listing.path, id_column)
    else:
        entries, rows = find_images(listing, masks=masks, pattern=pattern, folders=folders, person=person)
    entries, others = of_one_form(entries, form)
    table, unmatched = _columns(entries, _participants(listing, participants), id_column)
    data, damage = look_at(entries, root, form or entries[0].form, damaged=damaged, empty_masks=empty_masks, mask_classes=mask_classes)
    kept = table.loc[data.table["subject_id"]]
    groups = _group_columns(kept)
    data = replace(data, table=data.table.assign(**{column: as_text(kept[column]).fillna("").tolist() for column in groups}))
    kept = kept.assign(**{column: as_text(kept[column]) for column in groups})
    roles = _roles(kept, target, site, group, covariates)
    kept, empty = drop_empty_columns(kept, roles)
    schema = guess_schema(kept, {column: role for column, role in roles.items() if column in kept.columns}) if len(kept.columns) else Schema([])
    kept = as_declared(kept, schema)
    excluded = pd.DataFrame([*rows, *others, *unmatched, *damage, *empty], columns=list(EXCLUDED_COLUMNS), dtype="str")
    called = name or (listing.path.name.partition(".")[0] if listing.is_file else listing.called)
    return Cohort(called, kept, with_categories(schema, kept), {}, excluded, images={data.noun: data})


def is_image_arrays(listing: Listing) -> bool:
    """Whether a path is an NPZ file of images, or a folder with one in it."""
    return array_file(listing) is not None


def is_images(listing: Listing) -> bool:
    """Whether a path is an image, a table of paths to images, or a folder of more images than other arrays."""
    if listing.is_file and listing.names[0].lower().endswith(TEXT_ENDINGS):
        return _is_table_of_images(listing.path)
    n_arrays = sum(name.lower().endswith(tuple(SUFFIXES)) and name.rpartition("/")[2] not in _TABLES for name in listing.names)
    return len(image_names(listing)) > n_arrays


def _is_table_of_images(path: Path) -> bool:
    try:
        table = read_table_files(path, n_rows=_LOOKED_AT)
    except InputError:
        return False
    column = _path_column(table, _PATHS)
    return column is not None and any((path.parent / str(value)).exists() for value in table[column].dropna())


def _path_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    known = {str(column).strip().lower(): str(column) for column in table.columns}
    return next((known[name] for name in names if name in known), None)


def _of_table(path: Path, id_column: str | None) -> tuple[list[Entry], list[tuple[str, str, str]]]:
    """Entries of a table of paths; rows without a file are left out."""
    table = read_table_files(path)
    image, mask = _path_column(table, _PATHS), _path_column(table, _MASK_PATHS)
    if image is None:
        raise DataError(f"Expected a column of paths in {path}, called {', '.join(_PATHS[:5])} or the like; found {list(table.columns)[:10]}.")
    places = [str(value).strip() if pd.notna(value) else "" for value in table[image]]
    ids, subject = _ids(table, places, id_column)
    beside = table.drop(columns=[column for column in (image, mask) if column is not None])
    if subject is not None:
        beside = beside.rename(columns={subject: PERSON}).assign(**{PERSON: as_text(table[subject])})
    entries, rows = [], []
    for number, (name, place) in enumerate(zip(ids, places, strict=True)):
        if not place or not (path.parent / place).exists():
            rows.append(("subject", name, f"no file {place!r}" if place else "no path"))
            continue
        drawn = "" if mask is None or pd.isna(table[mask].iloc[number]) else str(table[mask].iloc[number]).strip()
        columns = {str(column): beside[column].iloc[number] for column in beside.columns}
        entries.append(Entry(name, place, form_of(place), mask_path=drawn, columns=columns))
    if not entries:
        raise DataError(f"Expected files at the paths in column {image!r} of {path}, found none of {len(rows)}, such as {places[:3]}.")
    return entries, rows


def _ids(table: pd.DataFrame, places: Sequence[str], id_column: str | None) -> tuple[list[str], str | None]:
    """An id an image, and the column of the person where the ids repeat."""
    named = id_column or next((str(column) for column in table.columns if is_called_id(str(column))), None)
    if named is None:
        return unique_ids(places), None
    if named not in table.columns:
        raise SchemaError(f"Expected the column of ids {named!r} in the table, found {list(table.columns)[:10]}.")
    ids = as_text(table[named]).fillna("").tolist()
    return (ids, None) if len(set(ids)) == len(ids) else (unique_ids(places), named)


def _participants(listing: Listing, given: str | os.PathLike[str] | pd.DataFrame | None) -> pd.DataFrame | None:
    """The table of images or persons that is given, or that lies in the folder."""
    if isinstance(given, pd.DataFrame):
        return given
    if given is not None:
        return read_table_files(Path(given))
    beside = [] if listing.is_file else [listing.root / name for name in _TABLES if name in listing.names]
    return read_table_files(beside[0]) if beside else None


def _columns(entries: Sequence[Entry], people: pd.DataFrame | None, id_column: str | None) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """What is known of each image, by its id, and rows of the table without an image."""
    index = pd.Index([entry.id for entry in entries], dtype="str")
    if index.duplicated().any():
        raise DataError(f"Expected an id of its own for every image, found {index[index.duplicated()].unique().tolist()[:5]} repeated. Rename files.")
    table = pd.DataFrame([dict(entry.columns) for entry in entries], index=index)
    if people is None:
        return table, []
    keyed = _keyed(people, id_column)
    found = [_match(entry, keyed.index) for entry in entries]
    if not any(found):
        raise DataError(
            f"Expected ids of the table in the names of images, found none: {keyed.index.tolist()[:3]} in the table, "
            f"{index.tolist()[:3]} in the names. Name the column of ids with id_column=…"
        )
    joined = keyed.reindex([key or "" for key in found]).set_axis(index)
    rows = [("subject", str(key), "in the table, without an image") for key in keyed.index if key not in set(found)]
    if len({key for key in found if key}) < sum(key is not None for key in found):
        joined[PERSON] = [key or entry.id for key, entry in zip(found, entries, strict=True)]
    own = [column for column in table.columns if column not in joined.columns]
    return pd.concat([joined, table[own]], axis=1), rows


def _keyed(people: pd.DataFrame, id_column: str | None) -> pd.DataFrame:
    if people.index.name is not None or (id_column is None and pd.api.types.is_string_dtype(people.index)):
        return people.set_axis(people.index.astype("str"))
    column = id_column or _path_column(people, _PATHS) or next((str(c) for c in people.columns if is_called_id(str(c))), None)
    if column is None or column not in people.columns:
        raise SchemaError(f"Expected a column of ids in the table of images, found {list(people.columns)[:10]}. Name it with id_column=…")
    keyed = people.set_index(pd.Index([stem_of(key) for key in as_text(people[column]).fillna("")], dtype="str")).drop(columns=column)
    repeated = keyed.index[keyed.index.duplicated()].unique().tolist()
    if repeated:
        raise SchemaError(f"Expected each id once in the table of images, found {len(repeated)} repeated: {repeated[:5]}.")
    return keyed


def _match(entry: Entry, keys: pd.Index) -> str | None:
    """Id of the table that an image has: its own, that of its person, or that of its file."""
    candidates = (entry.id, stem_of(entry.id), str(entry.columns.get(PERSON, "")), stem_of(entry.path), stem_of(entry.path).removeprefix("sub-"))
    return next((candidate for candidate in candidates if candidate and candidate in keys), None)


def _roles(table: pd.DataFrame, target: str | None, site: str | None, group: str | None, covariates: Sequence[str]) -> dict[str, Role]:
    """Roles that are given, and those of columns that are called after them."""
    given = roles_of(target, site, group, covariates)
    absent = sorted(set(given) - set(table.columns))
    if absent:
        raise SchemaError(f"Expected the columns {absent} of the images, found {list(table.columns)}. Give a table with participants=…")
    more: dict[str, Role] = {} if "target" in given.values() or LABEL in given or LABEL not in table.columns else {LABEL: "target"}
    more |= {SPLIT: "split"} if SPLIT in table.columns and SPLIT not in given else {}
    return {**given, **more, **{column: "group" for column in _group_columns(table) if column not in given}}


def _group_columns(table: pd.DataFrame) -> list[str]:
    """Columns of persons and of what an image is a part of, as far as any repeats."""
    return [str(column) for column in table.columns if _GROUPS.fullmatch(str(column)) and table[column].dropna().duplicated().any()]
