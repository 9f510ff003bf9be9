"""Result records: one JSON line a number, read back as it was written."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import DataError
from graphssl.results import FIELDS, Result, read_results, write_results

RESULT = Result("abide1", "diagnosis", "leave_one_site_out", "pretrained", "NYU", 0, 0.1, "auroc", 0.71, 80, 40, 1.5)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
results = st.builds(
    Result,
    names,
    names,
    names,
    names,
    names,
    st.integers(0, 99),
    numbers,
    names,
    st.one_of(numbers, st.just(math.nan)),
    *[st.integers(0, 99)] * 2,
    numbers,
)


@settings(max_examples=50, deadline=None)
@given(written=st.lists(results, max_size=4))
def test_round_trip(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("results") / "results.jsonl"
    write_results(path, written)
    table = read_results(path)
    assert list(table.columns) == list(FIELDS)
    assert len(table) == len(written)
    for row, result in zip(table.itertuples(index=False), written, strict=True):
        for field in FIELDS:
            np.testing.assert_equal(getattr(row, field), getattr(result, field))
    assert sorted(path.parent.iterdir()) == [path], "what is written aside is moved into place"


def test_one_json_line_a_number(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [RESULT, dataclasses.replace(RESULT, value=math.nan)])
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == dataclasses.asdict(RESULT)
    assert second["value"] is None
    assert np.isnan(read_results(path)["value"][1])


def test_nothing_is_written_where_a_value_is_infinite(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [RESULT])
    before = path.read_text()
    with pytest.raises(DataError, match="Expected a finite auroc or NaN, found inf for pretrained in split 'NYU'"):
        write_results(path, [RESULT, dataclasses.replace(RESULT, value=math.inf)])
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_results(tmp_path):
    with pytest.raises(DataError, match=r"Expected results at .*results\.jsonl, found no such file\. Run `graphssl evaluate` first"):
        read_results(tmp_path / "results.jsonl")


@pytest.mark.parametrize("line", ['{"cohort": "abide1"', '{"cohort": "abide1"}', "[1, 2]", "", '{"value": "high"}'])
def test_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "results.jsonl"
    write_results(path, [RESULT])
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    with pytest.raises(DataError, match=r"Expected a result record with the fields cohort, .* in .*, line 2; found .* The file is damaged"):
        read_results(path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="result records as text"):
        read_results(tmp_path / "results.jsonl")
