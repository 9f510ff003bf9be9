"""Parts of a work side by side: threads are given back, and a bar goes to stderr only."""

import pytest
import torch

from graphssl.evaluation.parallel import one_thread, with_bar


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    try:
        with one_thread(active=False):
            assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="inside"), one_thread():
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_parts_come_as_they_are_and_a_bar_goes_to_stderr_only(capsys):
    assert list(with_bar(iter("abc"), 3, "parts", progress=False)) == [*"abc"]
    assert capsys.readouterr().err == ""
    assert list(with_bar(iter("abc"), 3, "parts", progress=True)) == [*"abc"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "parts" in err
