"""Files of tables: text, Parquet, and folders of Parquet shards, which are read row group by row group into small types."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graphssl.data.text_files import check_names_differ, read_text_table
from graphssl.datasets.participants import as_numbers
from graphssl.errors import DataError, InputError, SchemaError
from graphssl.folders import ordinary
from graphssl.progress import tracked

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")


def read_table_files(path: Path, *, without: Collection[str] = (), as_text: Collection[str] = (), n_rows: int | None = None) -> pd.DataFrame:
    """The table of a text file, a Parquet file, or a folder of Parquet shards.

    Args:
        path: The file or the folder; shards may lie in folders of it.
        without: Columns that are not read.
        as_text: Columns of a text file that stay as they are written.
        n_rows: How many rows of a text file to read; all when left out.

    Raises:
        DataError: If there is no such file or folder, or a file cannot be read; names every shard that cannot.
        SchemaError: If shards have different columns, a column to leave out is absent, a name repeats, or cells of Parquet hold lists or bytes.
    """
    if path.is_dir():
        return read_shards(sorted(path.rglob("*.parquet")), without=without, nested=False)
    if not path.is_file():
        raise DataError(f"Expected a table at {path}, found no such file. Check the path.")
    if path.suffix.lower() == ".parquet":
        return read_shards([path], without=without, nested=False)
    if not path.name.lower().endswith(TEXT_ENDINGS):
        raise DataError(f"Expected a table in a .parquet, {', '.join(TEXT_ENDINGS)} file, found {path}. Export or convert it to one of them.")
    table = read_text_file(path, n_rows)
    kept = columns_without([str(name) for name in table.columns], without)
    return pd.DataFrame({name: table[name] if name in as_text else as_numbers(table[name]) for name in kept})


def read_text_file(path: Path, n_rows: int | None = None) -> pd.DataFrame:
    """The table of a text file, as text.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return read_text_table(path, n_rows)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"Expected a table in {path}, found a file that cannot be read ({error}). Save it again as UTF-8.") from error


def columns_without(names: Sequence[str], without: Collection[str]) -> list[str]:
    """The names but those to leave out.

    Raises:
        SchemaError: If one to leave out is absent, or a name repeats.
    """
    check_names_differ(names, "the table")
    absent = sorted(set(without) - set(names))
    if absent:
        raise SchemaError(f"Expected the columns to leave out in the table, found none called {absent}. It has {list(names)[:10]}.")
    return [name for name in names if name not in without]


def read_shards(paths: Sequence[Path], *, without: Collection[str] = (), nested: bool = True) -> pd.DataFrame:
    """Rows of all shards, in their order. One row group at a time is held as it is on the disk: texts become categories, numbers the smallest type.

    Args:
        paths: The files.
        without: Columns that are not read.
        nested: Whether cells may hold lists, records or bytes, which become their text.

    Raises:
        DataError: If there is none, or some cannot be read; all are looked at first and these are named.
        SchemaError: If shards have different columns, a column to leave out is absent, a name repeats, or cells hold lists and must not.
    """
    files: dict[Path, pq.ParquetFile] = {}
    broken = []
    for path in paths:
        try:
            files[path] = pq.ParquetFile(ordinary(path))
        except (OSError, pa.ArrowException) as error:
            broken.append(f"{path.name} ({error})")
    if broken or not files:
        found = f"{len(broken)} of {len(paths)} that cannot be read: {', '.join(broken[:5])}" if broken else "none"
        raise DataError(
            f"Expected whole Parquet files, found {found}. Copy or make {'them' if broken else 'some'} again; the others were not touched."
        )
    names = columns_without(_same_columns(files), without)
    if not nested:
        _check_single_values(files, names)
    parts = [tight(group) for path, file in tracked(files.items(), "Reading shards") for group in _groups(path, file, names)]
    return stacked(parts)


def _groups(path: Path, file: pq.ParquetFile, names: Sequence[str]) -> Iterator[pd.DataFrame]:
    for number in range(max(file.num_row_groups, 1)):
        try:
            group = file.read_row_group(number, columns=names) if file.num_row_groups else file.schema_arrow.empty_table().select(names)
            table = exact(group)
        except Exception as error:  # damaged bytes make a reader fail in any way
            raise DataError(
                f"Expected a whole Parquet file in {path}, found a damaged one ({error}). Copy it again; the others were not touched."
            ) from error
        yield table


def exact(table: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """A table of Arrow for pandas: decimals as numbers, and whole numbers beside missing ones as text where a double would change them."""
    columns = {name: _exact_column(table.column(place)) for place, name in enumerate(table.schema.names)}
    made: pd.DataFrame = pa.table(columns).to_pandas(split_blocks=True, date_as_object=False)
    return made


def _exact_column(column: Any) -> Any:
    if isinstance(column.type, pa.BaseExtensionType):  # a database's own types, such as numerics of any length
        return column.cast(column.type.storage_type)
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if column.type in (pa.int64(), pa.uint64()) and column.null_count:
        ends = pc.min_max(column).as_py()
        return column.cast(pa.string()) if max(map(abs, filter(None, ends.values())), default=0) > _LARGEST_EXACT else column
    return column


def _check_single_values(files: dict[Path, pq.ParquetFile], names: Sequence[str]) -> None:
    types = {name: file.schema_arrow.field(name).type for file in files.values() for name in names}
    odd = {name: str(kind) for name, kind in types.items() if pa.types.is_nested(kind) or _is_bytes(kind)}
    if odd:
        name, kind = next(iter(odd.items()))
        raise SchemaError(
            f"Expected one value in each cell, found {kind} in column {name!r}{f' and others: {list(odd)[1:6]}' if len(odd) > 1 else ''}. Leave them "
            f"out (drop=[{', '.join(map(repr, odd))}]), or write a column for each value."
        )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _same_columns(files: dict[Path, pq.ParquetFile]) -> list[str]:
    first, *others = files
    names = list(files[first].schema_arrow.names)
    for path in others:
        differing = sorted(set(names) ^ set(files[path].schema_arrow.names))
        if differing:
            raise SchemaError(
                f"Expected the columns of {first.name} in {path.name}, found only in one of them: {differing[:5]}. Make the shards alike."
            )
    return names


def tight(table: pd.DataFrame) -> pd.DataFrame:
    """The same values in small types: texts as categories, whole numbers in as few bytes as they need, others in single precision."""
    return pd.DataFrame({name: _tight_column(table[name]) for name in table.columns}, index=table.index)


def _tight_column(column: "pd.Series[Any]") -> "pd.Series[Any]":
    if pd.api.types.is_bool_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype):
        return column
    if pd.api.types.is_integer_dtype(column):
        return pd.to_numeric(column, downcast="integer")
    if pd.api.types.is_float_dtype(column):
        values = column.to_numpy(dtype="float64")
        with np.errstate(invalid="ignore"):  # the infinite have no remainder
            whole_and_large = (np.abs(values) >= 2**24) & (values % 1 == 0)  # single precision has no odd numbers there: an id would change
        small = values.astype("float32") if not whole_and_large.any() else values
        return pd.Series(small, index=column.index)
    if pd.api.types.is_string_dtype(column) or column.dtype == object:
        return column.astype("str").astype("category")  # of one type also where nothing is there
    return column


def stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables below one another; categories stay categories.

    Raises:
        SchemaError: If they have different columns.
    """
    if len(parts) == 1:
        return parts[0].reset_index(drop=True)
    differing = sorted({str(name) for part in parts for name in set(part.columns) ^ set(parts[0].columns)})
    if differing:
        raise SchemaError(f"Expected the same columns in all parts of a table, found only in some: {differing[:5]}. Make the files alike.")
    columns = {}
    for name in parts[0].columns:
        pieces = [part[name] for part in parts]
        if all(isinstance(piece.dtype, pd.CategoricalDtype) for piece in pieces):
            columns[name] = pd.Series(pd.api.types.union_categoricals(pieces))
        else:
            columns[name] = pd.concat(pieces, ignore_index=True)
    return pd.DataFrame(columns)


# Up to here every whole number is a double.
_LARGEST_EXACT = 2**53
