"""Curves of a validation score: when they reach a level, how high they are, how quiet at the end."""

import math

import numpy as np
import pytest

from graphssl.errors import DataError
from graphssl.statistics import late_spread, mean_height, time_to


def test_the_first_time_at_a_level():
    assert time_to([10, 20, 30, 40], [0.1, 0.5, 0.4, 0.9], 0.5) == 20
    assert time_to([10], [0.5], 0.5) == 10
    assert math.isnan(time_to([10, 20], [0.1, 0.2], 0.5))


def test_the_mean_height_of_a_line_is_its_middle_whatever_the_spacing():
    at = [0, 1, 5, 10]
    assert mean_height(at, [0.1 + 0.05 * t for t in at]) == pytest.approx(0.1 + 0.05 * 5)
    assert mean_height([3], [0.7]) == 0.7


def test_the_late_spread_looks_at_the_end_only():
    assert late_spread([0, 9, -3, 0.5, 0.7, 0.9], last=3) == pytest.approx(np.std([0.5, 0.7, 0.9], ddof=1))
    assert math.isnan(late_spread([0.5]))


@pytest.mark.parametrize(("at", "scores"), [([], []), ([1, 1], [0.1, 0.2]), ([1, 2], [0.1]), ([1, 2], [0.1, math.nan])])
def test_what_is_no_curve_is_refused(at, scores):
    with pytest.raises(DataError, match="Expected a curve of finite scores at rising steps"):
        time_to(at, scores, 0.5)
