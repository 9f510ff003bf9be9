import json
import math

import numpy as np
import pandas as pd
import pytest

from graphssl.reports import ConversionReport, RoundTrip, conversion_facts, conversion_summary
from graphssl.reports.conversion import worst_served


def report_of(coverage, errors, trip=None, n=4, **changes):
    regions = pd.DataFrame(
        {
            "label": 10 * np.arange(1, n + 1), "name": [f"R{k}" for k in range(n)], "network": ["a", "b", "", "a"][:n],
            "x": np.linspace(-40, 40, n), "y": np.linspace(-70, 40, n), "z": np.linspace(-20, 50, n),
            "coverage": coverage, "expected_error": errors, "served": [True] * (n - 1) + [False],
            "n_sources": 1, "largest_source": 1, "largest_source_name": "S1",
        }
    )  # fmt: skip
    given = {
        "source": "one", "target": "two", "what": "3 subjects, time series,", "method": "overlap", "regions": regions,
        "weights": np.eye(n, 3) * [[1.0]], "source_networks": ("a", "b", ""), "resampled": "one grid", "error": 0.2, "error_from": "from coverage",
    }  # fmt: skip
    return ConversionReport(**{**given, "round_trip": trip, **changes})


KNOWN = ([0.9, 0.4, 1.0, 0.0], [0.1, 0.3, 0.2, math.nan])
NAN = [math.nan] * 4


def test_facts_of_a_conversion():
    trip = RoundTrip("overlap", np.array([0.7, 0.8, 0.6]), np.arange(3.0), np.arange(3.0), 10)
    facts = dict(conversion_facts(report_of(*KNOWN, trip, remarks=(("Learned from", "60 subjects"),))))
    assert facts["Converted"] == "3 subjects, time series, from one (3 regions) to two (4 regions)"
    assert facts["Coverage"] == "median 65% of a target region’s volume lies in source regions; less than half in 2 of 4 regions"
    assert facts["Not served"] == "1 region cannot be served, NaN and masked: R3"
    assert facts["Worst served"].startswith("R1 (error 0.300, covered 40%), R2 (error 0.200, covered 100%)")
    assert facts["Error"] == "0.200 expected of a correlation (root mean square over connections), from coverage"
    assert (
        facts["Round trip"]
        == "r 0.700 of a matrix with its round trip (median of 3 of 10 subjects, 0.600 to 0.800; one → two → one, back by overlap)"
    )
    assert facts["Learned from"] == "60 subjects"


def test_what_is_not_known_is_said():
    facts = dict(conversion_facts(report_of(NAN, NAN, error=math.nan)))
    assert facts["Coverage"].startswith("not known")
    assert facts["Worst served"].startswith("not known")
    assert facts["Error"].startswith("not known of this map")
    assert facts["Round trip"] == "not measured"
    by_error = dict(conversion_facts(report_of(NAN, KNOWN[1])))
    assert by_error["Worst served"].startswith("R1 (error 0.300), R2")
    one = RoundTrip("geometry", np.array([0.7]), np.arange(3.0), np.arange(3.0), 1)
    assert dict(conversion_facts(report_of(*KNOWN, one)))["Round trip"].startswith("r 0.700 of the matrix with its round trip (one → two")


def test_the_worst_are_by_error_then_by_coverage():
    assert worst_served(report_of(*KNOWN).regions, 2)["name"].tolist() == ["R1", "R2"]
    assert worst_served(report_of(KNOWN[0], NAN).regions)["name"].tolist() == ["R1", "R0", "R2"]
    assert worst_served(report_of(NAN, NAN).regions).empty


def test_a_summary_is_plain_json():
    trip = RoundTrip("overlap", np.array([0.7, 0.8, 0.6]), np.arange(3.0), np.arange(3.0), 3)
    found = json.loads(json.dumps(conversion_summary(report_of(*KNOWN, trip)), allow_nan=False))
    assert (found["n_source_regions"], found["n_target_regions"], found["not_served"], found["worst_served"]) == (3, 4, [40], [20, 30, 10])
    assert found["coverage"] == {"median": pytest.approx(0.65), "below_half": 2}
    assert found["round_trip"] == {"r": 0.7, "low": 0.6, "high": 0.8, "back": "overlap", "n_subjects": 3}
    unknown = conversion_summary(report_of(NAN, NAN, error=math.nan))
    assert (unknown["coverage"], unknown["expected_error"], unknown["round_trip"]) == (None, None, None)
