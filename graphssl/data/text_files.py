"""Tables in text files as spreadsheets and databases of many countries write them: encodings, delimiters, decimal commas."""

import csv
import gzip
import io
import re
import warnings
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.errors import DataError, SchemaError

# What the field writes for "not known" (BIDS: n/a; MySQL: \\N; SAS and SPSS: a point).
MISSING = ("", "n/a", "na", "nan", "null", "none", "<na>", "#n/a", "\\n", ".", "#null!")


def read_text_table(path: Path, n_rows: int | None = None) -> pd.DataFrame:
    """A text file, or a gzipped one, or its first rows, as text: tabs, semicolons or commas between columns, no blanks around names of columns.

    A first column without a name that counts the rows is none, and left out: pandas writes its index so.

    Raises:
        DataError: If rows have fewer or more cells than the header, or it is not plain whether commas are decimal or stand between thousands.
        SchemaError: If two columns have one name.
        ValueError: If the file is empty, or its bytes are no text.
    """
    text = _text_of(path)
    separator = delimiter(text)
    check_names_differ(next(_records(text, separator), []), path)
    table = _parsed(text, separator, path, n_rows)
    _check_cells(text, separator, path)
    if len(table.columns) > 1 and str(table.columns[0]) == _UNNAMED and _counts_rows(table.iloc[:, 0]):
        table = table.iloc[:, 1:]
    if separator != ",":  # between commas, 1,000 may be a thousand
        table = _with_points(table, path)
    return table.rename(columns=str.strip)


def header_of(path: Path) -> list[str]:
    """Names of the columns of a text file; none where it is no text."""
    try:
        text = _text_of(path)
    except (OSError, EOFError, ValueError):
        return []
    return [name.strip() for name in next(_records(text, delimiter(text)), [])]


def decoded(content: bytes) -> str:
    """Text of a file: UTF-8, or UTF-16 that begins with its mark, as spreadsheets export "Unicode text".

    Raises:
        UnicodeDecodeError: If it is neither.
    """
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


def delimiter(text: str) -> str:
    """What stands between the columns: the mark that cuts the first rows into the same number of cells, the most; else the first in the header.

    A comma in a name (`BMI (kg, m)`) or in numbers cuts nothing where semicolons do.
    """
    widths = {mark: {_width(record) for record in islice(_records(text, mark), _LOOKED_AT)} for mark in _MARKS}
    fitting = {mark: max(found) for mark, found in widths.items() if len(found) == 1 and max(found) > 1}
    if fitting:
        return max(fitting, key=lambda mark: fitting[mark])  # the first of the marks where two cut alike
    header = text.partition("\n")[0]
    return next((mark for mark in _MARKS if mark in header), ",")


def check_names_differ(names: Sequence[object], path: object) -> None:
    """Check that no two columns have one name.

    Raises:
        SchemaError: If two have; names them.
    """
    plain = [str(name).strip() for name in names]
    repeated = list(dict.fromkeys(name for name in plain if name and plain.count(name) > 1))
    if repeated:
        raise SchemaError(f"Expected another name for every column of {path}, found {repeated[:5]} repeated. Rename them, or take the copies out.")


def with_points(text: str) -> str:
    """Numbers with a decimal comma, as spreadsheets of many countries write them between tabs or semicolons, with a point."""
    return _DECIMAL_COMMA.sub(r"\1.\2", text)


def _width(record: list[str]) -> int:
    """Number of cells; none where a mark cuts what stands between quotation marks."""
    return 0 if any(cell.count('"') % 2 for cell in record) else len(record)


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    text = decoded(gzip.decompress(content) if path.suffix.lower() == ".gz" else content)
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return _SEPARATOR.sub("", plain, count=1)


def _records(text: str, mark: str) -> Any:
    """Rows that are not blank, as cells; none behind one that is no record."""
    rows = csv.reader(io.StringIO(text), delimiter=mark, skipinitialspace=True)
    try:
        yield from (row for row in rows if any(row))
    except csv.Error:
        return


def _parsed(text: str, separator: str, path: Path, n_rows: int | None) -> pd.DataFrame:
    with warnings.catch_warnings():
        # pandas warns where rows are longer than the header, and would cut them.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # Everything as text first: a number would lose the zeros of an id.
            return pd.read_csv(
                io.StringIO(text), sep=separator, dtype="str", keep_default_na=False, skipinitialspace=True, index_col=False, nrows=n_rows
            )
        except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
            raise DataError(
                f"Expected as many cells in every row of {path} as in its header, found more in some. Put cells that hold {separator!r} into "
                "quotation marks, and take out lines above the header."
            ) from error


def _counts_rows(column: "pd.Series[Any]") -> bool:
    numbers = pd.to_numeric(column, errors="coerce")
    return bool(len(numbers) and numbers.notna().all() and numbers.iloc[0] in (0, 1) and (numbers.diff().iloc[1:] == 1).all())


def _check_cells(text: str, separator: str, path: Path) -> None:
    """Check that no row is short: pandas fills such a row up as if its last cells were empty."""
    rows = _records(text, separator)
    width = len(next(rows, []))
    short = [number for number, row in enumerate(rows, start=1) if len(row) < width]
    if short:
        raise DataError(
            f"Expected as many cells in every row of {path} as in its header, found fewer in {len(short)}, the first being row {short[0]} below the "
            "header. The file is cut off, or there are lines that are no rows: copy it again, or take them out."
        )


def _with_points(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Columns of numbers with decimal commas with points instead; any other as they are.

    Raises:
        DataError: If all commas of the table may as well stand between thousands, or points beside decimal commas may.
    """
    made, plain, open_columns, of_points = {}, False, [], []
    for place, name in enumerate(table.columns):
        column = table[name].str.strip()
        commas, dots = (column[column.str.contains(mark, regex=False)].drop_duplicates() for mark in ",.")
        if len(dots) and dots.str.fullmatch(_THOUSANDS.format(r"\.")).all():
            of_points.append(str(name).strip())
        points = column.map(with_points) if len(commas) else column
        are_numbers = pd.to_numeric(points, errors="coerce").notna() | column.str.lower().isin((*MISSING, "?"))
        # A number with a point of its own beside those with commas: the commas are thousands, and the column stays text.
        is_mixed = column.str.fullmatch(r"[+-]?\d+\.\d+").any()
        if not len(commas) or is_mixed or not are_numbers.all():
            continue
        made[place] = points
        if commas.str.fullmatch(_THOUSANDS.format(",")).all():
            open_columns.append(str(name).strip())
        else:
            plain = True
    if open_columns and not plain:
        raise DataError(
            f"Expected decimal commas that are plain in {path}, found only commas before three digits in {open_columns[:5]}, which may stand between "
            "thousands. Write these numbers with a decimal point, or without the comma."
        )
    if of_points and plain:
        raise DataError(
            f"Expected decimal commas in all of {path} or in none, found them beside points before three digits in {of_points[:5]}, which may stand "
            "between thousands. Write these numbers without the point, or with a decimal comma."
        )
    return pd.DataFrame({place: made.get(place, table.iloc[:, place]) for place in range(table.shape[1])}).set_axis(table.columns, axis=1)


# The first of these counts where two cut rows alike: a name holds a comma sooner than a semicolon or a tab.
_MARKS = "\t;,"
_LOOKED_AT = 100
# What pandas calls a first column without a name.
_UNNAMED = "Unnamed: 0"
# The line above the header by which a spreadsheet is told the delimiter.
_SEPARATOR = re.compile(r"\A\"?sep=.\"?\n", re.IGNORECASE)
_THOUSANDS = r"[+-]?[1-9]\d{{0,2}}{}\d{{3}}"
# A whole cell of digits, a comma and digits.
_DECIMAL_COMMA = re.compile(r"(?<![^;\t ])([+-]?\d+),(\d+(?:[eE][+-]?\d+)?)(?![^;\t ])")
