"""The queue: the newest rows in their order, taken in after the step, saved with its owner."""

import torch

from graphssl.objectives.queue import Queue


def queue(size=5):
    return Queue(size, keys=torch.zeros(size, 2), owners=torch.full((size,), -1))


def rows(*numbers):
    return {"keys": torch.tensor(numbers, dtype=torch.float32).unsqueeze(1).expand(-1, 2), "owners": torch.tensor(numbers)}


def test_what_is_noted_is_taken_in_after_the_step():
    remembered = queue()
    remembered.note(**rows(1, 2))
    remembered.note(**rows(3))
    assert remembered["owners"].tolist() == [-1] * 5
    remembered.take()
    assert remembered["owners"].tolist() == [-1, -1, 1, 2, 3]
    assert remembered["keys"][:, 0].tolist() == [0, 0, 1, 2, 3]
    remembered.take()
    assert remembered["owners"].tolist() == [-1, -1, 1, 2, 3]


def test_the_oldest_rows_are_forgotten_and_it_says_when_it_is_full():
    remembered = queue()
    for first in range(0, 8, 2):
        assert remembered.full == (first >= 6)
        remembered.note(**rows(first, first + 1))
        remembered.take()
    assert remembered["owners"].tolist() == [3, 4, 5, 6, 7]


def test_a_minibatch_that_is_larger_than_the_queue_fills_it():
    remembered = queue(3)
    remembered.note(**rows(*range(7)))
    remembered.take()
    assert remembered.full
    assert remembered["owners"].tolist() == [4, 5, 6]


def test_it_is_saved_and_keeps_no_graph():
    remembered, other = queue(), queue()
    keys = torch.ones(2, 2, requires_grad=True)
    remembered.note(keys=keys * 2, owners=torch.tensor([8, 9]))
    remembered.take()
    assert not remembered["keys"].requires_grad
    other.load_state_dict(remembered.state_dict())
    assert torch.equal(other["keys"], remembered["keys"])
    assert int(other.seen) == 2
