"""Images of subjects by reference: where each lies, how large it is, and by what its content is known; nothing is decoded here."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.errors import DataError
from graphssl.folders import ordinary

REFERENCE_COLUMNS = ("subject_id", "path", "part", "hash", "channels", "shape", "spacing", "mask_path", "mask_part", "mask_hash")


@dataclass(frozen=True, eq=False)
class ImageData:
    """References to images of one kind, one row an image; a subject may have several rows, or none.

    Args:
        table: One row an image, with the columns `subject_id`; `path` of the file (or the folder of a DICOM series), relative to `root`; `part`,
            which of several images of the file it is, such as `train_images[12]` or the id of a series, else empty; `hash`, SHA-256 of what the file
            holds; `channels`; `shape`, voxels as decoded, `(H, W)`, `(D, H, W)` or `(T, H, W)`; `spacing`, mm along each of these axes (seconds
            along the time of clips), empty where unknown; and `mask_path`, `mask_part` and `mask_hash` of its segmentation mask, empty where there
            is none. Further columns of text are groups, such as the volume of a slice or the clip of a frame.
        rank: 2 for images and clips, 3 for volumes.
        clip: Whether each row is a sequence of images in time.
        root: Folder that the paths are relative to.
        classes: Names of the classes of masks, the background first; empty where there are no masks.
        mask_values: Value of each class in the files of masks, such as `(0, 255)`; 0, 1, 2 and so on when left out.

    Raises:
        DataError: If columns are missing, a shape does not fit the rank, clips are of rank 3, or values of masks and classes differ in number.
    """

    table: pd.DataFrame
    rank: int
    clip: bool = False
    root: Path = Path()
    classes: tuple[str, ...] = ()
    mask_values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        absent = [name for name in REFERENCE_COLUMNS if name not in self.table.columns]
        if absent:
            raise DataError(f"Expected the columns {list(REFERENCE_COLUMNS)} of references to images, found none called {absent}.")
        if self.rank not in (2, 3) or (self.clip and self.rank == 3):
            raise DataError(f"Expected images or clips (rank 2) or volumes (rank 3), found rank {self.rank}{' of clips' if self.clip else ''}.")
        table = self.table.reset_index(drop=True)
        table["shape"] = [tuple(int(n) for n in shape) for shape in table["shape"]]
        table["spacing"] = [tuple(float(mm) for mm in spacing) for spacing in table["spacing"]]
        odd = [(path, shape) for path, shape in zip(table["path"], table["shape"], strict=True) if len(shape) != self.n_axes]
        if odd:
            raise DataError(
                f"Expected {self.n_axes} axes of every {self.noun}, found {odd[0][0]} of shape {odd[0][1]} and {len(odd) - 1} more. "
                "Leave these files out, or load them as images of their own kind."
            )
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "mask_values", tuple(int(value) for value in self.mask_values) or tuple(range(len(self.classes))))
        if len(self.mask_values) != len(self.classes):
            raise DataError(f"Expected a value in the masks for each of the classes {list(self.classes)}, found {list(self.mask_values)}.")

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"ImageData({self.summary})"

    @property
    def summary(self) -> str:
        """How many images of how many subjects, of what sizes and spacings, with masks or without."""
        shapes, spacings = (sorted(set(self.table[name])) for name in ("shape", "spacing"))
        size = " × ".join(map(str, shapes[0])) if len(shapes) == 1 else f"{len(shapes)} sizes"
        mm = f", {' × '.join(f'{length:g}' for length in spacings[0][-self.rank :])} mm" if len(spacings) == 1 and spacings[0] else ""
        mm = f", {len(spacings)} spacings" if len(spacings) > 1 else mm
        masks = f", masks of {len(self.classes)} classes" if self.has_masks else ""
        return f"{len(self)} {self.noun}s of {self.table['subject_id'].nunique()} subjects, {size}{mm}{masks}"

    @property
    def noun(self) -> str:
        """What a row is."""
        return "clip" if self.clip else "volume" if self.rank == 3 else "image"

    @property
    def n_axes(self) -> int:
        """Axes of a row: those of space, and time."""
        return self.rank + self.clip

    @property
    def has_masks(self) -> bool:
        """Whether any row has a segmentation mask."""
        return bool((self.table["mask_path"] != "").any())

    @cached_property
    def values(self) -> dict[str, int]:
        """Number of images by subject id."""
        return {str(subject): int(n) for subject, n in self.table["subject_id"].value_counts(sort=False).items()}

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the columns of groups."""
        return tuple(str(name) for name in self.table.columns if name not in REFERENCE_COLUMNS)

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over subjects, contents and groups; the same wherever the files lie."""
        of_rows = self.table.drop(columns=["path", "mask_path"])
        described = [self.rank, self.clip, list(self.classes), list(self.mask_values), list(of_rows.columns), of_rows.to_numpy(dtype=object).tolist()]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]

    def select(self, subjects: Iterable[str]) -> "ImageData":
        """Images of the given subjects, as far as they have any, in the order of the subjects."""
        rows = self.table.groupby("subject_id", sort=False).indices
        chosen = [int(row) for subject in subjects for row in rows.get(subject, ())]
        return replace(self, table=self.table.iloc[chosen])

    def union(self, other: "ImageData") -> "ImageData":
        """Images of both; paths become absolute where the roots differ.

        Raises:
            DataError: If they are of another rank, one holds clips, the classes of masks or the groups differ.
        """
        for what in ("noun", "classes", "mask_values", "groups"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if what in ("classes", "mask_values") and not (self.has_masks and other.has_masks):
                continue
            if mine != theirs:
                raise DataError(f"Expected the same {what} of images in both cohorts, found {mine} and {theirs}.")
        parts = [self, other] if self.root == other.root else [self._absolute(), other._absolute()]
        named = self if self.has_masks else other
        return replace(parts[0], table=pd.concat([part.table for part in parts]), classes=named.classes, mask_values=named.mask_values)

    def at(self, root: str | os.PathLike[str]) -> "ImageData":
        """The same images below another folder, where the files were moved."""
        return replace(self, root=Path(root))

    def place(self, path: str) -> Path:
        """Where a path of the table lies."""
        return self.root / path

    def lies_in(self, folder: str | os.PathLike[str]) -> bool:
        """Whether a file of the images lies below a folder."""
        root, above = os.path.realpath(self.root), os.path.join(os.path.realpath(folder), "")
        paths = {*self.table["path"], *self.table["mask_path"]} - {""}
        return any(os.path.normpath(os.path.join(root, path)).startswith(above) for path in paths)

    def save(self, folder: Path, name: str, *, copy: bool = False) -> dict[str, Any]:
        """Write the table of references, and the files with it where asked.

        Args:
            folder: Folder of a saved cohort.
            name: Name of the table, without ending.
            copy: Whether to copy the files too, so that the folder can be moved alone.

        Returns:
            What `load` must know besides, for JSON.
        """
        stored = self._copied(folder, name) if copy else self
        table = stored.table.assign(**{column: stored.table[column].map(list) for column in ("shape", "spacing")})
        table.to_parquet(folder / f"{name}.images.parquet", index=False)
        root = None if copy else os.path.abspath(self.root)
        described = {"rank": self.rank, "clip": self.clip, "classes": list(self.classes), "mask_values": list(self.mask_values)}
        return {**described, "root": root}

    @classmethod
    def load(cls, folder: Path, name: str, record: Mapping[str, Any]) -> "ImageData":
        """The inverse of `save`.

        Args:
            folder: The folder.
            name: Name of the images in the cohort.
            record: What `save` returned.
        """
        root = folder if record["root"] is None else Path(record["root"])
        described = {key: value for key, value in record.items() if key != "root"}
        return cls(pd.read_parquet(ordinary(folder / f"{name}.images.parquet")), root=root, **described)

    def _absolute(self) -> "ImageData":
        moved = {column: [os.path.abspath(self.place(path)) if path else "" for path in self.table[column]] for column in ("path", "mask_path")}
        return replace(self, table=self.table.assign(**moved), root=Path("/"))

    def _copied(self, folder: Path, name: str) -> "ImageData":
        """The images with their files copied below a folder, each under the hash of its content."""
        moved = {}
        for column, digest in (("path", "hash"), ("mask_path", "mask_hash")):
            paths = []
            for path, content in zip(self.table[column], self.table[digest], strict=True):
                target = f"{name}.images/{content[:16]}/{Path(path).name}" if path else ""
                if path and not (folder / target).exists():
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    copy = shutil.copytree if self.place(path).is_dir() else shutil.copyfile
                    copy(self.place(path), folder / target)
                paths.append(target)
            moved[column] = paths
        return replace(self, table=self.table.assign(**moved), root=folder)
