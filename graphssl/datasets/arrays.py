"""One array a file: text tables, NumPy and MATLAB files, with the names of their rows and columns where they carry any."""

import csv
import io
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from graphssl.data.text_files import MISSING, decoded, with_points
from graphssl.datasets.cifti import read_cifti
from graphssl.datasets.graph_files import read_edge_list, read_graphml
from graphssl.datasets.labelled import Array, LabelledArray, Names, Page
from graphssl.datasets.matlab import read_matlab, read_matlab_pages, real_numbers, the_only
from graphssl.errors import DataError, InputError

# Formats looked for in a folder. A .txt is read where a pattern asks for it: folders hold a README too.
SUFFIXES = (".1D", ".tsv", ".csv", ".npy", ".npz", ".mat")


def read_array(path: str | os.PathLike[str], *, variable: str | None = None) -> tuple[Array, Names | None]:
    """Read the one two-dimensional array of a file; nothing is ever unpickled.

    A text table (`.1D`, `.tsv`, `.csv`, `.txt`) may be delimited by tabs, commas, semicolons or blanks. Its columns may be named by the last
    comment line at its top (`#2001 #2002 …`, as AFNI writes), by a first line of text, or by a first line of distinct whole numbers over others.
    A first column that names the rows (XCP-D writes one called `Node`) is taken off. Parcellated CIFTI files (`.ptseries.nii`, `.pconn.nii`), graphs
    (`.graphml`, `.edgelist`, `.ssv`) and BrainNet Viewer's `.edge` are read too.

    Args:
        path: The file.
        variable: Name of the array in a `.npz` or `.mat`; may be left out where there is one only. Other formats have no names.

    Returns:
        The numbers `[rows, columns]` and the names of the columns, or None where there are none.

    Raises:
        DataError: If the file is missing, empty, unreadable or of another format, holds text where numbers belong, or no single array.
    """
    found = read_labelled(path, variable=variable)
    return found.values, found.columns


def read_labelled(path: str | os.PathLike[str] | Page, *, variable: str | None = None) -> LabelledArray:
    """Read a file as `read_array` does, with the names of its rows too; or one matrix of a file with several.

    Raises:
        DataError: As `read_array`.
    """
    if isinstance(path, Page):
        return read_matlab_pages(path.file, variable)[path.number]
    source = Path(path)
    reader = next((reader for ending, reader in _READERS.items() if source.name.lower().endswith(ending)), None)
    if reader is None:
        raise DataError(f"Expected a file with one of the endings {', '.join(ENDINGS)}; found {source}. Convert it to one of them.")
    if not source.is_file():
        raise DataError(f"Expected a file at {source}, found none. Check the path.")
    if source.stat().st_size == 0:
        raise DataError(f"Expected an array in {source}, found an empty file. Copy or make it again.")
    try:
        found = reader(source, variable)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"Expected text in {source}, found bytes of another encoding ({error}). Save it again as UTF-8.") from error
    except Exception as error:  # damaged bytes make the readers of others fail in any way
        if "allow_pickle" in str(error):
            raise DataError(f"Expected plain numbers in {source}, found pickled objects, which are never read. Save the numbers alone.") from error
        raise DataError(f"Expected an array in {source}, found a file that cannot be read ({error}). Copy or make it again.") from error
    if found.values.ndim != 2 or found.values.size == 0:
        raise DataError(f"Expected a two-dimensional array in {source}, found shape {found.values.shape}. {_ONE_EACH}")
    return found


def is_whole_number(text: str) -> bool:
    """Whether a name is a whole number, and so a label id."""
    return _WHOLE_NUMBER.fullmatch(text) is not None


# Text


def _read_text(path: Path, variable: str | None) -> LabelledArray:
    comments, lines = _lines(path)
    separator = next((mark for mark in "\t;," if mark in lines[0]), " ")
    if separator in "\t;":
        lines = [with_points(line) for line in lines]
    columns = _names_in_comment(comments[-1]) if comments else None
    first_line = len(comments) + 1
    header = _cells(lines[0], separator)
    if len(lines) > 1 and _is_header(header, _cells(lines[1], separator)):
        lines, columns, first_line = lines[1:], tuple(header), first_line + 1
    _check_width(lines, separator, path)
    frame, columns, rows = _without_row_names(*_without_empty_end(_parse(lines, separator, path), columns))
    _check_numbers(frame, path, first_line, n_before=0 if rows is None else 1)
    if columns is not None and len(columns) != frame.shape[1]:
        columns = None  # a comment about something else
    return LabelledArray(real_numbers(frame.to_numpy(dtype=np.float64, na_value=np.nan), path), columns, rows)


def _lines(path: Path) -> tuple[list[str], list[str]]:
    """Comment lines at the top, and the lines below that are not blank."""
    lines = [line for line in decoded(path.read_bytes()).splitlines() if line.strip()]
    n_comments = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if n_comments == len(lines):
        raise DataError(f"Expected rows of numbers in {path}, found none. Copy or make it again.")
    return lines[:n_comments], lines[n_comments:]


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        return [cell.strip('"') for cell in line.split()]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]


def _names_in_comment(comment: str) -> Names:
    marks = "\t" if "\t" in comment else "," if "," in comment else r"\s+"
    return tuple(name for name in (part.replace("#", "").strip().strip('"') for part in re.split(marks, comment)) if name)


def _is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first line names columns: it is mostly text, or whole numbers that look like label ids."""
    names = [name for name in first[1:] or first if name]
    n_text = sum(not _is_number(name) for name in names)
    if n_text:
        # A line with one odd cell among numbers is damaged; it must not pass for names and vanish.
        return 2 * n_text > len(names)
    if not names or not all(map(is_whole_number, names)) or len(set(names)) < len(names):
        return False
    ids = [int(name) for name in names]
    rising = len(ids) >= _MIN_RISING and all(a < b for a, b in pairwise(ids))
    over_fractions = not all(map(is_whole_number, second[1:] or second))
    # A row of a matrix of -1, 0 and 1 is no row of label ids.
    return (rising or over_fractions) and not set(ids) <= {-1, 0, 1}


def _is_number(cell: str) -> bool:
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_width(lines: list[str], separator: str, path: Path) -> None:
    """Check that no line is short: pandas fills such a line up with what is not there."""
    first = len(_cells(lines[0], separator))
    for number, line in enumerate(lines, start=1):
        n_cells = len(_cells(line, separator)) if '"' in line else len(line.split(None if separator == " " else separator))
        if n_cells < first:
            raise DataError(
                f"Expected rows of one length in {path}, found {first} cells in the first and {n_cells} in row {number} of {len(lines)}. The file is "
                "cut off or damaged: copy or make it again."
            )


def _parse(lines: list[str], separator: str, path: Path) -> pd.DataFrame:
    marks = r"\s+" if separator == " " else separator
    try:
        return pd.read_csv(io.StringIO("\n".join(lines)), sep=marks, header=None, skipinitialspace=True, low_memory=False)
    except pd.errors.ParserError as error:
        raise DataError(f"Expected rows of one length in {path}, found others ({error}). Copy or make it again.") from error


def _without_empty_end(frame: pd.DataFrame, columns: Names | None) -> tuple[pd.DataFrame, Names | None]:
    """Take off the empty last column of a table whose lines end with a delimiter."""
    if columns is None or not frame.iloc[:, -1].isna().all():
        return frame, columns
    if columns[-1] == "":
        columns = columns[:-1]
    return (frame.iloc[:, :-1], columns) if len(columns) == frame.shape[1] - 1 else (frame, columns)


def _without_row_names(frame: pd.DataFrame, columns: Names | None) -> tuple[pd.DataFrame, Names | None, Names | None]:
    if frame.shape[1] < 2:
        return frame, columns, None
    first = frame.iloc[:, 0].astype(str)
    is_text = first.is_unique and not frame.iloc[:, 0].isna().any() and not any(map(_is_number, first))
    n_names = None if columns is None else len(columns)
    # An unnamed first column is an index, and so is one that repeats the names of the columns.
    is_index = columns is not None and n_names == frame.shape[1] and (columns[0] in ("", "Unnamed: 0") or tuple(first) == columns[1:])
    if not (is_text or is_index or n_names == frame.shape[1] - 1):
        return frame, columns, None
    if columns is not None and n_names == frame.shape[1]:
        columns = columns[1:]
    return frame.iloc[:, 1:], columns, tuple(first)


def _check_numbers(frame: pd.DataFrame, path: Path, first_line: int, n_before: int) -> None:
    for position, name in enumerate(frame.columns, start=1 + n_before):
        column = frame[name]
        if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
            odd = column.notna() & pd.to_numeric(column.astype(str), errors="coerce").isna()
            row = int(odd.to_numpy().argmax())
            raise DataError(
                f"Expected numbers in {path}, found the text {str(column.iloc[row])!r} in line {first_line + row}, column {position}. "
                "Leave missing values empty or write n/a. A table of participants among the files is named with participants=…"
            )


# NumPy and the rest


def _read_npy(path: Path, variable: str | None) -> LabelledArray:
    _check_start(path, b"\x93NUMPY", "numpy.save")
    return LabelledArray(real_numbers(np.load(path, allow_pickle=False), path))


def _read_npz(path: Path, variable: str | None) -> LabelledArray:
    _check_start(path, b"PK", "numpy.savez")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        names = list(stored.files)
        arrays = {name: stored[name] for name in names if variable in (None, name)}
    return LabelledArray(real_numbers(the_only(arrays, names, variable, path), path))


def _check_start(path: Path, expected: bytes, writer: str) -> None:
    with path.open("rb") as file:
        found = file.read(len(expected))
    if found != expected:
        raise DataError(f"Expected a file written by {writer} at {path}, found another format. Pickled objects are never read: save plain numbers.")


_ONE_EACH = "Save one array a subject, or those of all as numpy.savez('all.npz', corr=…, label=…), where timeseries and site may stand too."
# A first line of this many rising whole numbers is one of label ids, whatever stands below.
_MIN_RISING = 8
_WHOLE_NUMBER = re.compile(r"-?\d+")
_READERS: dict[str, Callable[[Path, str | None], LabelledArray]] = {
    ".1d": _read_text,
    ".tsv": _read_text,
    ".csv": _read_text,
    ".txt": _read_text,
    ".edge": _read_text,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mat": read_matlab,
    ".pconn.nii": lambda path, variable: read_cifti(path),
    ".ptseries.nii": lambda path, variable: read_cifti(path),
    ".graphml": lambda path, variable: read_graphml(path),
    ".edgelist": lambda path, variable: read_edge_list(path),
    ".ssv": lambda path, variable: read_edge_list(path),
}
# All endings that can be read.
ENDINGS = tuple(".1D" if ending == ".1d" else ending for ending in _READERS)
