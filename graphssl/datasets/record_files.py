"""Relational tables as files: `.csv`, `.csv.gz` or `.parquet`, or folders of Parquet shards."""

from collections.abc import Sequence

import pandas as pd

from graphssl.datasets.listing import Listing
from graphssl.datasets.table_files import read_shards, read_text_file
from graphssl.errors import DataError, SchemaError


class FileTables:
    """The tables of a folder, by the names of their files; the case of names does not matter.

    Args:
        listing: What is in the folder.
    """

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.place = str(listing.root)

    def read(self, table: str, columns: Sequence[str]) -> pd.DataFrame | None:
        """The columns of a table, names in lower case; None where it is not there.

        Raises:
            SchemaError: If a column is absent.
            DataError: If a file cannot be read, or there are several of which one has to be chosen.
        """
        names = [name for name in self.listing.names if table_name(name) == table]
        if not names:
            return None
        shards = [name for name in names if name.lower().endswith(".parquet")]
        if len(names) > 1 and (len(shards) < len(names) or len({name.rpartition("/")[0] for name in names}) > 1):
            raise DataError(
                f"Expected one file of the table {table!r} in {self.place}, or shards in one folder, found {len(names)}: {', '.join(names[:5])}. "
                "Leave one of them, or put their rows together."
            )
        paths = [self.listing.root / name for name in names]
        whole = read_shards(paths) if shards else read_text_file(paths[0])
        whole = whole.rename(columns=str.lower)
        absent = [column for column in columns if column not in whole.columns]
        if absent:
            raise SchemaError(f"Expected the columns {absent} in {paths[0]}, found {list(whole.columns)[:12]}. Correct the mapping.")
        return whole[list(columns)]


def table_name(name: str) -> str:
    """Name of the table of a file: that of the file, or of the folder of shards, in lower case."""
    parts = name.lower().split("/")
    if len(parts) > 1 and parts[-1].endswith(".parquet"):
        return parts[-2]
    return parts[-1].removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")
