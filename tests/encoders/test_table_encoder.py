"""What encoders of tables share."""

import pandas as pd
import pytest

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
