"""Relational tables in a live PostgreSQL database, streamed through ADBC one record batch at a time."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa

from graphssl.datasets.table_files import exact, stacked, tight
from graphssl.errors import DataError, SchemaError
from graphssl.extras import require


def is_postgres(source: str | os.PathLike[str]) -> bool:
    """Whether a source is the address of a PostgreSQL database."""
    return isinstance(source, str) and source.startswith(("postgresql://", "postgres://"))


class PostgresTables:
    """The tables and views of one schema of a database, in one snapshot, read only; the case of names does not matter.

    No message shows the password. It need not be in the address: libpq takes it from `PGPASSWORD` or `~/.pgpass`.

    Args:
        connection: An open connection of ADBC.
        schema: Name of the schema.
        address: Where it is, for messages.
    """

    def __init__(self, connection: Any, schema: str, address: str) -> None:
        self.connection, self.schema = connection, schema
        self.place = f"the schema {schema!r} of {address}"
        self.names = self._names()

    def read(self, table: str, columns: Sequence[str]) -> pd.DataFrame | None:
        """The columns of a table, names in lower case; None where it is not there.

        Args:
            table: Its name in lower case.
            columns: Their names in lower case.

        Raises:
            SchemaError: If a column is absent.
            DataError: If the connection breaks, or the table may not be read.
        """
        if table not in self.names:
            return None
        called, known = self.names[table]
        absent = [column for column in columns if column not in known]
        if absent:
            raise SchemaError(f"Expected the columns {absent} in {called!r} of {self.place}, found {list(known)[:12]}. Correct the mapping.")
        listed = ", ".join(_quoted(known[column]) for column in columns)
        with self._cursor(f"the table {called!r}") as cursor:
            cursor.execute(f"SELECT {listed} FROM {_quoted(self.schema)}.{_quoted(called)}")  # noqa: S608 - names are quoted
            reader = cursor.fetch_record_batch()
            empty = exact(reader.schema.empty_table())
            parts = [tight(exact(batch)) for batch in reader]
        return stacked(parts or [tight(empty)]).set_axis(list(columns), axis=1)

    def _names(self) -> dict[str, tuple[str, dict[str, str]]]:
        """By name in lower case: the name of each table, and those of its columns by theirs."""
        with self._cursor("the list of tables") as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = $1 ORDER BY table_name, ordinal_position"
            cursor.execute(query, (self.schema,))
            rows = cursor.fetchall()
        found: dict[str, tuple[str, dict[str, str]]] = {}
        for table, column in rows:
            found.setdefault(table.lower(), (table, {}))[1][column.lower()] = column
        return found

    @contextmanager
    def _cursor(self, what: str) -> Iterator[Any]:
        driver = _driver()
        try:
            with self.connection.cursor() as cursor:
                yield cursor
        except (driver.Error, OSError, pa.ArrowException) as error:
            raise DataError(
                f"Expected to read {what} of {self.place}, found an error ({_brief(error)}). Check the connection and the rights."
            ) from None


@contextmanager
def open_postgres(uri: str, schema: str = "public") -> Iterator[PostgresTables]:
    """The tables of a database, while it is open.

    Args:
        uri: Its address, such as `postgresql://user@host:5432/database`; special characters are percent-encoded.
        schema: Name of the schema.

    Raises:
        DataError: If the address is none, the database cannot be reached, or the schema has no table that may be seen.
        MissingExtraError: If the driver is not installed.
    """
    address, secrets = _without_secrets(uri)
    driver = _driver()
    try:
        connection = driver.connect(uri)
    except (driver.Error, OSError) as error:
        _refuse(address, _brief(error), secrets)
    with connection:
        tables = PostgresTables(connection, schema, address)
        if not tables.names:
            raise DataError(
                f"Expected tables in {tables.place}, found none that may be read. Name another with schema=…, or ask for the right to read."
            )
        yield tables


def has_password(uri: str) -> bool:
    """Whether an address of a database carries a password."""
    return bool(_without_secrets(uri)[1])


def _driver() -> Any:
    return require("adbc_driver_postgresql.dbapi", extra="postgres", purpose="read from PostgreSQL")


def _refuse(address: str, words: str, secrets: Sequence[str]) -> NoReturn:
    for secret in secrets:
        words = words.replace(secret, "***")
    # The driver's own error, which may quote the whole address, is not carried along.
    raise DataError(f"Expected a PostgreSQL database at {address}, found none that answers ({words}). Check address, rights and network.") from None


def _without_secrets(uri: str) -> tuple[str, list[str]]:
    """The address without its password, and the password as it may be quoted."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        raise DataError(
            "Expected the address of a database such as postgresql://user@host:5432/database, found one that cannot be taken apart. "
            "Write special characters of user and password percent-encoded, such as %40 for @."
        )
    secrets = [secret for secret in (found["password"], *_PARAMETER.findall(found["rest"])) if secret]
    address = f"{found['start']}{found['user'] or ''}{'@' if found['user'] is not None else ''}{_PARAMETER.sub('***', found['rest'])}"
    return address, list(dict.fromkeys([*secrets, *map(unquote, secrets)]))


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_ADDRESS = re.compile(r"(?P<start>postgres(?:ql)?://)(?:(?P<user>[^:@/?#\[\]]*)(?::(?P<password>[^:@/?#\[\]]*))?@)?(?P<rest>[^@]*)")
_PARAMETER = re.compile(r"(?<=password=)[^&]*")
