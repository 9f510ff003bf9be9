"""Tables: one row a subject, in a text file, Parquet, or memory; what the columns hold is guessed, or told by a schema."""

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.data import Cohort, Column, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.schema import Role, typed
from graphssl.data.text_files import header_of
from graphssl.datasets.columns import as_declared, find_ids, guess_schema, with_categories
from graphssl.datasets.listing import Listing
from graphssl.datasets.participants import ID_WORDS, as_names, as_numbers, as_text, drop_empty_columns, roles_of
from graphssl.datasets.table_files import TEXT_ENDINGS, columns_without, read_table_files, tight
from graphssl.errors import ConfigError, InputError, SchemaError

# Values that stand for nothing, everywhere or by column name.
Missing = Sequence[str | float] | Mapping[str, Sequence[str | float]]


def load_tables(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    id_column: str | None = None,
    target: str | None = None,
    positive: Sequence[str] = (),
    site: str | None = None,
    group: str | None = None,
    covariates: Sequence[str] = (),
    drop: Sequence[str] = (),
    missing: Missing = ("?",),
    schema: Schema | str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> Cohort:
    """Read a clinical table with one row a subject (or a visit, with a group for the person) as a cohort.

    A text file may be delimited by commas, semicolons or tabs, with decimal commas between the latter two, and gzipped. Parquet, one file or a folder
    of shards, is read row group by row group into small types, so that a table larger than memory on the disk may fit; `drop` is not read at all.
    What the columns hold is guessed. Print `cohort.schema` to see it, correct it with `schema.save("schema.yaml")` and give that file as `schema`.

    Args:
        source: The file, the folder of shards, or a table.
        id_column: Column of the ids. When left out: the first one called as ids are with another value in every row, else rows are numbered.
        target: Column to predict.
        positive: Values of the target that make one class, `yes`, against all others, `no`.
        site: Column of the site; when left out, one called `site`, `hospital` or the like.
        group: Column of the person where rows are visits, or of the family; when left out, one of ids of people that repeat.
        covariates: Columns that may explain the target.
        drop: Columns to leave out, such as those that were known only after the target.
        missing: Values that stand for nothing besides empty cells, `NaN` and `n/a`, such as `("?", -9999)`; by column, such as `{"chol": [0]}`.
        schema: Kinds, roles, units and ranges, in place of guesses and of the roles above; columns that are not in it are left out.
        name: Name of the cohort; that of the file when left out.

    Returns:
        A cohort without region data. Columns without a value, dropped ones and those outside the schema are listed in `excluded`.

    Raises:
        DataError: If a file cannot be read; a truncated shard is named.
        SchemaError: If a named column is absent, an id repeats, a unit is unknown, or values do not fit the schema.
        ConfigError: If roles are given beside a schema, or positive values without a target.
    """
    roles = roles_of(target, site, group, covariates)
    if schema is not None and roles:
        raise ConfigError(f"Expected roles in the schema or as arguments, found both ({', '.join(roles)}). Put them into the schema.")
    declared = schema if schema is None or isinstance(schema, Schema) else Schema.load(schema)
    table = _read(source, drop, roles, id_column)
    _check_names(table, [id_column, *roles, *(missing if isinstance(missing, Mapping) else ())])
    _check_repeated(table, id_column, roles if declared is None else [column.name for column in declared])
    table = _without(_indexed(table, id_column), missing)
    excluded = [("column", column, "left out as asked") for column in drop]
    if declared is not None:
        strangers = [str(column) for column in table.columns if column not in declared]
        table, excluded = table.drop(columns=strangers), [*excluded, *(("column", column, "not in the schema") for column in strangers)]
    table, empty = drop_empty_columns(table, roles if declared is None else {c.name: c.role for c in declared if c.role != "feature"})
    lacking = {column for _, column, _ in empty}
    declared = guess_schema(table, roles) if declared is None else Schema([column for column in declared if column.name not in lacking])
    table, declared = _one_against_all(as_declared(table, declared), declared, positive)
    called = name or ("table" if isinstance(source, pd.DataFrame) else Path(source).name.partition(".")[0])
    return Cohort(called, table, with_categories(declared, table), {}, pd.DataFrame([*excluded, *empty], columns=list(EXCLUDED_COLUMNS), dtype="str"))


def is_table(listing: Listing) -> bool:
    """Whether a path is a table of subjects: Parquet alone, or one text file with words in its cells or a name of an id, age or sex above them."""
    if not listing.is_file:
        return all(name.lower().endswith(".parquet") for name in listing.names)
    name = listing.names[0].lower()
    if name.endswith(".parquet"):
        return True
    if not name.endswith(TEXT_ENDINGS):
        return False
    try:
        table = read_table_files(listing.path, n_rows=_LOOKED_AT)
    except InputError:
        return any(map(_is_usual, header_of(listing.path)))
    return any(_is_usual(str(column)) for column in table.columns) or any(not pd.api.types.is_numeric_dtype(table[c]) for c in table.columns[1:])


def _read(source: str | os.PathLike[str] | pd.DataFrame, drop: Sequence[str], roles: Mapping[str, Role], id_column: str | None) -> pd.DataFrame:
    if not isinstance(source, pd.DataFrame):
        kept = [column for column, role in roles.items() if role in ("site", "group")]
        table = read_table_files(Path(source), without=drop, as_text=[*kept, *([id_column] if id_column else [])])
        names = {name: as_names(table[name]) for name in (*kept, id_column) if name is not None and name in table.columns}
        return _with_unnamed_index(table.assign(**names))
    table = source[columns_without([str(column) for column in source.columns], drop)]
    named = source.index.name is not None and source.index.name not in source.columns
    return tight(typed(table.reset_index() if named else table.reset_index(drop=not pd.api.types.is_string_dtype(source.index), names="subject_id")))


def _with_unnamed_index(table: pd.DataFrame) -> pd.DataFrame:
    """What pandas writes as an index without a name: ids where it is text that differs, else the numbers of rows."""
    name = next((name for name in _UNNAMED if name in table.columns), None)
    if name is None or (name != _UNNAMED[0] and not table[name].is_unique):
        return table
    return table.drop(columns=name) if pd.api.types.is_numeric_dtype(table[name]) else table.rename(columns={name: "subject_id"})


def _check_names(table: pd.DataFrame, names: Collection[str | None]) -> None:
    known = [str(column) for column in table.columns]
    absent = [name for name in names if name is not None and name not in known]
    if absent:
        near = difflib.get_close_matches(absent[0], known, n=1)
        raise SchemaError(f"Expected the columns {absent} in the table, found {known[:10]}{f'; perhaps {near[0]!r} is meant' if near else ''}.")


def _check_repeated(table: pd.DataFrame, id_column: str | None, told: Collection[str]) -> None:
    """Check that a column called `id` of which nothing is told does not repeat where no other column has ids: visits and copies look alike."""
    name = next((str(column) for column in table.columns if str(column).strip().lower() == "id" and column not in told), None)
    if id_column is not None or name is None or find_ids(table) is not None:
        return
    ids = as_text(table[name]).dropna()
    repeated = ids[ids.duplicated()].unique().tolist()
    if repeated:
        raise SchemaError(
            f"Expected another id in every row of column {name!r}, found {len(repeated)} repeated: {repeated[:5]}. "
            f"Where rows are visits of one person name it as the group (group={name!r}); else remove the copies, or drop the column."
        )


def _indexed(table: pd.DataFrame, id_column: str | None) -> pd.DataFrame:
    """The table by ids of text."""
    id_column = id_column or find_ids(table)
    if id_column is None:
        return table.set_index(pd.Index([_ROW.format(number) for number in range(len(table))], dtype="str"))
    ids = as_text(table[id_column]).fillna("")
    return table.drop(columns=id_column).set_index(pd.Index(ids.tolist(), dtype="str"))


def _without(table: pd.DataFrame, missing: Missing) -> pd.DataFrame:
    """The table without what stands for nothing; a column that held numbers beside it becomes numeric."""
    return pd.DataFrame({name: _nothing_as_missing(table[name], _odd(missing, name)) for name in table.columns}, index=table.index)


def _odd(missing: Missing, name: str) -> set[str]:
    return {str(value) for value in (missing.get(name, ()) if isinstance(missing, Mapping) else missing)}


def _nothing_as_missing(column: "pd.Series[Any]", odd: set[str]) -> "pd.Series[Any]":
    """The column without values that are one of the odd ones, as text or as numbers: -9999.0 is -9999."""
    numbers = pd.to_numeric(pd.Series(sorted(odd), dtype="str"), errors="coerce").dropna()
    if pd.api.types.is_numeric_dtype(column):
        # In the precision of the column, where 99.9 is another number.
        found = column.isin(numbers.astype(column.dtype) if pd.api.types.is_float_dtype(column) else numbers)
        return column.mask(found) if found.any() else column
    text = as_text(column)
    is_code = text.str.contains(r"^-?0\d", na=False)
    found = text.isin(odd) | (pd.to_numeric(text, errors="coerce").isin(numbers) & ~is_code)
    return as_numbers(text.mask(found)) if found.any() else column


def _one_against_all(table: pd.DataFrame, schema: Schema, positive: Sequence[str]) -> tuple[pd.DataFrame, Schema]:
    if not positive:
        return table, schema
    targets = schema.named("target")
    if len(targets) != 1:
        raise ConfigError(f"Expected one target beside the positive values {list(positive)}, found {targets or 'none'}. Name it.")
    values = as_text(table[targets[0]])
    absent = sorted({str(value) for value in positive} - set(values.dropna()))
    if absent:
        raise SchemaError(
            f"Expected the positive values among those of {targets[0]!r}, found {absent} in no row. It holds {sorted(set(values.dropna()))[:10]}."
        )
    classes = values.isin([str(value) for value in positive]).map({True: "yes", False: "no"}).mask(values.isna())
    columns = [Column(c.name, "binary", c.role, categories=("no", "yes")) if c.name == targets[0] else c for c in schema]
    return table.assign(**{targets[0]: classes}), Schema(columns)


def _is_usual(name: str) -> bool:
    return name.strip().lower() in _USUAL or (ID_WORDS.search(name) is not None and len(name) > 1)


_LOOKED_AT = 100
# Ids of rows where no column has any; and the first of them, by which such a table is known.
_ROW = "row-{:07d}"
FIRST_ROW = _ROW.format(0)
# In Parquet and in text.
_UNNAMED = ("__index_level_0__", "Unnamed: 0")
_USUAL = ("age", "sex", "gender", "diagnosis", "bmi")
