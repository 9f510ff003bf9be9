"""What encoders of patients' records share: they are made for what a tokenizer was fitted on."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from graphssl.data.builder import AbstractBuilder, AbstractTokenizer
from graphssl.data.table import TableBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError


class AbstractRecordEncoder(AbstractEncoder):
    """An encoder whose size follows from columns and codes, which are among its arguments: `for_builder` gives one for those of a fitted tokenizer.

    Attributes:
        numbers: Names of the continuous columns `[N]`, in the order of the batch.
        categories: Categories of the other columns by name `[K]`, in the order of the batch.
        n_pieces: Pieces of each number.
    """

    numbers: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    n_pieces: int

    @abstractmethod
    def default_builder(self) -> AbstractBuilder:
        """A tokenizer, not fitted, of the batches that it reads."""

    def for_builder(self, builder: AbstractBuilder) -> "AbstractRecordEncoder":
        """One of the same size for what a tokenizer was fitted on, with new random weights.

        Raises:
            ConfigError: If the builder makes other batches.
        """
        kind = type(self.default_builder())
        if not isinstance(builder, kind) or not isinstance(builder, AbstractTokenizer):
            own, found = type(self).__name__, type(builder).__name__
            raise ConfigError(f"Expected {kind.__name__} before {own}, found {found}. Give builder={kind.__name__}().")
        return type(self)(**{**self.arguments(), **builder.layout()})

    def set_columns(self, numbers: Sequence[str], categories: Mapping[str, Sequence[str]] | None, n_pieces: int) -> None:
        """Keep the columns, for constructors.

        Args:
            numbers: Names of the continuous columns.
            categories: Categories of the other columns by name.
            n_pieces: Pieces of each number.
        """
        self.numbers, self.n_pieces = tuple(numbers), n_pieces
        self.categories = {name: tuple(known) for name, known in (categories or {}).items()}

    def adopt(self, source: "AbstractRecordEncoder", columns: Mapping[str, str], codes: Mapping[str, str] | None = None) -> None:
        """Take over the weights of an encoder of the same kind and size: those of shared columns and codes, and all that belong to neither.

        Modules whose weights have a row a number, a column, a category or a code say so in `rows`.

        Args:
            source: The encoder to take over from; it is left as it is.
            columns: Names of the columns that both have, and what each is called there.
            codes: Codes that both have, likewise.
        """
        here, there = self.rows_of(), source.rows_of()
        kinds = {
            f"{place}.{name}" if place else name: kind for place, module in self.named_modules() for name, kind in getattr(module, "rows", {}).items()
        }
        learned = source.state_dict()
        for name, weight in self.state_dict().items():
            if name not in kinds:
                weight.copy_(learned[name])
                continue
            kind = kinds[name]
            called = columns if kind in _OF_COLUMNS else codes or {}
            places = {label: k for k, label in enumerate(there[kind])}
            known = [(k, (called[label[0]], *label[1:])) for k, label in enumerate(here[kind]) if label[0] in called]
            pairs = [(k, places[label]) for k, label in known if label in places]
            if pairs:
                to, taken = (list(each) for each in zip(*pairs, strict=True))
                weight[to] = learned[name][taken]

    def rows_of(self) -> dict[str, list[tuple[str, ...]]]:
        """What the rows of weights belong to, by kind: the name of the column first; the category without a name is that of those not known."""
        names = [*self.numbers, *self.categories]
        words = [(name, *word) for name, known in self.categories.items() for word in (*((w,) for w in known), ())]
        return {"number": [(name,) for name in self.numbers], "column": [(name,) for name in names], "category": words}

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


_OF_COLUMNS = ("number", "column", "category")
