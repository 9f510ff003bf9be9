"""Events by how long before the prediction time they were."""

import pandas as pd
import pytest

from graphssl.data import Cohort, Schema
from graphssl.data.recent_events import MICROSECONDS_PER_HOUR, common_codes, matches, recent_events, static_events
from graphssl.errors import DataError


def test_time_counts_back_from_the_prediction_time(ward):
    cohort = ward()
    found = recent_events(cohort, 6 * MICROSECONDS_PER_HOUR)
    table = cohort.events.table
    times = cohort.prediction_times
    expected = [
        (cohort.ids.index(str(row.subject_id)), round((times[str(row.subject_id)] - row.time).total_seconds() * 1e6), str(row.code))
        for row in table.itertuples()
        if not pd.isna(row.time) and times[str(row.subject_id)] - row.time <= pd.Timedelta(hours=6)
    ]
    assert list(zip(found["row"], found["before"], found["code"].astype("str"), strict=True)) == expected
    assert found["before"].min() >= 1


def test_without_prediction_times_it_counts_back_from_the_last_event(ward):
    found = recent_events(ward(predicted=False))
    assert (found.groupby("row")["before"].min() == 1).all()
    assert len(found) == ward(predicted=False).events.table["time"].notna().sum()


def test_events_without_a_time_are_of_another_kind(ward):
    found = static_events(ward())
    assert set(found["code"]) == {"height", "ward", "smokes"}
    assert "height" not in set(recent_events(ward())["code"])
    assert common_codes(found, 7) == ["height", "ward"]
    assert common_codes(recent_events(ward()), 7) == ["pulse"]
    assert common_codes(recent_events(ward()), 7, ["ventilator", "t*", "absent"]) == ["pulse", "ventilator"]


def test_patterns_fit_whole_codes():
    codes = pd.Index(["LAB//K", "LAB//Na", "DRUG//K", "lab//K"])
    assert matches(codes, ("LAB//*",)).tolist() == [True, True, False, False]
    assert matches(codes, ("DRUG//?", "LAB//Na")).tolist() == [False, True, True, False]
    assert not matches(codes, ()).any()


def test_a_cohort_without_events_is_refused_and_empty_streams_are_empty(ward):
    cohort = ward()
    with pytest.raises(DataError, match="Expected events in 'bare', found none"):
        recent_events(Cohort("bare", cohort.subjects[["age"]], Schema([cohort.schema["age"]])))
    alone = cohort.select(["nobody"])
    assert len(recent_events(alone)) == len(static_events(alone)) == 0
