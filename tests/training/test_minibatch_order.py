"""Where an order of subjects is cut."""

import pytest
import torch

from graphssl.training.minibatch_order import cut, epoch_generator, n_minibatches


@pytest.mark.parametrize(("n", "n_subjects", "sizes"), [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (1, 3, [1]), (3, 1, [1, 1, 1]), (0, 3, [0])])
def test_a_single_left_over_subject_joins_the_ones_before(n, n_subjects, sizes):
    chunks = cut(torch.arange(n), n_subjects)
    assert [len(chunk) for chunk in chunks] == sizes
    assert torch.equal(torch.cat(chunks), torch.arange(n))
    assert n_minibatches(n, n_subjects) == len(sizes)


def test_the_order_depends_on_seed_and_epoch():
    first, again, other, later = (torch.randperm(20, generator=epoch_generator(*which)).tolist() for which in ((1, 2), (1, 2), (2, 2), (1, 3)))
    assert first == again
    assert first not in (other, later)
