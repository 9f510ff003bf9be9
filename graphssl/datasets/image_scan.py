"""Images looked at once, one by one: what each holds, which are damaged, and what their masks show."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from graphssl.data.image_files import content_hash, read_picture
from graphssl.data.images import REFERENCE_COLUMNS, ImageData
from graphssl.datasets.image_entries import Entry, Form
from graphssl.errors import ChoiceError, DataError
from graphssl.progress import tracked

Damaged = Literal["error", "exclude"]
EmptyMasks = Literal["keep", "exclude"]

_MOST_CLASSES = 64
_SHOWN = 5


@dataclass(frozen=True)
class Looked:
    """What a look at one image gave.

    Args:
        row: Its reference, columns in the order of `REFERENCE_COLUMNS`, or None where it is damaged.
        values: Values of its mask; empty where it has none.
        problem: What is wrong with it.
    """

    row: tuple[object, ...] | None
    values: frozenset[int] = frozenset()
    problem: str = ""


def look_at(
    entries: Sequence[Entry],
    root: Path,
    form: Form,
    *,
    damaged: Damaged = "error",
    empty_masks: EmptyMasks | None = None,
    mask_classes: Sequence[str] = (),
) -> tuple[ImageData, list[tuple[str, str, str]]]:
    """Open every image, and make references of those that are whole.

    Args:
        entries: The images.
        root: Folder of all.
        form: What they are.
        damaged: `"exclude"` leaves out and lists what cannot be read or does not fit; `"error"` refuses it.
        empty_masks: Whether images whose mask shows nothing are kept or left out.
        mask_classes: Names of the classes of masks, the background first, in the order of their values.

    Returns:
        References, and what was left out.

    Raises:
        DataError: If an image is damaged and that is refused, none is whole, or masks have other values than classes.
        ChoiceError: If masks are empty and nothing is said of them.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # decoders work outside of Python's lock
        hashes = _Hashes(root)
        looked = list(tracked(pool.map(lambda entry: _look(entry, root, form, hashes), entries), "Looking at images", len(entries)))
    rows = [("image", entry.id, one.problem) for entry, one in zip(entries, looked, strict=True) if one.problem]
    if rows and (damaged == "error" or len(rows) == len(entries)):
        shown = "; ".join(problem for _, _, problem in rows[:_SHOWN]) + (f"; and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")
        hint = "Mend them, or leave them out with damaged='exclude'." if len(rows) < len(entries) else "Check the folder."
        raise DataError(f"Expected whole {form}s, found {len(rows)} of {len(entries)} that are not: {shown}. {hint}")
    classes, values = _classes(looked, mask_classes)
    whole = [(entry, one) for entry, one in zip(entries, looked, strict=True) if one.row is not None]
    empty = [entry.id for entry, one in whole if entry.mask_path and one.values <= {values[0]}] if values else []
    if empty and empty_masks is None:
        raise ChoiceError(
            f"Expected masks that show something, found {len(empty)} of {len(whole)} with background only, such as {empty[:_SHOWN]}. "
            "Say empty_masks='keep' or empty_masks='exclude'."
        )
    if empty_masks == "exclude":
        rows += [("image", name, "a mask that shows nothing") for name in empty]
        whole = [(entry, one) for entry, one in whole if entry.id not in set(empty)]
    if not whole:
        raise DataError(f"Expected {form}s with a mask that shows something, found none among {len(entries)}.")
    table = pd.DataFrame([one.row for _, one in whole], columns=list(REFERENCE_COLUMNS))
    rank, clip = (3, False) if form == "volume" else (2, form == "clip")
    return ImageData(table, rank, clip, root.resolve(), classes, values), rows


class _Hashes:
    """Hashes of files, each worked out once though a file may hold many images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[tuple[str, str], str] = {}

    def of(self, path: str, part: str) -> str:
        key = (path, part if (self.root / path).is_dir() else "")
        if key not in self.known:
            self.known[key] = content_hash(self.root / path, part)
        return self.known[key]


def _look(entry: Entry, root: Path, form: Form, hashes: _Hashes) -> Looked:
    n_axes = 2 if form == "image" else 3
    try:
        picture = read_picture(root / entry.path, entry.part, n_axes)
        values: frozenset[int] = frozenset()
        if entry.mask_path:
            values = _mask_values(root / entry.mask_path, entry.mask_part, picture.pixels.shape[1:])
        mask_hash = hashes.of(entry.mask_path, entry.mask_part) if entry.mask_path else ""
        shape = picture.pixels.shape
        beside = (entry.mask_path, entry.mask_part, mask_hash)
        return Looked((entry.id, entry.path, entry.part, hashes.of(entry.path, entry.part), shape[0], shape[1:], picture.spacing, *beside), values)
    except DataError as error:
        return Looked(None, problem=str(error).rstrip("."))


def _mask_values(place: Path, part: str, shape: tuple[int, ...]) -> frozenset[int]:
    mask = read_picture(place, part, len(shape)).pixels
    if mask.shape[1:] != shape:
        raise DataError(f"Expected the mask {place} to have the shape {shape} of its image, found {mask.shape[1:]}")
    if len(mask) > 1 and not (mask == mask[:1]).all():
        raise DataError(f"Expected a mask of one channel in {place}, found {len(mask)} that differ")
    values = np.unique(mask[0])
    if len(values) > _MOST_CLASSES or (values != values.round()).any():
        raise DataError(f"Expected whole numbers of classes in the mask {place}, found {len(values)} values such as {values[:_SHOWN].tolist()}")
    return frozenset(int(value) for value in values)


def _classes(looked: Sequence[Looked], names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the classes of masks and their values; the lowest is the background."""
    found = sorted(set().union(*(one.values for one in looked)))
    if not found:
        return (), ()
    numbered = list(range(len(names)))
    if names and set(found) <= set(numbered):
        return tuple(names), tuple(numbered)
    if names and len(found) != len(names):
        raise DataError(
            f"Expected values of the {len(names)} classes {list(names)} in masks, found {found[:10]}. Name all classes in mask_classes=…."
        )
    values = found if 0 in found else [0, *found]
    return tuple(names) or ("background", *(f"class {value}" for value in values[1:])), tuple(values)
