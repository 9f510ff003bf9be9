"""The digest of a table: the same for the same values, another for any other."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from graphssl.data.fingerprint import fingerprint

IDS = ["a", "b", "c", "d"]


def of(series):
    return fingerprint(pd.DataFrame({"x": series}).set_axis(IDS))


SAME = {
    "whole numbers": [
        pd.Series([1, 2, -3, 0]),
        pd.Series([1, 2, -3, 0], dtype="int8"),
        pd.Series([1, 2, -3, 0], dtype="Int64"),
        pd.Series([1.0, 2.0, -3.0, -0.0]),
        pd.Series([1, 2, -3, 0], dtype="float32"),
        pd.Series([1, 2, -3, 0], dtype=object),
        pd.Series([1, 2, -3, 0], dtype="category"),
        pd.Series([1, 2, -3, 0], dtype="int64[pyarrow]"),
    ],
    "numbers with one missing": [
        pd.Series([1.5, np.nan, -3.0, 0.0]),
        pd.Series([1.5, None, -3.0, 0.0], dtype="Float64"),
        pd.Series([1.5, None, -3.0, 0.0], dtype=object),
    ],
    "truth": [pd.Series([True, False, True, True]), pd.Series([True, False, True, True], dtype="boolean"), pd.Series([1, 0, 1, 1])],
    "words": [
        pd.Series(["m", None, "f", "m"], dtype=object),
        pd.Series(["m", None, "f", "m"], dtype="str"),
        pd.Series(["m", pd.NA, "f", "m"], dtype="string"),
        pd.Series(["m", np.nan, "f", "m"], dtype="category"),
        pd.Series(pd.Categorical(["m", None, "f", "m"], categories=["x", "m", "f"], ordered=True)),
    ],
    "moments": [
        pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-02 03:04", "1999-12-31"], format="mixed")),
        pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-02 03:04", "1999-12-31"], format="mixed")).dt.as_unit("s"),
        pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-02 03:04", "1999-12-31"], format="mixed", utc=True)).dt.tz_convert("Asia/Tokyo"),
    ],
    "nothing": [pd.Series([None] * 4, dtype=object), pd.Series([np.nan] * 4), pd.Series([pd.NaT] * 4), pd.Series([None] * 4, dtype="str")],
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_values_in_any_dtype_have_one_digest(name):
    assert len({of(series) for series in SAME[name]}) == 1


def test_other_values_have_another_digest():
    series = [
        *(each[0] for each in SAME.values()),
        pd.Series([1, 2, -3, 1]),
        pd.Series([1.5, 0.0, -3.0, 0.0]),
        pd.Series(["m", "", "f", "m"]),
        pd.Series(["m", "m", "f", None]),
        pd.Series(["m", "nan", "f", "m"]),
        pd.Series(["1", "2", "-3", "0"]),
        pd.Series([2**53, 0, 0, 0]),
        pd.Series([2**53 + 1, 0, 0, 0]),
        pd.Series(["a", "b,c", "d", "e"]),
        pd.Series(["a,b", "c", "d", "e"]),
        pd.Series(["m\0", "f", "m", "m"]),
        pd.Series(["m", "\0f", "m", "m"]),
    ]
    assert len({of(each) for each in series}) == len(series)


def test_order_and_names_count():
    table = pd.DataFrame({"x": [1, 2], "y": [3, 4]}, index=["a", "b"])
    others = [
        table[["y", "x"]],
        table.iloc[::-1],
        table.rename(columns={"x": "z"}),
        table.set_axis(["a", "c"]),
        table.set_axis(["b", "a"]),
        table[["x"]],
    ]
    assert len({fingerprint(each) for each in (table, *others)}) == 7
    assert fingerprint(table.rename_axis("subject")) == fingerprint(table)


@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (3, 0)])
def test_an_empty_table(shape):
    table = pd.DataFrame(np.zeros(shape))
    assert fingerprint(table) == fingerprint(table.copy())
    assert len(fingerprint(table)) == 32


def test_a_table_through_a_file_is_the_same(tmp_path):
    table = pd.concat({name: series[0].set_axis(IDS) for name, series in SAME.items()}, axis=1)
    table.to_parquet(tmp_path / "table.parquet")
    assert fingerprint(pd.read_parquet(tmp_path / "table.parquet")) == fingerprint(table)


def test_another_process_finds_the_same():
    """The hashes of Python's strings differ from process to process. Only the module itself is loaded there."""
    code = (
        f"import pandas as pd, runpy; fingerprint = runpy.run_path({fingerprint.__code__.co_filename!r})['fingerprint'];"
        "print(fingerprint(pd.DataFrame({'x': [1.5, None], 'y': ['m', 'f']}, index=['a', 'b'])).hex())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == fingerprint(pd.DataFrame({"x": [1.5, None], "y": ["m", "f"]}, index=["a", "b"])).hex()


def test_large_tables_take_no_time():
    rng = np.random.default_rng(0)
    columns = {f"number {k}": rng.standard_normal(100_000) for k in range(45)}
    columns |= {f"word {k}": rng.choice(["male", "female", "other"], 100_000) for k in range(5)}
    table = pd.DataFrame(columns, index=[f"sub-{k}" for k in range(100_000)])
    start = time.process_time()
    fingerprint(table)
    assert time.process_time() - start < 3.0, "written as text it takes more than five seconds"
