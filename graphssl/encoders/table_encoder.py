"""What encoders of tables share: a token a column."""

from abc import abstractmethod
from collections.abc import Collection
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

    def adopt(self, source: "AbstractTableEncoder", shared: Collection[str]) -> None:
        """Take over the weights of an encoder of the same kind and size: those of shared columns, and all that belong to no column.

        Modules whose weights have a row a number, a column or a category say so in `rows`.

        Args:
            source: The encoder to take over from; it is left as it is.
            shared: Names of columns that both have.
        """
        here, there = self._rows_of(), source._rows_of()
        kinds = {
            f"{place}.{name}" if place else name: kind for place, module in self.named_modules() for name, kind in getattr(module, "rows", {}).items()
        }
        learned = source.state_dict()
        for name, weight in self.state_dict().items():
            if name not in kinds:
                weight.copy_(learned[name])
                continue
            old = {row: k for k, row in enumerate(there[kinds[name]]) if row[0] in shared}
            pairs = [(k, old[row]) for k, row in enumerate(here[kinds[name]]) if row in old]
            if pairs:
                to, taken = (list(each) for each in zip(*pairs, strict=True))
                weight[to] = learned[name][taken]

    def _rows_of(self) -> dict[str, list[tuple[str, ...]]]:
        """What the rows of weights belong to: the column, and the category; the one without a name is that of categories not known."""
        words = [(name, *word) for name, known in self.categories.items() for word in (*((w,) for w in known), ())]
        return {"number": [(name,) for name in self.numbers], "column": [(name,) for name in self.column_names], "category": words}


def of_tables(encoder: AbstractEncoder, objective: str) -> AbstractTableEncoder:
    """What reads the table in an encoder, which an objective needs to be one of tables.

    Raises:
        ConfigError: If it is another.
    """
    reader = encoder.reader
    if not isinstance(reader, AbstractTableEncoder):
        raise ConfigError(f"Expected an encoder of tables for {objective}, found {type(reader).__name__}. Use TableMLP or TableTransformer.")
    return reader
