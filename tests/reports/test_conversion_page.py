import math
import re

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import RunFolderError
from graphssl.reports import ConversionReport, RoundTrip, write_conversion_report


@pytest.fixture
def report():
    n = 5
    table = pd.DataFrame({"label": range(1, n + 1), "name": [f"R<{k}>" for k in range(n)], "network": ["b", "a", "", "b", "a"]})
    table[["x", "y", "z"]] = np.random.default_rng(0).uniform([-50, -80, -20], [50, 50, 60], (n, 3))
    table = table.assign(coverage=[0.9, 0.2, 0.8, 0.7, 0.0], expected_error=[0.1, 0.3, 0.2, 0.15, math.nan], served=[True] * 4 + [False])
    table = table.assign(n_sources=[2, 1, 3, 1, 0], largest_source=1, largest_source_name=["S1"] * 4 + [""])
    trip = RoundTrip("overlap", np.array([0.5]), np.arange(9.0), np.arange(9.0), 1)
    return ConversionReport("one", "two", "1 subject,", "overlap", table, np.eye(5, 3), ("a", "b", ""), "one grid", 0.2, "known", round_trip=trip)


def test_the_page_holds_everything_and_opens_offline(tmp_path, report):
    page = write_conversion_report(tmp_path / "report", report)
    text = page.read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>one converted to two: graphssl report</title>" in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//|<script[^>]*src|<link""", text)
    assert text.count("<script") == 1  # the page's own, which sorts tables
    assert len(re.findall(r'<img src="data:image/png;base64,iVBORw0KGgo', text)) == 4
    assert "R&lt;1&gt;" in text
    assert "R<1>" not in text
    assert "1 region that cannot be served" in text
    assert "from 1 subject" not in text
    assert '<td class="n">0.300</td><td class="n">1</td><td >S1</td>' in text
    assert "All 5 regions" in text


def test_the_table_of_regions_is_beside_it(tmp_path, report):
    write_conversion_report(tmp_path / "report", report)
    table = pd.read_csv(tmp_path / "report" / "regions.csv")
    assert table["expected_error"].tolist()[:4] == [0.1, 0.3, 0.2, 0.15]
    assert table["served"].tolist() == [True] * 4 + [False]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["regions.csv", "report", "report.html"]


def test_an_earlier_report_is_replaced_and_other_files_are_not(tmp_path, report):
    first = write_conversion_report(tmp_path / "report", report).read_bytes()
    assert write_conversion_report(tmp_path / "report", report).read_bytes() == first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    with pytest.raises(RunFolderError, match="an earlier report of a conversion; found other files"):
        write_conversion_report(tmp_path / "mine", report)


def test_what_was_not_measured_is_said(tmp_path, report):
    report.regions[["coverage", "expected_error"]] = math.nan
    bare = ConversionReport("one", "two", "1 subject,", "x", report.regions.assign(served=True), np.eye(5, 3), ("", "", ""), "none", math.nan, "")
    text = write_conversion_report(tmp_path / "report", bare).read_text(encoding="utf-8")
    assert "Not measured: nothing can be converted back" in text
    assert len(re.findall("<img ", text)) == 1
