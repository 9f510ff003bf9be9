"""Missing numbers stay missing, everything else is as ColumnEncoder has it."""

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose

from graphssl.evaluation.native_missing import NativeMissing


def test_numbers_that_were_not_measured_are_nan():
    table = pd.DataFrame({"sex": ["f", None, "m"], "age": [20.5, np.nan, 40.5], "pulse": [80.5, 60.5, np.nan]}, index=["a", "b", "c"])
    found = NativeMissing().fit(table).transform(table)
    nan = np.nan
    assert_allclose(found, [[1, 0, 0, 0, -1, 1], [0, 0, 0, 1, nan, -1], [0, 1, 0, 0, 1, nan]])


def test_what_was_learned_serves_others():
    train = pd.DataFrame({"age": [20.5, 40.5], "sex": ["f", "m"]}, index=["a", "b"])
    other = pd.DataFrame({"age": [np.nan, 60.5], "sex": ["x", "f"]}, index=["c", "d"])
    found = NativeMissing().fit(train).transform(other)
    assert_allclose(found, [[np.nan, 0, 0, 1, 0], [3, 1, 0, 0, 0]])


def test_a_number_that_no_training_subject_had_is_left_out():
    train = pd.DataFrame({"age": [20.5, 40.5], "never": [np.nan, np.nan]}, index=["a", "b"])
    found = NativeMissing().fit(train).transform(train.assign(never=[1.5, 2.5]))
    assert_allclose(found, [[-1], [1]])
