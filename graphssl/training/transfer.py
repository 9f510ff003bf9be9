"""Transfer: an encoder pre-trained on one cohort made ready for another with other columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.shared_columns import carry_over
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.errors import DataError
from graphssl.training.model import Model, fresh


class Transfer(NamedTuple):
    """What `transfer` returns.

    Attributes:
        model: A model without a head for the columns of the new cohort, to fine-tune.
        columns: What became of each column: `state` (`"shared"`, `"new"`, `"left out"`), `kind`, `unit`, `learned_unit`, `factor`, `offset`, `added`.
    """

    model: Model
    columns: pd.DataFrame

    def __str__(self) -> str:
        """What became of the columns, for people."""
        lines = [_line(str(name), row) for state in _STATES for name, row in self.columns[self.columns["state"] == state].iterrows()]
        return "\n".join([_sentence(self.columns), *lines])


def transfer(model: Model, cohort: Cohort, *, columns: Sequence[str] | None = None, seed: int = 0) -> Transfer:
    """Make a model of tables ready for a cohort whose columns are others.

    Columns of the same name and unit keep their learned weights, scales and categories; columns and categories that the model has not met get new
    random weights, for fine-tuning to train; columns that the cohort has not are left out. What belongs to no column is kept. Decoders are
    of pre-training alone and are not part of a model; a head for another target is dropped.

    Args:
        model: A model of tables; it is not changed.
        cohort: Training subjects of the new cohort; leave test subjects out of it.
        columns: Names of the columns to read; all with one of the roles that the model read when left out.
        seed: Seed of the new weights.

    Raises:
        DataError: If the model is none of tables, or one of a population.
        SchemaError: If no column is shared, or one of the same name is of another kind or of a unit that cannot be converted.
    """
    if not isinstance(model.builder, ColumnTokenizer) or not isinstance(model.encoder, AbstractTableEncoder):
        raise DataError(
            f"Expected a model of tables, made by a ColumnTokenizer, to transfer; found one made by a {type(model.builder).__name__}. "
            "Fine-tune it on a cohort that has what it was trained on."
        )
    tokenizer, found = carry_over(model.builder, cohort, columns)
    encoder = fresh(model.encoder.for_builder(tokenizer), seed)
    assert isinstance(encoder, AbstractTableEncoder)
    encoder.adopt(model.encoder, set(found.index[found["state"] == "shared"]))
    card = {**model.card, "transferred to": f"{cohort.name}, {_sentence(found)}"}
    return Transfer(Model(tokenizer, encoder.eval(), history=model.history, card=card), found)


_STATES = ("shared", "new", "left out")


def _sentence(columns: pd.DataFrame) -> str:
    counts = columns["state"].value_counts()
    return "columns: " + ", ".join(f"{counts.get(state, 0)} {state}" for state in _STATES)


def _line(name: str, row: "pd.Series[Any]") -> str:
    here, learned = row["unit"], row["learned_unit"]
    notes = [row["kind"], here or learned]
    if row["state"] == "shared" and here != learned:
        notes[1:] = [f"{here or 'no unit stated'}, learned in {learned or 'no unit stated'}: times {row['factor']:g}, plus {row['offset']:g}"]
    if row["added"]:
        notes.append(f"new categories {row['added']}")
    return f"  {row['state']:<8}  {name}: {'; '.join(filter(None, notes))}"
