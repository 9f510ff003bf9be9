"""Values of other patients: how many, whose, and that everything of a value comes along."""

import pandas as pd
import pytest
import torch

from graphssl.data import ColumnTokenizer
from graphssl.errors import ConfigError, DataError
from graphssl.views import Compose, CorruptColumns


def make(n=50, seed=0):
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(n, 6, generator=source).double()
    frame = pd.DataFrame(values[:, :3].numpy() + 0.25, columns=["a", "b", "c"], index=[f"p{k}" for k in range(n)])
    for k, name in enumerate(("u", "v")):
        frame[name] = [str(int(10 * abs(value))) for value in values[:, 3 + k]]
    gone = torch.rand(n, 5, generator=source) < 0.3
    return ColumnTokenizer(n_pieces=4).fit_transform(frame.mask(gone.numpy()))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_share_is_exact_and_values_are_of_others():
    batch = make()
    rows = CorruptColumns(0.6).draw(batch, generator())
    taken = rows != torch.arange(len(batch)).unsqueeze(1)
    assert taken.sum(dim=1).tolist() == [3] * len(batch)
    assert (rows >= 0).all()
    assert (rows < len(batch)).all()
    assert (CorruptColumns(0.01).draw(batch, generator()) != torch.arange(len(batch)).unsqueeze(1)).sum(dim=1).tolist() == [1] * len(batch)


def test_columns_and_givers_are_drawn_alike():
    batch, n = make(n=4), 3000
    draws = torch.stack([CorruptColumns(0.4).draw(batch, generator(seed)) for seed in range(n)])
    share = torch.stack([(draws[:, 1] == giver).float().mean(dim=0) for giver in range(4)])  # whose values the second patient gets, by column
    expected = torch.tensor([0.4 / 3, 0.6, 0.4 / 3, 0.4 / 3]).unsqueeze(1).expand(4, 5)
    torch.testing.assert_close(share, expected, atol=0.04, rtol=0.0)


def test_everything_of_a_value_comes_from_its_row():
    batch = make()
    batch = batch.hide(torch.rand(batch.measured.shape, generator=generator(3)) < 0.2)
    view = CorruptColumns(0.6)
    rows = view.draw(batch, generator())
    found = view.apply(batch, rows)
    for i in range(len(batch)):
        for c in range(5):
            j = int(rows[i, c])
            if c < 3:
                assert found.numbers[i, c] == batch.numbers[j, c]
                assert found.pieces[i, c].equal(batch.pieces[j, c])
            else:
                assert found.codes[i, c - 3] == batch.codes[j, c - 3]
            assert (found.measured[i, c], found.hidden[i, c]) == (batch.measured[j, c], batch.hidden[j, c])
    assert found.subject_ids == batch.subject_ids


def test_a_draw_replays_and_views_compose():
    batch, view = make(), Compose((CorruptColumns(0.3), CorruptColumns(0.5)))
    drawn = view.draw(batch, generator(4))
    first, second = view.apply(batch, drawn), view(batch, generator(4))
    assert first.numbers.equal(second.numbers)
    assert first.codes.equal(second.codes)


def test_what_makes_no_sense_is_refused(make_batch):
    with pytest.raises(DataError, match="Expected a TableBatch to corrupt, found a ConnectomeBatch"):
        CorruptColumns().draw(make_batch(), generator())
    with pytest.raises(DataError, match="at least two patients to take values from one another, found 1"):
        CorruptColumns().draw(make()[[0]], generator())
    with pytest.raises(ConfigError, match="ratio between 0 and 1, found 1"):
        CorruptColumns(1.0)
