import math

import pandas as pd
import pytest

from graphssl.errors import DataError
from graphssl.results import FIELDS
from graphssl.statistics.metrics import mean_interval
from graphssl.statistics.summary import SUMMARY_COLUMNS, summarise


def table(rows: list[tuple[str, str, int, float]]) -> pd.DataFrame:
    """Results of `(method, split, seed, value)`."""
    return pd.DataFrame(
        [("toy", "dx", "leave_one_site_out", m, split, seed, 1.0, "auroc", value, 80, 20, 1.0) for m, split, seed, value in rows],
        columns=list(FIELDS),
    )


def test_seeds_first_then_splits() -> None:
    # Site a has three seeds and site b one: each site still counts the same.
    found = summarise(table([("m", "a", 0, 0.6), ("m", "a", 1, 0.7), ("m", "a", 2, 0.8), ("m", "b", 0, 0.9)]))
    assert list(found.columns) == list(SUMMARY_COLUMNS)
    row = found.iloc[0]
    interval = mean_interval([0.7, 0.9])
    assert row["mean"] == pytest.approx(0.8)
    assert row["sd"] == pytest.approx(math.sqrt(2 * 0.1**2))
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert (row["min_split"], row["max_split"], row["n_splits"], row["n_seeds"], row["n_test"]) == ("a", "b", 2, 3, 40)
    assert (row["min"], row["max"]) == pytest.approx((0.7, 0.9))


def test_splits_without_a_value_are_counted_not_averaged() -> None:
    found = summarise(table([("m", "a", 0, 0.6), ("m", "b", 0, math.nan), ("m", "c", 0, 0.8), ("n", "a", 0, math.nan)]))
    assert found.loc[0, "mean"] == pytest.approx(0.7)
    assert found["n_splits"].tolist() == [2, 0]
    assert found["n_undefined"].tolist() == [1, 1]
    assert math.isnan(found.loc[1, "mean"])


def test_one_row_a_method_in_order_of_appearance() -> None:
    found = summarise(table([("z", "a", 0, 0.6), ("y", "a", 0, 0.5), ("x", "a", 0, 0.4)]))
    assert found["method"].tolist() == ["z", "y", "x"]
    assert found["sd"].isna().all()
    assert found["low"].isna().all()


def test_no_results_give_no_rows() -> None:
    found = summarise(table([]))
    assert len(found) == 0
    assert list(found.columns) == list(SUMMARY_COLUMNS)


def test_a_number_recorded_twice() -> None:
    with pytest.raises(DataError, match="each number once, found 1 recorded again, such as auroc of 'm' in split 'a' with seed 0"):
        summarise(table([("m", "a", 0, 0.6), ("m", "a", 0, 0.7)]))
