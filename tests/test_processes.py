"""What one process alone shares; two real ones are in tests/training/test_divided.py and tests/training/meta/test_processes.py."""

import pytest
import torch

from graphssl.errors import GraphSSLError
from graphssl.processes import Processes


def test_one_process_alone_shares_nothing():
    alone, gradient = Processes(), torch.nn.Parameter(torch.ones(2))
    values = torch.arange(3.0)
    assert alone.alone
    assert alone.writes
    assert alone.share(3) == [0, 1, 2]
    assert alone.gathered(values, 3) is values
    assert alone.summed(values) is values
    assert alone.largest(5, torch.device("cpu")) == 5
    alone.add_gradients([gradient])
    alone.copy_of_first([values])
    assert gradient.grad is None
    assert alone.same("anything")
    assert alone.together(lambda number: number + 1, 1) == 2


def test_an_error_of_one_process_alone_is_raised_as_it_is():
    def wrong():
        raise GraphSSLError("as it is")

    with pytest.raises(GraphSSLError, match="^as it is$"):
        Processes().together(wrong)


def test_shares_are_all_of_the_rows_and_none_is_in_two():
    shares = [Processes(rank, 3).share(8) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert not Processes(1, 3).writes
