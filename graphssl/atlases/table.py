"""Atlases from tables of centroids, delimited by commas, semicolons or tabs, and the node files of BrainNet Viewer."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data import Atlas
from graphssl.data.text_files import read_text_table
from graphssl.errors import AtlasError, InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".node")


def atlas_from_table(path: str | os.PathLike[str], *, name: str | None = None) -> Atlas:
    """Read an atlas from a table with one row a region.

    Columns are found by name, in upper or lower case: label ids (`code`, `label`, `roi label`, `value`, `id`, `number`, `roi` or `index`, the first
    that there is), coordinates (`x`, `y`, `z` or `R`, `A`, `S`; MNI mm), and where there are any, names (`name`, `roi name`, `region`, …) and
    networks (`network`, `yeo7`, …; `none` and the like stand for no network). An `index` that starts at zero counts rows, so it is raised by one.
    A row called background, or of label zero without coordinates, is left out. A BrainNet Viewer `.node` file has no label ids: its rows are
    counted from one.

    Args:
        path: A `.csv`, `.tsv` or `.node` file.
        name: Name of the atlas; that of the file when left out.

    Raises:
        AtlasError: If the file is absent, empty or no table, or has no label ids or coordinates, or labels repeat or are not whole positive numbers.
    """
    source = Path(path)
    table = _read_nodes(source) if source.suffix.lower() == ".node" else read_region_table(source)
    table = _counted_from_one(_without_background(table), source)
    if table.empty:
        raise AtlasError(f"Expected regions in {source}, found none.")
    if "x" not in table:
        raise AtlasError(
            f"Expected the columns x, y and z (or R, A and S; MNI mm) in {source}, found none. A table without them can only name a volume's labels."
        )
    centroids = table[["x", "y", "z"]].to_numpy(dtype=float)
    labels = table["label"].to_numpy(dtype=np.int64)
    check_labels(labels, source)
    check_centroids(centroids, labels, source)
    return Atlas(name or source.stem, labels, tuple(table["name"]), centroids.astype(np.float32), tuple(table["network"]))


def read_region_table(path: Path) -> pd.DataFrame:
    """Read a table of regions, whatever its columns are called.

    Returns:
        A table with `label` (whole numbers), `name` and `network` (text, empty where unknown), `x`, `y`, `z` (floats, where the file has them) and
        `counted` (whether the labels come from a column that may count rows from zero).

    Raises:
        AtlasError: If the file is absent, empty or no table, has no label ids, or a label or coordinate is not a number.
    """
    raw = _read_text_table(path)
    by_name = {_plain(column): column for column in raw.columns}
    label_column = _label_column(raw, by_name, path)
    table = pd.DataFrame({"label": _whole_numbers(raw[label_column], path)})
    table["name"] = _first_text(raw, [*_NAME_COLUMNS, "label", "region_label"], by_name, taken=label_column)
    table["network"] = _first_text(raw, _NETWORK_COLUMNS, by_name, taken=label_column)
    table["network"] = table["network"].where(~table["network"].str.lower().isin(_NO_NETWORK), "")
    axes = next((names for names in _AXES if set(names) <= set(by_name)), None)
    if axes is not None:
        for axis, column in zip("xyz", axes, strict=True):
            table[axis] = _numbers(raw[by_name[column]], path)
    table["counted"] = _plain(label_column) == "index"
    return table


def check_labels(labels: npt.NDArray[np.int64], path: Path) -> None:
    """Check that label ids are positive and each is there once.

    Raises:
        AtlasError: If they are not; names the file.
    """
    low = labels[labels < 1]
    if low.size:
        raise AtlasError(
            f"Expected label ids from 1 up in {path}, found {low[:5].tolist()}. Zero is the background; negative ones come of too narrow a type."
        )
    values, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
        raise AtlasError(
            f"Expected each label id once in {path}, found {values[counts > 1][:5].tolist()} repeated. Regions are known by their label."
        )


def check_centroids(centroids: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], path: Path) -> None:
    """Check that every region has a place that can be in a head.

    Raises:
        AtlasError: If one has not; names the file.
    """
    absent = ~np.isfinite(centroids).all(axis=1)
    if absent.any():
        raise AtlasError(f"Expected coordinates of every region in {path}, found none for labels {labels[absent][:5].tolist()}.")
    far = np.abs(centroids).max(axis=1) > _LARGEST_COORDINATE
    if far.any():
        raise AtlasError(
            f"Expected centroids in MNI mm (within ±{_LARGEST_COORDINATE:g}) in {path}, found "
            f"{centroids[far][0].round(1).tolist()} for label {labels[far][0]}. "
            "Voxel indices must be converted to mm with the affine of their image."
        )


_LABEL_COLUMNS = ("code", "label", "roi_label", "label_id", "value", "id", "number", "roi", "region", "index")
_NAME_COLUMNS = ("name", "roi_name", "region_name", "label_name", "full_name", "region", "abbreviation")
_NETWORK_COLUMNS = ("network", "network_name", "yeo7", "yeo_7", "yeo17", "system", "community")
_NO_NETWORK = ("none", "nan", "na", "n/a", "null", "unknown", "unassigned", "uncertain", "-")
_AXES = (("x", "y", "z"), ("mni_x", "mni_y", "mni_z"), ("x_mni", "y_mni", "z_mni"), ("r", "a", "s"))
_BACKGROUND = ("background", "empty", "null")
_LARGEST_COORDINATE = 150.0


def _plain(column: object) -> str:
    return "_".join(str(column).strip().lstrip("#").lower().replace(".", " ").replace("-", " ").replace("_", " ").split())


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise AtlasError(f"Expected an atlas file at {path}, found none. Check the path.")
    if path.stat().st_size == 0:
        raise AtlasError(f"Expected regions in {path}, found an empty file.")


def _read_text_table(path: Path) -> pd.DataFrame:
    _check_there(path)
    try:
        return read_text_table(path)
    except InputError as error:
        raise AtlasError(str(error)) from error
    except (ValueError, OSError) as error:
        raise AtlasError(f"Expected a table of regions in {path}, found something else ({error}). Save it again as UTF-8.") from error


def _read_nodes(path: Path) -> pd.DataFrame:
    """BrainNet Viewer (Xia et al. 2013, doi:10.1371/journal.pone.0068910): x, y, z, colour, size and name in a row, `-` for no name."""
    _check_there(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AtlasError(f"Expected a BrainNet Viewer node file at {path}, found something else ({error}).") from error
    rows = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise AtlasError(f"Expected regions in {path}, found only comments.")
    short = [row for row in rows if len(row) < 5]
    if short:
        raise AtlasError(f"Expected x, y, z, colour, size and name in each row of {path}, found {' '.join(short[0])!r}.")
    table = pd.DataFrame({"label": range(1, len(rows) + 1), "name": [_node_name(row) for row in rows], "network": "", "counted": False})
    for k, axis in enumerate("xyz"):
        table[axis] = _numbers(pd.Series([row[k] for row in rows], dtype=str), path)
    return table


def _node_name(row: list[str]) -> str:
    name = " ".join(row[5:])
    return "" if name == "-" else name


def _label_column(raw: pd.DataFrame, by_name: dict[str, str], path: Path) -> str:
    """The first column of label ids; one of words only (`label` often is) holds names."""
    for name in _LABEL_COLUMNS:
        if name in by_name and pd.to_numeric(raw[by_name[name]], errors="coerce").notna().any():
            return by_name[name]
    raise AtlasError(
        f"Expected a column of label ids ({', '.join(_LABEL_COLUMNS)}) in {path}, found the columns {list(raw.columns)} and {len(raw)} rows."
    )


def _numbers(values: "pd.Series[str]", path: Path) -> npt.NDArray[np.float64]:
    empty = values.str.strip().str.lower().isin(("", "nan", "na", "n/a"))
    numbers = pd.to_numeric(values.where(~empty), errors="coerce")
    odd = values[numbers.isna() & ~empty]
    if len(odd):
        raise AtlasError(f"Expected numbers in column {values.name!r} of {path}, found {odd.iloc[0]!r}.")
    return numbers.to_numpy(dtype=float)


def _whole_numbers(values: "pd.Series[str]", path: Path) -> npt.NDArray[np.int64]:
    numbers = _numbers(values, path)
    odd = ~(np.isfinite(numbers) & (numbers == np.round(numbers)))
    if odd.any():
        raise AtlasError(
            f"Expected whole numbers as label ids in column {values.name!r} of {path}, found {values[odd].iloc[0]!r} in row {int(odd.argmax()) + 1}."
        )
    return numbers.astype(np.int64)


def _first_text(raw: pd.DataFrame, names: Iterable[str], by_name: dict[str, str], taken: str) -> "pd.Series[str]":
    column = next((by_name[name] for name in names if name in by_name and by_name[name] != taken), None)
    if column is None:
        return pd.Series("", index=raw.index, dtype=str)
    text = raw[column].str.strip()
    return text.where(~text.str.lower().isin(("nan", "n/a")), "")


def _without_background(table: pd.DataFrame) -> pd.DataFrame:
    nowhere = table["x"].isna() if "x" in table else False
    background = (table["label"] == 0) & (table["name"].str.lower().isin(_BACKGROUND) | nowhere)
    return table[~background].reset_index(drop=True)


def _counted_from_one(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Rows counted from zero get label ids from one: zero is the background everywhere else."""
    if not (table["counted"].any() and (table["label"] == 0).any()):
        return table
    check_labels(table["label"].to_numpy(dtype=np.int64) + 1, path)
    return table.assign(label=table["label"] + 1)
