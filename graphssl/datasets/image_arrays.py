"""Images in NPZ files: MedMNIST with its official splits, and arrays of images, volumes or clips with columns beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.data.image_files import array_names, array_of
from graphssl.datasets.image_entries import LABEL, SPLIT, Entry, Form
from graphssl.datasets.listing import Listing
from graphssl.errors import ChoiceError, DataError

_SPLITS = ("train", "val", "test")
_FORMS: dict[str, Form | None] = {"images": None, "volumes": "volume", "clips": "clip", "videos": "clip", "frames": "clip"}
_CHANNELS = (1, 3, 4)


def array_file(listing: Listing) -> Path | None:
    """The NPZ file of images that a path is, or that is the only one in a folder; None where there is none.

    Raises:
        ChoiceError: If a folder has several.
    """
    found = [name for name in listing.ending(".npz") if "/" not in name and _holds_images(listing.root / name)]
    if len(found) > 1:
        raise ChoiceError(f"Expected one file of images in {listing.root}, found {found}. Give the path of one of them.")
    return listing.root / found[0] if found else None


def find_arrays(place: Path, form: Form | None = None, labels: Sequence[str] = ()) -> list[Entry]:
    """Images of an NPZ file with what stands beside them: class, official split, and any array with a value an image.

    Args:
        place: The file: `train_images, train_labels, val_images, …` as in MedMNIST, or `images`, `volumes` or `clips` with further arrays.
        form: What the images are; by the name of their array, or their axes, when left out.
        labels: Names of the classes in the order of their numbers; the numbers are the names when left out.

    Raises:
        DataError: If the file is damaged, or labels are not one an image or not within the classes.
    """
    shapes = array_names(place)
    parts = [split for split in _SPLITS if f"{split}_images" in shapes]
    if parts:
        return [entry for split in parts for entry in _split_entries(place, shapes, split, form, labels)]
    name = next(name for name in _FORMS if name in shapes)
    n = shapes[name][0]
    _check_labels(shapes, n, place)
    beside = {key: array_of(place, key) for key, shape in shapes.items() if shape[:1] == (n,) and len(shape) <= 2 and key not in (name, "masks")}
    columns = {key: values for given, array in beside.items() for key, values in _columns(given, array, labels, place).items()}
    what = form or _FORMS[name] or _form(shapes[name])
    has_masks = "masks" in shapes and shapes["masks"][0] == n
    return [
        Entry(
            f"{name.removesuffix('s')}-{row:0{len(str(n - 1))}d}",
            place.name,
            what,
            f"{name}[{row}]",
            place.name if has_masks else "",
            f"masks[{row}]" if has_masks else "",
            {key: values[row] for key, values in columns.items()},
        )
        for row in range(n)
    ]


def _check_labels(shapes: dict[str, tuple[int, ...]], n: int, place: Path) -> None:
    """Check that labels are one an image; whatever else is of another length is none of theirs."""
    for name in (LABEL, "labels"):
        if name in shapes and shapes[name][:1] != (n,):
            found = shapes[name][0] if shapes[name] else "one value"
            raise DataError(f"Expected a label for each of {n} images in {place}, found {found} in {name!r}. Mend the file, or rename the array.")


def _holds_images(place: Path) -> bool:
    try:
        shapes = array_names(place)
    except DataError:
        return False
    of_split = [shapes[f"{split}_images"] for split in _SPLITS if f"{split}_images" in shapes]
    return bool(of_split) or any(len(shapes.get(name, ())) >= 3 for name in _FORMS)


def _split_entries(place: Path, shapes: dict[str, tuple[int, ...]], split: str, form: Form | None, labels: Sequence[str]) -> list[Entry]:
    name, n = f"{split}_images", shapes[f"{split}_images"][0]
    columns: dict[str, list[object]] = {}
    if f"{split}_labels" in shapes:
        array = array_of(place, f"{split}_labels")
        if len(array) != n:
            raise DataError(f"Expected a label for each of {n} images of {name!r} in {place}, found {len(array)}.")
        columns = _columns(LABEL, array, labels, place)
    digits = len(str(max(n - 1, 0)))
    return [
        Entry(
            f"{split}-{row:0{digits}d}",
            place.name,
            form or _form(shapes[name]),
            f"{name}[{row}]",
            columns={**{key: values[row] for key, values in columns.items()}, SPLIT: split},
        )
        for row in range(n)
    ]


def _form(shape: tuple[int, ...]) -> Form:
    """Of arrays that are not called after it: a last axis of one, three or four values is colour."""
    return "volume" if len(shape) == 5 or (len(shape) == 4 and shape[-1] not in _CHANNELS) else "image"


def _columns(name: str, array: npt.NDArray[Any], labels: Sequence[str], place: Path) -> dict[str, list[object]]:
    """Values of an array as columns: one, or several of a table of yes and no."""
    flat = array.reshape(len(array), -1)
    is_label = name in (LABEL, "labels")
    called = LABEL if is_label else name
    if flat.shape[1] != 1:
        names = labels if len(labels) == flat.shape[1] else [f"{called}_{k}" for k in range(flat.shape[1])]
        return {str(column): flat[:, k].tolist() for k, column in enumerate(names)}
    values = flat[:, 0]
    if is_label and values.dtype.kind in "biuf":
        return {called: _named(values, labels, place)}
    return {called: [str(value) for value in values] if values.dtype.kind in "USb" else values.tolist()}


def _named(values: npt.NDArray[Any], labels: Sequence[str], place: Path) -> list[object]:
    """Classes by name: numbers of classes as words; what is not a number is no label."""
    missing = np.isnan(values.astype(float))
    numbers = np.where(missing, 0, values).astype(np.int64)
    odd = np.unique(values[~missing & ((numbers != values) | (numbers < 0) | (bool(labels) & (numbers >= len(labels))))])
    if odd.size:
        expected = f"0 to {len(labels) - 1}" if labels else "whole numbers from 0"
        raise DataError(f"Expected labels {expected} in {place}, found {odd[:5].tolist()}. Mend them, or name all classes with labels=….")
    return [None if gone else (labels[number] if labels else str(number)) for number, gone in zip(numbers.tolist(), missing.tolist(), strict=True)]
