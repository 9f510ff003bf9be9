"""Random numbers of seeds: the same of the same seed whatever stands beside it, and as random as they must be."""

import math

import torch
from scipy import stats

from graphssl.views.counter import draw_seeds, normal, uniform


def test_numbers_are_those_of_a_generator_with_the_seed():
    seeds = draw_seeds(5, torch.Generator().manual_seed(0))
    even, bell = uniform(seeds, 301), normal(seeds, 301)
    for row, seed in enumerate(seeds.tolist()):
        assert torch.equal(even[row], torch.rand(301, generator=torch.Generator().manual_seed(seed)))
        assert torch.equal(bell[row], torch.randn(301, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(uniform(seeds[[3]], 301)[0], even[3])
    assert uniform(seeds[:0], 7).shape == (0, 7)


def test_numbers_are_spread_evenly_and_normally_and_seeds_have_nothing_in_common():
    for seeds in (draw_seeds(6, torch.Generator().manual_seed(1)), torch.arange(6)):
        even, bell = uniform(seeds, 4001), normal(seeds, 4001)
        assert min(stats.kstest(row.numpy(), "uniform").pvalue for row in even) > 1e-3
        assert min(stats.kstest(row.numpy(), "norm").pvalue for row in bell) > 1e-3
        for numbers in (even, bell):
            assert torch.corrcoef(numbers).fill_diagonal_(0).abs().max() < 4 / math.sqrt(4001)
