"""Embedded rows are records as any others: taken, hidden, joined and compared."""

import pytest
import torch

from graphssl.data import EmbeddedBatch
from graphssl.errors import DataError


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    return EmbeddedBatch(("a", "b", "c"), torch.randn(3, 2, 4, generator=generator), mask, torch.randn(3, 5, generator=generator))


def test_rows_are_taken_and_joined(batch):
    assert batch[[2, 0]].subject_ids == ("c", "a")
    assert torch.equal(batch[[2, 0]].tokens, batch.tokens[[2, 0]])
    joined = EmbeddedBatch.cat([batch[[0]], batch[[1, 2]]])
    assert bool(joined.same_rows(batch).all())
    assert joined.signature() == batch.signature() != batch[[1, 0, 2]].signature()
    assert repr(batch) == "EmbeddedBatch(3 rows, 2 tokens of width 4, pooled 5)"


def test_hidden_rows_have_no_token_and_no_vector(batch):
    hidden = batch.hide(torch.tensor([[False], [True], [False]]))
    assert hidden.mask.tolist() == [[True, True], [False, False], [True, True]]
    assert hidden.pooled[1].abs().sum() == 0
    assert torch.equal(hidden.pooled[0], batch.pooled[0])
    assert not bool(batch.hidden.any())


def test_shapes_must_fit(batch):
    with pytest.raises(DataError, match=r"Expected tokens \[B, N, D\], their mask and pooled vectors of 3 rows, found"):
        EmbeddedBatch(batch.subject_ids, batch.tokens, batch.mask[:2], batch.pooled)
