"""What encoders of tables share: they are made for columns."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from graphssl.data.builder import AbstractBuilder
from graphssl.data.table import ColumnTokenizer, TableBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.errors import ConfigError


class AbstractTableEncoder(AbstractEncoder):
    """An encoder whose tokens are the columns of a table, numbers first.

    What it embeds is fixed by its columns, which are among its arguments: `for_builder` gives one for those that a tokenizer was fitted on.

    Attributes:
        numbers: Names of the continuous columns `[N]`, in the order of the batch.
        categories: Categories of the other columns by name `[K]`, in the order of the batch.
        n_pieces: Pieces of each number.
    """

    numbers: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    n_pieces: int

    @abstractmethod
    def forward(self, batch: TableBatch) -> Embedding:
        """Embed a batch of patients; a token a column."""

    def set_columns(self, numbers: Sequence[str], categories: Mapping[str, Sequence[str]] | None, n_pieces: int) -> None:
        """Keep the columns, for constructors."""
        self.numbers, self.n_pieces = tuple(numbers), n_pieces
        self.categories = {name: tuple(known) for name, known in (categories or {}).items()}

    def for_builder(self, builder: AbstractBuilder) -> "AbstractTableEncoder":
        """One of the same size for the columns of a fitted tokenizer, with new random weights.

        Raises:
            ConfigError: If the builder makes no tables.
        """
        if not isinstance(builder, ColumnTokenizer):
            raise ConfigError(
                f"Expected a ColumnTokenizer before a {type(self).__name__}, found {type(builder).__name__}. Give builder=ColumnTokenizer()."
            )
        found = {"numbers": builder.numbers, "categories": builder.categories, "n_pieces": builder.n_pieces}
        return type(self)(**{**self.arguments(), **found})

    def default_builder(self) -> AbstractBuilder:
        """A `ColumnTokenizer`."""
        return ColumnTokenizer()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns `[N + K]`, in the order of tokens."""
        return (*self.numbers, *self.categories)

    def check_columns(self, batch: TableBatch) -> None:
        """Check that a batch has the encoder's columns.

        Raises:
            ConfigError: If it has others.
        """
        shape = (batch.numbers.shape[1], batch.pieces.shape[2] if batch.numbers.shape[1] else self.n_pieces, batch.codes.shape[1])
        expected = (len(self.numbers), self.n_pieces, len(self.categories))
        if shape != expected:
            raise ConfigError(
                f"Expected {expected[0]} numbers of {expected[1]} pieces and {expected[2]} categories, "
                f"found {shape[0]} of {shape[1]} and {shape[2]}. Make the encoder with for_builder(tokenizer)."
            )


def of_tables(encoder: AbstractEncoder, objective: str) -> AbstractTableEncoder:
    """The encoder, which an objective needs to be one of tables.

    Raises:
        ConfigError: If it is another.
    """
    if not isinstance(encoder, AbstractTableEncoder):
        raise ConfigError(f"Expected an encoder of tables for {objective}, found {type(encoder).__name__}. Use TableMLP or TableTransformer.")
    return encoder
