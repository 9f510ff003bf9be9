"""The transformer over columns."""

import pytest
import torch
from torch.testing import assert_close

from graphssl.data import ColumnTokenizer
from graphssl.encoders import TableTransformer
from graphssl.errors import ConfigError


def make(table, **arguments):
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    torch.manual_seed(0)
    return tokenizer.transform(table), TableTransformer(width=8, depth=2, heads=2, **arguments).for_builder(tokenizer).eval()


def test_a_token_a_column_and_a_vector_a_patient(table):
    batch, encoder = make(table)
    embedding = encoder(batch)
    assert embedding.tokens.shape == (8, 4, 8)
    assert embedding.pooled.shape == (8, encoder.pooled_width)
    assert embedding.mask.all()


def test_patients_do_not_see_each_other_and_columns_do(table):
    batch, encoder = make(table)
    whole = encoder(batch)
    assert_close(encoder(batch[[3]]).pooled, whole.pooled[[3]], atol=1e-5, rtol=1e-5)
    hidden = encoder(batch.hide(torch.tensor([[True, False, False, False]]).expand(8, 4)))
    assert (hidden.tokens[:, 3] - whole.tokens[:, 3]).abs().min() > 0


def test_arguments_rebuild_it(table):
    batch, encoder = make(table)
    again = TableTransformer(**encoder.arguments()).eval()
    again.load_state_dict(encoder.state_dict())
    assert again(batch).pooled.equal(encoder(batch).pooled)
    assert again.categories == {"sex": ("f", "m"), "ward": ("a", "b", "c")}
    assert again.numbers == ("age", "dose")


def test_gradients_reach_every_weight(table):
    batch, encoder = make(table.mask(table == "c"), dropout=0.0)
    encoder(batch.hide(torch.eye(4, dtype=torch.bool).repeat(2, 1))).pooled.square().sum().backward()
    unreached = [name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == []


def test_other_columns_are_refused(table):
    batch, _ = make(table)
    with pytest.raises(ConfigError, match="Expected 0 numbers of 16 pieces and 0 categories, found 2 of 4 and 2"):
        TableTransformer()(batch)
    with pytest.raises(ConfigError, match="multiple of the 3 heads"):
        TableTransformer(width=8, heads=3)
