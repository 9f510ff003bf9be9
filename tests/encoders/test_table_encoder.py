"""What encoders of tables share."""

import pandas as pd
import pytest
import torch

from graphssl.data import ColumnTokenizer
from graphssl.encoders import GraphTransformer, TableMLP, TableTransformer
from graphssl.encoders.table_encoder import of_tables
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder

TABLE = pd.DataFrame({"age": [60.0, 61.0, 75.0], "sex": ["f", "m", "f"]}, index=["a", "b", "c"])


def test_each_encoder_knows_the_builder_of_what_it_reads():
    assert isinstance(TableTransformer().default_builder(), ColumnTokenizer)
    assert isinstance(GraphTransformer().default_builder(), ConnectomeBuilder)


def test_an_objective_of_tables_asks_for_an_encoder_of_tables():
    encoder = TableMLP().for_builder(ColumnTokenizer(n_pieces=3).fit(TABLE))
    assert of_tables(encoder, "Scarf") is encoder
    assert encoder.column_names == ("age", "sex")
    with pytest.raises(ConfigError, match="Expected an encoder of tables for Scarf, found GraphTransformer. Use TableMLP or TableTransformer"):
        of_tables(GraphTransformer(), "Scarf")


@pytest.mark.parametrize("kind", [TableMLP(width=8, depth=1), TableTransformer(width=8, depth=1, heads=2)], ids=["mlp", "transformer"])
def test_weights_of_shared_columns_are_taken_over(kind):
    """With all columns shared it is the same encoder, whatever their order; with none only what knows no column."""
    other = TABLE[["sex", "age"]].assign(ward=["a", "b", "a"])
    first, second = (ColumnTokenizer(n_pieces=3).fit(table) for table in (TABLE, other))
    torch.manual_seed(0)
    source, made = kind.for_builder(first), kind.for_builder(second)
    own = made.columns.column.detach().clone()
    made.adopt(source, {"age": "age", "sex": "sex"})
    assert made.columns.column[0].equal(source.columns.column[0])
    assert made.columns.category.weight[:3].equal(source.columns.category.weight), "female, male and not known"
    assert made.columns.column[2].equal(own[2])
    again = kind.for_builder(first)
    again.adopt(source, {name: name for name in source.column_names})
    assert all(weight.equal(source.state_dict()[name]) for name, weight in again.state_dict().items())
    none = kind.for_builder(first)
    none.adopt(source, {})
    assert not none.columns.column.equal(source.columns.column)
    assert all(weight.equal(source.blocks.state_dict()[name]) for name, weight in none.blocks.state_dict().items())
