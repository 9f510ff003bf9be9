"""Random choices: how many, of whom, and every set alike."""

from collections import Counter

import pytest
import torch

from graphssl.objectives.choose import choose_patients, choose_share, random_rank


@pytest.mark.parametrize(("n_eligible", "ratio", "n_chosen"), [(0, 0.5, 0), (1, 0.1, 1), (2, 0.9, 1), (10, 0.3, 3), (10, 0.99, 9), (10, 0.01, 1)])
def test_how_many_are_chosen(n_eligible, ratio, n_chosen):
    eligible = torch.zeros(50, 12, dtype=torch.bool)
    eligible[:, 1 : 1 + n_eligible] = True
    chosen = choose_share(eligible, ratio, torch.Generator().manual_seed(0))
    assert (chosen.sum(dim=1) == n_chosen).all()
    assert not (chosen & ~eligible).any()


def test_every_set_is_chosen_alike_and_ranks_put_others_last():
    eligible = torch.tensor([True, True, False, True, True]).expand(6000, 5)
    chosen = choose_share(eligible, 0.5, torch.Generator().manual_seed(0))
    counts = Counter(tuple(row) for row in chosen.int().tolist())
    assert len(counts) == 6
    assert max(counts.values()) < 1150
    ranks = random_rank(eligible, torch.Generator().manual_seed(1))
    assert (ranks[:, 2] == 4).all()
    assert ranks.sort(dim=1).values.equal(torch.arange(5).expand(6000, 5))


@pytest.mark.parametrize(("ratio", "n_chosen"), [(0.01, 1), (0.3, 3), (0.9, 9)])
def test_patients_of_a_batch(ratio, n_chosen):
    eligible = torch.arange(10) < 4
    chosen = choose_patients(eligible, ratio, torch.Generator().manual_seed(0))
    assert chosen.sum() == n_chosen
    assert (chosen & eligible).sum() == min(n_chosen, 4)
