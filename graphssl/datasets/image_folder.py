"""Images in folders: classes and splits in the names of folders, masks beside images, DICOM series, persons in the names of files."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Literal

from graphssl.data.dicom import find_series, read_header
from graphssl.data.image_files import DICOM_ENDINGS
from graphssl.datasets.image_entries import IMAGE_ENDINGS, LABEL, SPLIT, Entry, Form, form_of, stem_of, unique_ids
from graphssl.datasets.listing import Listing
from graphssl.datasets.participants import PERSON
from graphssl.errors import ChoiceError, ConfigError, DataError

FolderUse = Literal["class", "person"]

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
_IMAGES = re.compile(r"images?(Tr|Ts)?", re.IGNORECASE)
_MASKS = re.compile(r"(labels?|masks?|segs?|segmentations?|annotations?)(Tr|Ts)?", re.IGNORECASE)
_MASK_ENDING = re.compile(r"[_-](mask|seg|segmentation|label|gt)$", re.IGNORECASE)
_CHANNEL = re.compile(r"_0000$")  # nnU-Net numbers the channels of an image
# Slices, frames and tiles of one source, where names end in their number.
_SOURCE = re.compile(r"(.+?)[_-](?:frame|slice|sl|f|z|t|tile|patch)[_-]?\d+", re.IGNORECASE)
_MOST_CLASSES, _FEWEST_PER_CLASS = 20, 5


def image_names(listing: Listing) -> list[str]:
    """Files of a listing that hold images by their ending, and DICOM files without one."""
    return [name for name in listing.names if name.lower().endswith(IMAGE_ENDINGS) or _is_bare_dicom(listing.root / name)]


def find_images(
    listing: Listing, *, masks: str | None = None, pattern: str | None = None, folders: FolderUse | None = None, person: str | None = None
) -> tuple[list[Entry], list[tuple[str, str, str]]]:
    """All images below a folder with what their places say, and what is left out.

    Args:
        listing: The files.
        masks: Folder of the masks, relative; found by its name when left out.
        pattern: Which files count.
        folders: Whether sub-folders are classes or persons; guessed where it is clear.
        person: Regular expression that finds the person in an id: its first group, or all of it. When left out, what stands before `_slice_12`,
            `_frame12`, `_f12` and the like.

    Raises:
        ChoiceError: If it is not clear what sub-folders are.
        ConfigError: If the expression cannot be read or fits no id.
        DataError: If there are no images, or two masks fit one image.
    """
    names = [name for name in image_names(listing) if pattern is None or fnmatch(name, pattern)]
    if not names:
        raise DataError(
            f"Expected images in {listing.root}, found none{f' that fit {pattern!r}' if pattern else ''} among {len(listing.names)} files."
        )
    pictures, mask_of, rows = _with_masks(names, masks)
    entries = _entries(listing.root, pictures, mask_of)
    return _with_persons(_with_folders(entries, folders), person), rows


def _is_bare_dicom(path: Path) -> bool:
    """Whether a file without an ending begins as DICOM files do."""
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _with_masks(names: Sequence[str], masks: str | None) -> tuple[list[str], dict[str, str], list[tuple[str, str, str]]]:
    """Images, the mask of each that has one, and masks that belong to none."""
    is_mask = partial(_lies_in, folder=masks.strip("/")) if masks is not None else _is_mask
    found = {name for name in names if is_mask(name)}
    pictures = [name for name in names if name not in found]
    if not pictures:  # folders that are called so may hold the images themselves
        return list(names), {}, []
    by_key = defaultdict(list)
    for name in sorted(found):
        by_key[_key(name)].append(name)
    if masks is None:  # beside the image: a_mask.png and a.png
        keys = {_key(name) for name in pictures}
        for name in [name for name in pictures if _MASK_ENDING.search(stem_of(name))]:
            plain = _MASK_ENDING.sub("", stem_of(name))
            if plain in keys:
                by_key[plain].append(name)
                pictures.remove(name)
    mask_of = {name: _one(by_key[_key(name)], name) for name in pictures if _key(name) in by_key}
    used = set(mask_of.values())
    rows = [("image", name, "a mask, without an image") for group in by_key.values() for name in group if name not in used]
    return pictures, mask_of, rows


def _is_mask(name: str) -> bool:
    return any(_MASKS.fullmatch(folder) for folder in name.split("/")[:-1])


def _lies_in(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def _key(name: str) -> str:
    return _CHANNEL.sub("", _MASK_ENDING.sub("", stem_of(name)))


def _one(masks: Sequence[str], name: str) -> str:
    """The mask of an image; of several called alike, the one whose folders are."""
    folders = set(name.split("/")[:-1])
    shared = [len(folders & set(mask.split("/")[:-1])) for mask in masks]
    best = [mask for mask, n in zip(masks, shared, strict=True) if n == max(shared)]
    if len(best) > 1:
        raise DataError(f"Expected one mask of {name}, found {best}. Name the folder of the masks, or rename one.")
    return best[0]


def _entries(root: Path, names: Sequence[str], mask_of: Mapping[str, str]) -> list[Entry]:
    plain = [name for name in names if name.lower().endswith(IMAGE_ENDINGS) and not name.lower().endswith(DICOM_ENDINGS)]
    ids = unique_ids(plain, _key if mask_of else stem_of)
    entries = [Entry(id, name, form_of(name), mask_path=mask_of.get(name, "")) for id, name in zip(ids, plain, strict=True)]
    of_dicom = set(names) - set(plain)
    return [*entries, *_dicom_entries(root, of_dicom)]


def _dicom_entries(root: Path, names: set[str]) -> list[Entry]:
    """A series each, or a file of its own."""
    entries = []
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        found = {}
        for series, files in find_series(root / folder).items():
            kept = [file for file in files if (f"{folder}/{file.name}" if folder else file.name) in names]
            if kept:
                found[series] = kept
        for series, files in found.items():
            header = read_header(files[0])
            person = {PERSON: str(header.PatientID)} if header.get("PatientID") else {}
            if len(files) > 1:
                called = folder or root.name
                entries.append(Entry(called if len(found) == 1 else f"{called}/{series}", folder or ".", "volume", series, columns=person))
            else:
                form: Form = "clip" if int(header.get("NumberOfFrames") or 1) > 1 else "image"
                path = f"{folder}/{files[0].name}" if folder else files[0].name
                entries.append(Entry(path.rpartition(".")[0] or path, path, form, columns=person))
    return entries


def _with_folders(entries: Sequence[Entry], use: FolderUse | None) -> list[Entry]:
    """Entries with the split and the class or person that their folders say."""
    parts = [[part for part in entry.path.split("/")[:-1] if not _IMAGES.fullmatch(part)] for entry in entries]
    splits = [next((_SPLITS[part.lower()] for part in of_one if part.lower() in _SPLITS), None) for of_one in parts]
    if None in splits or len(set(splits)) < 2:
        splits = [None] * len(entries)
    rest = [[part for part in of_one if split is None or part.lower() not in _SPLITS] for of_one, split in zip(parts, splits, strict=True)]
    column = _use_of(rest, use)
    found = []
    for entry, split, of_one in zip(entries, splits, rest, strict=True):
        said: dict[str, object] = {} if split is None else {SPLIT: split}
        if column is not None and of_one:
            said[column] = of_one[0] if column == PERSON else of_one[-1]
        found.append(replace(entry, columns={**said, **entry.columns}))
    return found


def _use_of(rest: Sequence[Sequence[str]], use: FolderUse | None) -> str | None:
    """Which column folders are; None where there is one folder only."""
    named = Counter(of_one[-1] for of_one in rest if of_one)
    if use is not None:
        return LABEL if use == "class" else PERSON
    if len(named) < 2:
        return None
    with_numbers = any(re.search(r"\d\d", name) for name in named)
    if all(len(of_one) == 1 for of_one in rest) and not with_numbers and len(named) <= _MOST_CLASSES and min(named.values()) >= _FEWEST_PER_CLASS:
        return LABEL
    shown = ", ".join(f"{name} ({n})" for name, n in named.most_common(4))
    raise ChoiceError(f"Expected to know what the {len(named)} sub-folders are, such as {shown}. Say folders='class' or folders='person'.")


def _with_persons(entries: Sequence[Entry], person: str | None) -> list[Entry]:
    """Entries with the person that their names say, where no folder said it."""
    try:
        pattern = _SOURCE if person is None else re.compile(person)
    except re.error as error:
        raise ConfigError(f"Expected a regular expression that finds the person in an id, found {person!r} ({error}).") from error
    found = [pattern.fullmatch(entry.id) if person is None else pattern.search(entry.id) for entry in entries]
    if person is not None and None in found:
        lacking = [entry.id for entry, match in zip(entries, found, strict=True) if match is None]
        raise ConfigError(f"Expected {person!r} to find the person in every id, found none in {len(lacking)} of {len(entries)}: {lacking[:5]}.")
    names = [None if match is None else (match[1] if match.re.groups else match[0]) for match in found]
    if person is None and len({name or entry.id for name, entry in zip(names, entries, strict=True)}) == len(entries):
        return list(entries)
    named = ({PERSON: name or entry.id} for name, entry in zip(names, entries, strict=True))
    return [replace(entry, columns={**said, **entry.columns}) for said, entry in zip(named, entries, strict=True)]
