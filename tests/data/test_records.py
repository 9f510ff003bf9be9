"""Records of every kind: rows, joins, comparison and saving, alike for columns, bins and events."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from graphssl.data import AbstractRecords, ColumnTokenizer, EventTokenizer, TimelineTokenizer
from graphssl.errors import DataError

TOKENIZERS = {
    "table": ColumnTokenizer(n_pieces=3),
    "timeline": TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=["ventilator"], min_subjects=3, n_pieces=3),
    "events": EventTokenizer(min_subjects=3, n_pieces=3),
}


@pytest.fixture(params=TOKENIZERS)
def records(request, ward):
    """Thirteen patients, of whom some entries are hidden."""
    made = TOKENIZERS[request.param].fit(ward()).transform(ward())
    assert isinstance(made, AbstractRecords)
    return made.hide(torch.rand(made.hidden.shape, generator=torch.Generator().manual_seed(0)) < 0.3)


def equal(first, second):
    mine, theirs = first.tensors(), second.tensors()
    return first.subject_ids == second.subject_ids and mine.keys() == theirs.keys() and all(mine[name].equal(theirs[name]) for name in mine)


def test_tensors_are_all_there_is(records):
    again = type(records).of_tensors(records.subject_ids, records.tensors())
    assert equal(again, records)
    bare = {name: tensor for name, tensor in records.tensors().items() if not name.endswith("hidden")}
    shown = type(records).of_tensors(records.subject_ids, bare)
    assert shown.signature() == records.signature()
    assert records.hidden.any()
    assert not shown.hidden.any()


def test_parts_below_one_another_are_the_whole(records):
    parts = [records[[0, 1, 2]], records[[12]], records[range(3, 12)]]
    whole, order = records.cat(parts), [0, 1, 2, 12, *range(3, 12)]
    assert equal(whole, records[order])
    assert equal(whole.to("cpu"), whole)
    assert len(records[[]]) == 0
    assert equal(records.cat([records[[]], records]), records)
    with pytest.raises(DataError, match="Expected at least one batch of patients, found none"):
        records.cat([])


def test_other_columns_are_not_joined(records):
    ages = pd.DataFrame({"age": [20.5 + k for k in range(13)]}, index=list(records.subject_ids))
    fewer = ColumnTokenizer(n_pieces=3).fit_transform(ages)
    other = replace(records, static=fewer) if hasattr(records, "static") else fewer
    with pytest.raises(DataError, match=r"Expected batches of the same columns, found (static\.)?\w+ of the shapes .* a patient. Use one tokenizer"):
        records.cat([records, other])


def test_rows_that_differ_in_one_value_are_told(records):
    assert records.same_rows(records).all()
    name = next(name for name, tensor in records.tensors().items() if tensor.dtype == torch.float32 and not name.startswith("static"))
    values = records.tensors()[name].clone()
    values[4].view(-1)[0] += 1
    assert (~records.same_rows(replace(records, **{name: values}))).nonzero().flatten().tolist() == [4]
    shuffled = records[list(reversed(range(13)))]
    assert records[[2, 5]].same_rows(shuffled[[10, 7]]).all(), "whoever else was in the batches they come from"
    assert records[[]].same_rows(records[[]]).tolist() == []


def test_more_of_some_rows_is_hidden(records):
    part = records[[7, 0]]
    known = records.hidden | records.hide(torch.ones_like(records.hidden)).hidden
    everything = part.hide(torch.ones_like(part.hidden)).hidden
    more = records.hide_in(torch.tensor([7, 0]), everything)
    assert more.hidden[[0, 7]].equal(known[[0, 7]])
    others = [row for row in range(13) if row not in (0, 7)]
    assert more.hidden[others].equal(records.hidden[others])
    assert more.hidden[[0, 7]].sum() > records.hidden[[0, 7]].sum()
