"""Transfer: an encoder pre-trained on one cohort made ready for another with other columns or codes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.shared_codes import carry_over_stream
from graphssl.data.shared_columns import carry_over
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders.record_encoder import AbstractRecordEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.training.model import Model, fresh


class Transfer(NamedTuple):
    """What `transfer` returns.

    Attributes:
        model: A model without a head for the columns and codes of the new cohort, to fine-tune.
        columns: What became of each column, code and treatment (`what`), by name: `state` (`"shared"`, `"new"`, `"left out"`), `kind`, `unit`,
            `learned_unit`, `factor`, `offset`, `added`, `learned_name`.
    """

    model: Model
    columns: pd.DataFrame

    def __str__(self) -> str:
        """What became of columns and codes, for people."""
        lines = [_line(str(name), row) for state in _STATES for name, row in self.columns[self.columns["state"] == state].iterrows()]
        return "\n".join([_sentence(self.columns), *lines])


def transfer(
    model: Model,
    cohort: Cohort,
    *,
    columns: Sequence[str] | None = None,
    codes: Sequence[str] | None = None,
    treatments: Sequence[str] | None = None,
    seed: int = 0,
) -> Transfer:
    """Make a model of tables, timelines or events ready for a cohort whose columns and codes are others.

    Columns and codes of the same name and unit keep their learned weights, scales and categories; what the model has not met gets new random weights,
    for fine-tuning to train; what the cohort has not is left out. What belongs to no column and to no code is kept. Decoders are of pre-training
    alone and are not part of a model; a head for another target is dropped.

    Args:
        model: A model of tables, timelines or events; it is not changed.
        cohort: Training subjects of the new cohort; leave test subjects out of it.
        columns: Names of the columns to read. When left out, all with one of the roles that the model read; beside events, those that the model was
            told to read, as far as there are any.
        codes: Codes of events or patterns of codes to read; those that the model was told when left out.
        treatments: Treatments of timelines likewise, as far as there are any.
        seed: Seed of the new weights.

    Raises:
        DataError: If the model is of connectomes or of a population.
        SchemaError: If nothing is shared, or one of the same name is of another kind or of a unit that cannot be converted.
        ConfigError: If codes or treatments are named for a model that reads none.
    """
    if not isinstance(model.builder, (ColumnTokenizer, AbstractStreamTokenizer)) or not isinstance(model.encoder, AbstractRecordEncoder):
        raise DataError(
            f"Expected a model of tables, timelines or events to transfer, found one made by a {type(model.builder).__name__}. "
            "Fine-tune it on a cohort that has what it was trained on."
        )
    tokenizer, found = _carried(model.builder, cohort, columns, {"codes": codes, "treatments": treatments})
    encoder = fresh(model.encoder.for_builder(tokenizer), seed)
    assert isinstance(encoder, AbstractRecordEncoder)
    is_column, shared = found["what"] == "column", found[found["state"] == "shared"]["learned_name"]
    columns_there, codes_there = ({str(name): str(there) for name, there in shared[chosen].items()} for chosen in (is_column, ~is_column))
    encoder.adopt(model.encoder, columns_there, codes_there)
    card = {**model.card, "transferred to": f"{cohort.name}, {_sentence(found)}"}
    return Transfer(Model(tokenizer, encoder.eval(), history=model.history, card=card), found)


_STATES = ("shared", "new", "left out")


def _carried(
    builder: ColumnTokenizer | AbstractStreamTokenizer, cohort: Cohort, columns: Sequence[str] | None, of_events: Mapping[str, Sequence[str] | None]
) -> tuple[ColumnTokenizer | AbstractStreamTokenizer, pd.DataFrame]:
    named = {name: chosen for name, chosen in of_events.items() if chosen is not None}
    strange = sorted(set(named) - set(builder.get_params()))
    if strange:
        raise ConfigError(f"Expected {strange[0]} for a model that reads them, found one made by a {type(builder).__name__}. Leave them out.")
    if isinstance(builder, ColumnTokenizer):
        return carry_over(builder, cohort, columns)
    return carry_over_stream(builder, cohort, columns, **named)


def _sentence(columns: pd.DataFrame) -> str:
    parts = []
    for what in columns["what"].unique():
        counts = columns.loc[columns["what"] == what, "state"].value_counts()
        parts.append(f"{what}s: " + ", ".join(f"{counts.get(state, 0)} {state}" for state in _STATES))
    return "; ".join(parts)


def _line(name: str, row: "pd.Series[Any]") -> str:
    here, learned = row["unit"], row["learned_unit"]
    notes = [row["kind"], here or learned]
    if row["state"] == "shared" and here != learned:
        notes[1:] = [f"{here or 'no unit stated'}, learned in {learned or 'no unit stated'}: times {row['factor']:g}, plus {row['offset']:g}"]
    if row["added"]:
        notes.append(f"new categories {row['added']}")
    if row["learned_name"] not in ("", name):
        notes.append(f"called {row['learned_name']} in the model")
    return f"  {row['state']:<8}  {name}: {'; '.join(filter(None, notes))}"
