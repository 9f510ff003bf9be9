"""Seeds of steps and of processes."""

import torch

from graphssl.training.seeds import nth_seed, seed_of_process


def test_every_step_and_process_has_a_seed_of_its_own():
    seeds = {seed_of_process(nth_seed(seed, step), rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len(seeds) == 5 * 50 * 4
    assert seed_of_process(nth_seed(3, 7), 0) == nth_seed(3, 7)


def test_a_seed_is_one_that_torch_takes_however_large():
    assert torch.manual_seed(seed_of_process(nth_seed(2**63 - 1, 2**40), 2**30)).initial_seed() >= 0
