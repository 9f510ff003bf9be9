"""What encoders of records share: they are made for a fitted tokenizer."""

import pandas as pd
import pytest

from graphssl.data import ColumnTokenizer, TimelineTokenizer
from graphssl.encoders import AbstractRecordEncoder, TableTransformer, TimelineTransformer
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder

TABLE = pd.DataFrame({"age": [60.0, 61.0, 75.0], "sex": ["f", "m", "f"]}, index=["a", "b", "c"])


def test_size_follows_from_what_was_fitted():
    encoder = TableTransformer(width=8, heads=2).for_builder(ColumnTokenizer(n_pieces=3).fit(TABLE))
    assert isinstance(encoder, AbstractRecordEncoder)
    assert (encoder.numbers, encoder.categories, encoder.n_pieces, encoder.width) == (("age",), {"sex": ("f", "m")}, 3, 8)


def test_the_builder_of_other_batches_is_refused():
    with pytest.raises(
        ConfigError, match=r"Expected ColumnTokenizer before TableTransformer, found ConnectomeBuilder. Give builder=ColumnTokenizer\(\)"
    ):
        TableTransformer().for_builder(ConnectomeBuilder())
    with pytest.raises(ConfigError, match="Expected TimelineTokenizer before TimelineTransformer, found ColumnTokenizer"):
        TimelineTransformer().for_builder(ColumnTokenizer().fit(TABLE))
    with pytest.raises(ConfigError, match="Expected ColumnTokenizer before TableTransformer, found TimelineTokenizer"):
        TableTransformer().for_builder(TimelineTokenizer())


def test_another_table_is_refused():
    tokenizer = ColumnTokenizer(n_pieces=3).fit(TABLE)
    encoder = TableTransformer(width=8, heads=2).for_builder(ColumnTokenizer(n_pieces=4).fit(TABLE))
    with pytest.raises(ConfigError, match="Expected 1 numbers of 4 pieces and 1 categories, found 1 of 3 and 1"):
        encoder(tokenizer.transform(TABLE))
