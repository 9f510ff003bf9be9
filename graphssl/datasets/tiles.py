"""Large pictures of tissue cut into tiles."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.image_files import content_hash, read_picture
from graphssl.data.images import ImageData
from graphssl.data.schema import Column, Schema
from graphssl.datasets.listing import list_files
from graphssl.datasets.simulate_images import images_folder
from graphssl.errors import ConfigError, DataError


def load_tiles(
    source: str | os.PathLike[str],
    *,
    size: int = 64,
    label: str | None = None,
    names: Mapping[str, str] | None = None,
    tissue: float = 0.3,
    folder: str | os.PathLike[str] | None = None,
    name: str = "tiles",
) -> Cohort:
    """Cut the PNG and TIFF files of a folder into square tiles side by side, and leave out those that show hardly any tissue.

    A tile is a subject, and the picture it is of its family: no two tiles of one picture stand on two sides of a split. Tiles are written to one NPZ
    file. Pictures of whole slides are too large for this; cut those with a tool for slides, and read the tiles with `load_images`.

    Args:
        source: The folder.
        size: Pixels of a side.
        label: Regular expression whose first group, in the name of a file, is the label of its tiles; no labels when left out.
        names: Names of the labels that are found, where they differ; several may have one name.
        tissue: Share of a tile's pixels at least that are darker than white glass.
        folder: Where the file goes; a temporary folder, removed when Python ends, when left out.
        name: Name of the cohort.

    Raises:
        DataError: If there is no picture, or no tile shows tissue.
        ConfigError: If the expression cannot be read, or finds nothing in a name.
    """
    listing = list_files(source)
    files = [entry for entry in sorted(listing.names) if entry.lower().endswith((".png", ".tif", ".tiff"))]
    pieces = [_tiles(listing.root / file, size, tissue) for file in files]
    if not sum(map(len, pieces)):
        raise DataError(f"Expected pictures of tissue (PNG or TIFF) with tiles of {size} pixels in {source}, found none of {len(files)} files.")
    picture = np.repeat([Path(file).stem for file in files], list(map(len, pieces)))
    ids = pd.Index([f"{stem}/{k}" for stem, tiles in zip(files, pieces, strict=True) for k in range(len(tiles))], dtype="str")
    place = images_folder(folder) / f"{name}.npz"
    np.savez_compressed(place, images=np.concatenate(pieces))
    table = pd.DataFrame({"picture": picture}, index=ids)
    columns = [Column("picture", "categorical", "group")]
    if label is not None:
        told = [_label(stem, label, names or {}) for stem in picture]
        table["label"] = told
        columns.append(Column("label", "categorical", "target", categories=tuple(sorted(set(told)))))
    return Cohort(name, table, Schema(columns), images={"image": _references(place, ids, size)})


def _tiles(place: Path, size: int, tissue: float) -> npt.NDArray[np.uint8]:
    """The tiles of a picture `[n, size, size, 3]`."""
    pixels = np.moveaxis(read_picture(place, "", 2).pixels, 0, -1)[..., :3]
    pixels = pixels if pixels.shape[-1] == 3 else pixels[..., :1].repeat(3, axis=-1)
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    cut = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(rows * columns, size, size, 3)
    dark = (cut.min(axis=-1) < _GLASS).mean(axis=(1, 2))
    return np.asarray(cut[dark >= tissue], dtype=np.uint8)


# Of 255: glass beside tissue is brighter in all colours.
_GLASS = 210


def _label(stem: str, pattern: str, names: Mapping[str, str]) -> str:
    try:
        found = re.search(pattern, stem)
        word = found.group(1) if found else None
    except (re.error, IndexError) as error:
        raise ConfigError(f"Expected a regular expression with one group for the label, found {pattern!r} ({error}).") from error
    if word is None:
        raise ConfigError(f"Expected a label by {pattern!r} in the name of every picture, found none in {stem!r}.")
    return str(names.get(word, word))


def _references(place: Path, ids: pd.Index, size: int) -> ImageData:
    about = {"path": place.name, "hash": content_hash(place), "channels": 3, "mask_path": "", "mask_part": "", "mask_hash": ""}
    table = pd.DataFrame({"subject_id": ids, "part": [f"images[{row}]" for row in range(len(ids))], **about})
    table["shape"], table["spacing"] = [(size, size)] * len(ids), [()] * len(ids)
    return ImageData(table, 2, root=place.parent)
