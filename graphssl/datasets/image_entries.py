"""Images that were found, before any is opened: where each lies, by what it is called, and what its place says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphssl.data.image_files import DICOM_ENDINGS, PICTURE_ENDINGS, VIDEO_ENDINGS, VOLUME_ENDINGS
from graphssl.errors import ChoiceError, DataError

Form = Literal["image", "volume", "clip"]

# Columns that adapters make of names and folders.
LABEL, SPLIT = "label", "split"
IMAGE_ENDINGS = (*PICTURE_ENDINGS, *VOLUME_ENDINGS, *DICOM_ENDINGS, *VIDEO_ENDINGS)


@dataclass(frozen=True)
class Entry:
    """One image that was found.

    Args:
        id: Name of its own.
        path: File, or folder of a DICOM series, relative to the folder of all.
        form: Image, volume or clip, as far as names and headers tell.
        part: Which image of the file it is, where it holds several.
        mask_path: File of its segmentation mask; empty where there is none.
        mask_part: Which mask of the file it is.
        columns: What its place says: class, split, person.
    """

    id: str
    path: str
    form: Form
    part: str = ""
    mask_path: str = ""
    mask_part: str = ""
    columns: Mapping[str, object] = field(default_factory=dict)


def form_of(name: str) -> Form:
    """What a file holds by its ending; TIFF counts as an image, DICOM has to be opened."""
    lower = name.lower()
    return "volume" if lower.endswith(VOLUME_ENDINGS) else "clip" if lower.endswith(VIDEO_ENDINGS) else "image"


def stem_of(name: str) -> str:
    """Name of a file without folder and ending, `.nii.gz` being one ending."""
    called = name.rpartition("/")[2]
    ending = next((e for e in sorted(IMAGE_ENDINGS, key=len, reverse=True) if called.lower().endswith(e)), "")
    return called[: len(called) - len(ending)] if ending else called.partition(".")[0]


def of_one_form(entries: Sequence[Entry], form: Form | None) -> tuple[list[Entry], list[tuple[str, str, str]]]:
    """Entries of one form, and the others as rows of a cohort's list of things left out.

    Raises:
        ChoiceError: If there are several forms and none is chosen.
        DataError: If there is none of the form.
    """
    counts = {known: sum(entry.form == known for entry in entries) for known in ("image", "volume", "clip")}
    found = [known for known, n in counts.items() if n]
    if form is None and len(found) > 1:
        listed = ", ".join(f"{counts[known]} {known}s" for known in found)
        raise ChoiceError(f"Expected images of one form, found {listed}. Choose with form={found[0]!r} or another.")
    chosen = form or found[0]
    kept = [entry for entry in entries if entry.form == chosen]
    if not kept:
        raise DataError(f"Expected files with a {chosen} each, found {', '.join(f'{counts[known]} {known}s' for known in found) or 'none'}.")
    return kept, [("image", entry.id, f"a {entry.form}, where {chosen}s were chosen") for entry in entries if entry.form != chosen]


def unique_ids(paths: Sequence[str], short: Callable[[str], str] = stem_of) -> list[str]:
    """An id for each path: the name without folder and ending, or with folders where several files are called alike."""
    names = [short(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{folder}/{name}" if folder else name for folder, name in zip((path.rpartition("/")[0] for path in paths), names, strict=True)]
