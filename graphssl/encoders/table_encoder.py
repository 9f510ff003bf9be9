"""What encoders of tables share: a token a column."""

from abc import abstractmethod
from typing import Any

from graphssl.data.builder import AbstractBuilder
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.record_encoder import AbstractRecordEncoder
from graphssl.errors import ConfigError


class AbstractTableEncoder(AbstractRecordEncoder):
    """An encoder whose tokens are the columns of a table, numbers first."""

    @abstractmethod
    def forward(self, batch: Any) -> Embedding:
        """Embed a batch of patients, a `TableBatch`; a token a column."""

    def default_builder(self) -> AbstractBuilder:
        """A `ColumnTokenizer`."""
        return ColumnTokenizer()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns `[N + K]`, in the order of tokens."""
        return (*self.numbers, *self.categories)


def of_tables(encoder: AbstractEncoder, objective: str) -> AbstractTableEncoder:
    """What reads the table in an encoder, which an objective needs to be one of tables.

    Raises:
        ConfigError: If it is another.
    """
    reader = encoder.reader
    if not isinstance(reader, AbstractTableEncoder):
        raise ConfigError(f"Expected an encoder of tables for {objective}, found {type(reader).__name__}. Use TableMLP or TableTransformer.")
    return reader
