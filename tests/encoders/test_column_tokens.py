"""Tokens of columns, value by value."""

import torch
from torch.testing import assert_close

from graphssl.data import TableBatch
from graphssl.encoders.column_tokens import ColumnTokens


def make_table(n=6, seed=0):
    """Two numbers of three pieces and two columns of two and three categories, a third of the values missing."""
    generator = torch.Generator().manual_seed(seed)
    measured = torch.rand(n, 4, generator=generator) > 0.3
    numbers = torch.randn(n, 2, generator=generator) * measured[:, :2]
    pieces = torch.rand(n, 2, 3, generator=generator) * measured[:, :2, None]
    codes = torch.stack([torch.randint(0, 3, (n,), generator=generator), torch.randint(0, 4, (n,), generator=generator)], dim=1) * measured[:, 2:]
    return TableBatch(tuple(f"p{k}" for k in range(n)), numbers, pieces, codes, measured)


def test_each_token_is_what_a_loop_makes_of_it():
    torch.manual_seed(0)
    layer = ColumnTokens(2, 3, (2, 3), 5)
    batch = make_table().hide(torch.tensor([[True, False, True, False]] * 6))
    tokens = layer(batch)
    starts = (0, 3)
    for row in range(6):
        for column in range(4):
            if batch.hidden[row, column]:
                value = layer.masked[column]
            elif not batch.measured[row, column]:
                value = layer.missing[column]
            elif column < 2:
                value = sum(batch.pieces[row, column, q] * layer.pieces[column, q] for q in range(3))
            else:
                value = layer.category.weight[starts[column - 2] + int(batch.codes[row, column - 2])]
            assert_close(tokens[row, column], value + layer.column[column])


def test_hidden_values_are_not_read():
    layer = ColumnTokens(2, 3, (2, 3), 5)
    batch = make_table()
    hidden = torch.ones_like(batch.measured)
    other = TableBatch(batch.subject_ids, batch.numbers + 1, batch.pieces + 1, torch.zeros_like(batch.codes), batch.measured)
    assert layer(batch.hide(hidden)).equal(layer(other.hide(hidden)))


def test_a_table_of_numbers_or_of_categories_alone():
    numbers = TableBatch(("a",), torch.ones(1, 1), torch.ones(1, 1, 2), torch.zeros(1, 0, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
    assert ColumnTokens(1, 2, (), 4)(numbers).shape == (1, 1, 4)
    words = TableBatch(("a",), torch.ones(1, 0), torch.ones(1, 0, 2), torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
    assert ColumnTokens(0, 2, (3,), 4)(words).shape == (1, 1, 4)
