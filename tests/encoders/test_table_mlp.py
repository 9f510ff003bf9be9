"""The network over all columns at once."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import ColumnTokenizer
from graphssl.encoders import TableMLP
from graphssl.errors import ConfigError


def make(table, **arguments):
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    torch.manual_seed(0)
    return tokenizer.transform(table), TableMLP(**{"width": 16, "depth": 2, "column_width": 4, **arguments}).for_builder(tokenizer).eval()


def test_it_is_the_layers_it_says(table):
    """Column by column and patient by patient: in, two blocks, and back out by the weights it came in by."""
    batch, encoder = make(table)
    embedding = encoder(batch)
    assert (embedding.tokens.shape, embedding.pooled.shape, encoder.token_width, encoder.pooled_width) == ((8, 4, 4), (8, 16), 4, 16)
    assert embedding.mask.all()
    columns = encoder.columns(batch)[3]
    vector = encoder.bias + sum(F.gelu(columns[c]) @ encoder.into[c] for c in range(4))
    for block in encoder.blocks:
        vector = vector + block(vector)
    vector = encoder.norm(vector)
    assert_close(embedding.pooled[3], vector, atol=1e-5, rtol=1e-5)
    for c in range(4):
        assert_close(embedding.tokens[3, c], columns[c] + encoder.into[c] @ vector, atol=1e-5, rtol=1e-5)


def test_the_token_of_a_hidden_column_knows_the_others_and_not_its_value(table):
    batch, encoder = make(table)
    hidden = torch.tensor([[True, False, False, False]]).expand(8, 4)
    found = encoder(batch.hide(hidden)).tokens[:, 0]
    changed = make(table.assign(age=table["age"].to_numpy()[::-1]))[0]
    assert_close(encoder(changed.hide(hidden)).tokens[:, 0], found)
    other = make(table.assign(sex=["m", "f"] * 4))[0]
    assert (encoder(other.hide(hidden)).tokens[:, 0] - found).abs().min() > 0


def test_patients_do_not_see_each_other(table):
    batch, encoder = make(table)
    assert_close(encoder(batch[[3]]).pooled, encoder(batch).pooled[[3]], atol=1e-5, rtol=1e-5)


def test_arguments_rebuild_it(table):
    batch, encoder = make(table)
    again = TableMLP(**encoder.arguments()).eval()
    again.load_state_dict(encoder.state_dict())
    assert again(batch).pooled.equal(encoder(batch).pooled)


def test_gradients_reach_every_weight(table):
    batch, encoder = make(table.mask(table == "c"), dropout=0.0)
    encoder(batch.hide(torch.eye(4, dtype=torch.bool).repeat(2, 1))).tokens.square().sum().backward()
    unreached = [name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == []


def test_a_table_of_one_kind_of_column_and_one_row(table):
    for columns in (["age", "dose"], ["sex", "ward"]):
        batch, encoder = make(table[columns])
        assert encoder(batch[[0]]).pooled.isfinite().all()


def test_other_columns_are_refused(table):
    with pytest.raises(ConfigError, match="Expected 0 numbers of 16 pieces and 0 categories, found 2 of 4 and 2"):
        TableMLP()(make(table)[0])
