import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.reports import ConversionReport, RoundTrip
from graphssl.reports.canvas import DPI
from graphssl.reports.conversion_figures import coverage_and_error, map_matrix, there_and_back, worst_on_brain


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    n = 6
    places = rng.uniform([-50, -80, -20], [50, 50, 60], (n, 3))
    table = pd.DataFrame({"label": range(1, n + 1), "name": [f"R{k}" for k in range(n)], "network": ["b", "a", "", "b", "a", "a"]})
    table[["x", "y", "z"]] = places
    table = table.assign(coverage=[0.9, 0.2, 0.8, 0.7, 1.0, 0.0], expected_error=[0.1, 0.3, 0.2, 0.15, 0.12, math.nan], served=[True] * 5 + [False])
    table = table.assign(n_sources=1, largest_source=1, largest_source_name="S")
    weights = np.abs(rng.standard_normal((n, 4)))
    trip = RoundTrip("overlap", np.array([0.5]), rng.standard_normal(30), rng.standard_normal(30), 1)
    return ConversionReport("one", "two", "", "overlap", table, weights, ("a", "b", "b", ""), "", 0.2, "", round_trip=trip)


def width(picture):
    assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.caption
    return int.from_bytes(picture.png[16:20], "big")


def test_the_map_is_ordered_by_network(report):
    drawn = map_matrix(report)
    assert width(drawn) == round(8.0 * DPI)
    assert drawn.alt == "Matrix of weights from 4 regions of one to 6 regions of two, ordered by network."
    assert "nearest region of lender" in map_matrix(replace(report, networks_from="lender")).caption
    bare = replace(report, source_networks=("",) * 4, weights=-report.weights)
    assert "in the order of the atlases" in map_matrix(bare).alt
    assert width(map_matrix(replace(report, weights=np.zeros((6, 4)))))


def test_coverage_and_error_or_the_one_that_is_known(report):
    both = coverage_and_error(report)
    assert both.alt == "Expected error against coverage of 5 regions of two; the worst are R1, R2, R3, R4, R0."
    only_error = replace(report, regions=report.regions.assign(coverage=math.nan))
    assert coverage_and_error(only_error).alt.startswith("Expected error of 5 regions")
    only_coverage = replace(report, regions=report.regions.assign(expected_error=math.nan))
    assert coverage_and_error(only_coverage).alt.startswith("Coverage of 5 regions")
    neither = replace(report, regions=report.regions.assign(expected_error=math.nan, coverage=math.nan))
    assert coverage_and_error(neither) is None


def test_the_worst_stand_in_the_brain(report):
    drawn = worst_on_brain(report)
    assert width(drawn) == round(9.6 * DPI)
    assert "the 5 worst-served regions of two, and crosses at the 1 that cannot be served; the worst are R1" in drawn.alt
    alike = report.regions.assign(expected_error=0.17, served=True)
    assert worst_on_brain(replace(report, regions=alike)) is not None, "a colour bar needs two ends"
    unknown = report.regions.assign(expected_error=math.nan, coverage=math.nan)
    assert "crosses at the 1" in worst_on_brain(replace(report, regions=unknown)).alt
    assert worst_on_brain(replace(report, regions=unknown.assign(served=True))) is None


def test_there_and_back_is_drawn_where_it_was_measured(report):
    assert width(there_and_back(report)) == round(4.8 * DPI)
    assert "30 connections of one subject" in there_and_back(report).alt
    assert there_and_back(replace(report, round_trip=None)) is None
