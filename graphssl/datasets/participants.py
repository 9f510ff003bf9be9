"""The table of participants: ids read as text, columns as what they hold."""

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.data.cohort import check_ids
from graphssl.data.schema import Role, typed
from graphssl.data.text_files import MISSING, check_names_differ, read_text_table
from graphssl.datasets.data_dictionary import read_data_dictionary
from graphssl.errors import DataError, InputError, SchemaError


def read_participants(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    id_column: str = "participant_id",
    roles: Mapping[str, Role] | None = None,
) -> pd.DataFrame:
    """Read a table with one row a subject, as BIDS lays it out, or one a session where a column `session_id` tells rows of one subject apart.

    Text files are read as text: `n/a`, `NaN` and empty cells become missing, and a column of numbers becomes numeric unless its values have leading
    zeros (scanner `01`). Ids, sites and groups stay as they are written, and so does a target of up to ten whole numbers: these are names of classes
    (1.0 is 1).
    Codes of which `participants.json` tells the levels become their words, or stay as text where these are long.

    Args:
        source: A `.tsv`, `.csv`, `.txt` or `.parquet` file, or a table that was read already.
        id_column: Column of the subject ids, or name of the index of a table.
        roles: Role by column name.

    Returns:
        The table, indexed by subject id; with a row a session by ids such as `sub-01_ses-2`, and with the column `person`.

    Raises:
        DataError: If the file is missing, empty or cannot be read.
        SchemaError: If the id column is absent, ids are numbers, empty or repeated, a session is empty, or two columns have one name.
    """
    from_text = False
    if isinstance(source, pd.DataFrame):
        table = typed(source.copy())
    else:
        path = Path(source)
        from_text = path.suffix.lower() != ".parquet"
        table = _read_file(path)
    check_names_differ(list(table.columns), "the table" if isinstance(source, pd.DataFrame) else source)
    table = _indexed(table, id_column)
    if from_text:
        table.index = table.index.str.strip()
    table = _by_session(table)
    roles = roles or {}
    notes = read_data_dictionary(source)
    for name in table.columns:
        column = as_numbers(table[name]) if from_text else table[name]
        names_classes = roles.get(name) in ("site", "group") or (roles.get(name) == "target" and is_class(column))
        table[name] = as_names(table[name]) if names_classes else column
        if name in notes and notes[name].levels:
            table[name] = as_names(table[name]).replace(dict(notes[name].levels))
    return table


def is_longitudinal(table: pd.DataFrame | None) -> bool:
    """Whether a table has a row a session, as `read_participants` gives it."""
    return table is not None and {SESSION, PERSON} <= set(table.columns)


def find_participants(folder: Path) -> Path | None:
    """The `participants.tsv` or `.csv` of a folder, or None."""
    return next((folder / name for name in ("participants.tsv", "participants.csv") if (folder / name).is_file()), None)


def roles_of(target: str | None, site: str | None, group: str | None, covariates: Sequence[str]) -> dict[str, Role]:
    """Role by column name.

    Raises:
        SchemaError: If one column is given two roles.
    """
    named: list[tuple[str | None, Role]] = [(target, "target"), (site, "site"), (group, "group"), *((name, "covariate") for name in covariates)]
    roles: dict[str, Role] = {}
    for name, role in named:
        if name is None:
            continue
        if roles.get(name, role) != role:
            raise SchemaError(f"Expected one role a column, found {name!r} as {roles[name]} and as {role}. A target among the covariates would leak.")
        roles[name] = role
    return roles


def drop_empty_columns(table: pd.DataFrame, roles: Mapping[str, Role]) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """Take out columns in which nobody has a value and that have no role, and list them as a cohort does."""
    empty = [name for name in table.columns if name not in roles and table[name].isna().all()]
    return table.drop(columns=empty), [("column", str(name), "no subject has a value") for name in empty]


def _read_file(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"Expected a table of participants at {path}, found no such file. Check the path.")
    suffix = path.suffix.lower()
    if suffix not in (".tsv", ".csv", ".txt", ".parquet"):
        raise DataError(f"Expected the participants in a .tsv, .csv, .txt or .parquet file, found {path}. Export or convert it to one of them.")
    try:
        return pd.read_parquet(path) if suffix == ".parquet" else read_text_table(path)
    except InputError:
        raise
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        remedy = "Copy or make it again." if suffix == ".parquet" else "Save it again as UTF-8."
        raise DataError(f"Expected a table of participants in {path}, found a file that cannot be read ({error}). {remedy}") from error


def _indexed(table: pd.DataFrame, id_column: str) -> pd.DataFrame:
    if id_column in table.columns:
        return table.set_index(id_column).rename_axis(None)
    if table.index.name == id_column:
        return table.rename_axis(None)
    names = [str(name) for name in table.columns]
    near = difflib.get_close_matches(id_column, names, n=1) or [name for name in names if ID_WORDS.search(name) and table[name].is_unique]
    perhaps = f'"{near[0]}"' if near else "…"
    raise SchemaError(f"Expected the subject ids in column {id_column!r}, found {names[:10]}. Name the column of the ids with id_column={perhaps}.")


def _by_session(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ids of sessions, where subjects have several."""
    ids = table.index
    if not ids.has_duplicates or SESSION not in table.columns:
        if ids.has_duplicates and isinstance(ids[0], str):
            repeated = ids[ids.duplicated()].unique().tolist()
            raise SchemaError(
                f"Expected each subject id once, found {len(repeated)} repeated: {repeated[:5]}. Call the column that tells their rows apart "
                f"{SESSION}, or give repeated scans ids of their own and name the column of the person as group."
            )
        check_ids(ids.tolist())
        return table
    check_ids(ids.unique().tolist())
    sessions = as_text(table[SESSION])
    if sessions.isna().any():
        raise SchemaError(f"Expected a {SESSION} in every row, found none for {ids[sessions.isna()][0]!r}. Fill it in, or leave the row out.")
    made = [f"{subject}_ses-{session.removeprefix('ses-')}" for subject, session in zip(ids, sessions, strict=True)]
    check_ids(made)
    return table.assign(**{PERSON: ids.tolist()}).set_index(pd.Index(made, dtype="str"))


def is_class(column: "pd.Series[Any]") -> bool:
    """Whether values of a target name classes: words, or a few whole numbers."""
    present = column.dropna()
    is_whole = not pd.api.types.is_numeric_dtype(column) or bool((present.astype("float64") % 1 == 0).all())
    return is_whole and present.nunique() <= _MAX_CLASSES


def as_text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Values as names; what counts as missing stays missing, and whole numbers lose the .0 that a missing value gave them."""
    return _by_value(column, _text)


def as_names(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Values as names, as they are written; but whole numbers lose the .0 that a missing value gave them in another program."""
    numbers = as_numbers(column)
    is_whole = pd.api.types.is_numeric_dtype(numbers) and bool((numbers.dropna() % 1 == 0).all())
    return as_text(numbers if is_whole else column)


def _by_value(column: "pd.Series[Any]", convert: Callable[["pd.Series[Any]"], "pd.Series[Any]"]) -> "pd.Series[Any]":
    """A column converted by its distinct values, of which long ones have few."""
    codes, values = pd.factorize(column)
    return pd.Series(convert(pd.Series(values)).reindex(codes).array, index=column.index, name=column.name)


def _text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = column.astype("str").str.strip()
    return text.mask(column.isna() | text.str.lower().isin(MISSING))


def as_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Text as numbers where all of it is, without leading zeros or more digits than a double has; else as text."""
    return _by_value(column, _numbers)


def _numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    text = _text(column)
    numbers = pd.to_numeric(text, errors="coerce")
    # No double has more digits than these: ids of that length would become one another.
    is_code = text.str.contains(rf"^-?(?:0\d|\d{{{_MAX_DIGITS + 1},}}$)", na=False).any()
    if text.isna().all() or is_code or numbers.isna().sum() > text.isna().sum():
        return text
    return numbers


# Column of the person where a row is a scan or a session, and that of the session, as BIDS calls it.
PERSON, SESSION = "person", "session_id"
_MAX_CLASSES, _MAX_DIGITS = 10, 15
# What columns of ids are called, as a word of its own or before another.
ID_WORDS = re.compile(r"(?:^|[\W_])(?:id|code|nr|no)(?:$|[\W_])|subj|participant|patient|proband", re.IGNORECASE)
