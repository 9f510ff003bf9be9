"""Power laws: what was planted comes out, with intervals that hold it."""

import math

import numpy as np
import pytest

from graphssl.errors import DataError
from graphssl.statistics import fit_power_law

SIZES = [25, 50, 100, 200, 400, 800]


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 0.5, 0.1), (0.9, 0.25, 0.0), (30.0, 1.3, 0.05)])
def test_a_planted_law_without_noise_is_recovered(a, b, c):
    found = fit_power_law(SIZES, [a * n**-b + c for n in SIZES])
    assert found.b.estimate == pytest.approx(b, abs=2e-3)
    assert found.a.estimate == pytest.approx(a, rel=2e-2)
    assert found.c.estimate == pytest.approx(c, abs=2e-3)
    assert found(1600) == pytest.approx(a * 1600**-b + c, abs=2e-3)
    assert math.isnan(found.b.low)  # one error a size has no spread


def test_intervals_hold_what_was_planted_nearly_as_often_as_they_say():
    sizes, held = np.repeat(SIZES, 5), []
    for seed in range(20):
        noise = 0.02 * np.random.default_rng(seed).standard_normal(len(sizes))
        found = fit_power_law(sizes, 2.0 * sizes**-0.5 + 0.1 + noise, n_resamples=200)
        held += [found.b.low <= 0.5 <= found.b.high, found.c.low <= 0.1 <= found.c.high]
    assert np.mean(held) >= 0.85
    assert (found.n_sizes, found.n_values) == (6, 30)


def test_intervals_shrink_with_the_noise():
    sizes = np.repeat(SIZES, 5)
    noise = np.random.default_rng(0).standard_normal(len(sizes))
    wide, narrow = (fit_power_law(sizes, 2.0 * sizes**-0.5 + 0.1 + spread * noise).b for spread in (0.02, 0.005))
    assert narrow.high - narrow.low < wide.high - wide.low


def test_a_floor_is_never_below_zero_and_a_law_that_does_not_fall_is_flat():
    falling_to_less_than_nothing = fit_power_law(SIZES, [0.5 - 0.05 * k for k in range(6)])
    assert falling_to_less_than_nothing.c.estimate == 0
    rising = fit_power_law(SIZES, [0.1 + 0.05 * k for k in range(6)])
    assert rising.a.estimate == 0
    assert rising.c.estimate == pytest.approx(0.225)


def test_too_few_sizes_are_refused():
    with pytest.raises(DataError, match="three sizes above 0 or more"):
        fit_power_law([10, 10, 20], [0.3, 0.2, 0.1])
    with pytest.raises(DataError, match="Expected finite errors"):
        fit_power_law([10, 20, 30], [0.3, 0.2, math.nan])
