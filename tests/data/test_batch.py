"""All kinds of batches serve the training alike."""

import pandas as pd
import pytest
import torch

from graphssl.data import ColumnTokenizer, EventTokenizer, TimelineTokenizer
from graphssl.data.batch import row_numbers
from graphssl.training.batches import loader


def make_table(n=4):
    return ColumnTokenizer(columns=["age"], n_pieces=2).fit_transform(
        pd.DataFrame({"age": [k + 0.5 for k in range(n)]}, index=[f"p{k}" for k in range(n)])
    )


@pytest.mark.parametrize("kind", ["connectomes", "table", "timeline", "events"])
def test_rows_moves_and_signatures(kind, make_batch, ward):
    made = {
        "connectomes": lambda: make_batch(4),
        "table": make_table,
        "events": lambda: EventTokenizer(min_subjects=3).fit(ward()).transform(ward())[range(4)],
        "timeline": lambda: TimelineTokenizer(min_subjects=3).fit(ward()).transform(ward())[range(4)],
    }
    batch = made[kind]()
    assert len(batch[[0, 2]]) == 2
    assert batch[[2, 0]].subject_ids == (batch.subject_ids[2], batch.subject_ids[0])
    assert batch.to("cpu").signature() == batch.signature()
    assert batch[torch.tensor([True, True, True, False])].signature() != batch.signature()
    assert len({batch[[k]].signature() for k in range(4)}) == 4
    assert [part.subject_ids for part in loader(batch, 2, shuffle=False)] == [batch.subject_ids[:2], batch.subject_ids[2:]]


def test_rows_are_given_by_number_or_by_a_mask():
    cpu = torch.device("cpu")
    for rows in ([2, 0], range(2), torch.tensor([], dtype=torch.long)):
        assert row_numbers(rows, cpu).tolist() == list(rows)
    assert row_numbers([True, False, True], cpu).tolist() == row_numbers(torch.tensor([True, False, True]), cpu).tolist() == [0, 2]
