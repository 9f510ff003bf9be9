"""Random numbers of seeds: against the hash in plain whole numbers, and as random as they must be."""

import math

import pytest
import torch
from scipy import stats

from graphssl.views.counter import draw_seeds, normal, permutations, uniform


def mixed(number):
    number = ((number ^ number >> 16) * 0x85EBCA6B) % 2**32
    number = ((number ^ number >> 13) * 0xC2B2AE35) % 2**32
    return number ^ number >> 16


def test_numbers_are_those_of_the_hash_in_plain_arithmetic():
    seeds = draw_seeds(5, torch.Generator().manual_seed(0))
    found = uniform(seeds, 300)
    for row, seed in enumerate(seeds.tolist()):
        for place in (0, 1, 17, 299):
            expected = mixed(mixed(place * 0x9E3779B9 % 2**32) ^ (seed % 2**32))
            assert found[row, place].item() == pytest.approx(((expected >> 8) + 0.5) / 2**24, abs=1e-7)


def test_numbers_are_spread_evenly_and_normally_and_seeds_have_nothing_in_common():
    seeds = draw_seeds(6, torch.Generator().manual_seed(1))
    even, bell = uniform(seeds, 4001), normal(seeds, 4001)
    assert even.shape == bell.shape == (6, 4001)
    assert min(stats.kstest(row.numpy(), "uniform").pvalue for row in even) > 1e-3
    assert min(stats.kstest(row.numpy(), "norm").pvalue for row in bell) > 1e-3
    for numbers in (even, bell):
        between = torch.corrcoef(numbers).fill_diagonal_(0)
        assert between.abs().max() < 4 / math.sqrt(4001)
        assert torch.corrcoef(torch.stack([numbers[0, 1:], numbers[0, :-1]]))[0, 1].abs() < 4 / math.sqrt(4001)
    near = uniform(torch.tensor([0, 1, 2], dtype=torch.int32), 4001)  # seeds that differ in a bit
    assert torch.corrcoef(near).fill_diagonal_(0).abs().max() < 4 / math.sqrt(4001)


def test_more_numbers_begin_like_fewer():
    seeds = torch.tensor([3, -7], dtype=torch.int32)
    assert torch.equal(uniform(seeds, 100)[:, :40], uniform(seeds, 40))


def test_permutations_hold_each_once_and_every_order_comes_up():
    orders = permutations(draw_seeds(2400, torch.Generator().manual_seed(0)), 4)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(4).expand(2400, 4))
    counts = torch.tensor([(orders == order).all(dim=1).sum() for order in orders.unique(dim=0)])
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
