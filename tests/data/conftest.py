"""Events of a small ward, shared by the tests of what reads them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort, Column, Events, Schema

DAY = pd.Timestamp("2020-01-01")


@pytest.fixture(scope="session")
def ward() -> Callable[..., Cohort]:
    """Factory of patients with pulses at random hours, a temperature of every other, a ventilator of every third, and one without events.

    `ward(n=12, seed=0, planted=(), predicted=True)`: planted rows are `(subject, hour, code, number, text)`, with the hour None for events without a
    time; the prediction time is hour 24.
    """
    return make_ward


def make_ward(n: int = 12, seed: int = 0, planted: tuple[Any, ...] = (), predicted: bool = True) -> Cohort:
    """See `ward`."""
    rng = np.random.default_rng(seed)
    rows: list[Any] = [(f"p{k}", hour, "pulse", 80 + 10 * rng.standard_normal(), None) for k in range(n) for hour in rng.uniform(0, 24, 9)]
    rows += [(f"p{k}", 12.0 + k % 5, "temp", 37 + 0.1 * k, None) for k in range(0, n, 2)]
    rows += [(f"p{k}", 13.5 + hour, "ventilator", np.nan, "mask") for k in range(0, n, 3) for hour in range(4)]
    rows += [(f"p{k}", None, "height", 170.0 + k, None) for k in range(n)]
    rows += [(f"p{k}", None, "ward", np.nan, "a" if k % 2 else "b") for k in range(n - 1)]
    rows += [(f"p{k}", None, "smokes", np.nan, None) for k in range(0, n, 2)]
    table = pd.DataFrame([*rows, *planted], columns=["subject_id", "hour", "code", "numeric_value", "text_value"])
    table["time"] = (DAY + pd.to_timedelta(table["hour"].astype("float64"), unit="h")).dt.floor("us")
    ids = [f"p{k}" for k in range(n)] + ["nobody"]
    subjects = pd.DataFrame({"age": [50.5 + k for k in range(n + 1)], "sex": ["f", "m"] * (n // 2) + ["f"] * (n % 2 + 1)}, index=ids)
    schema = Schema([Column("age", "continuous"), Column("sex", "binary", categories=("f", "m"))])
    cohort = Cohort("ward", subjects, schema, events=Events.of(table))
    return cohort.predict_at(pd.Series(DAY + pd.Timedelta(hours=24), index=ids)) if predicted else cohort
