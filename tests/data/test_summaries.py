"""Summaries of events against loops; nothing after the prediction time gets in."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from graphssl.data import Cohort, Column, EventSummary, Schema
from graphssl.data.events import Events
from graphssl.errors import ConfigError, DataError, LeakageError, SchemaError

DAY = pd.Timestamp("2020-01-01")


def make_cohort_of_events(n=12, seed=0):
    """Pulses at random hours, one temperature of every other patient, a text, and a patient without events."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{k}", DAY + pd.Timedelta(hours=float(h)), "pulse", 60 + 10 * rng.standard_normal(), None) for k in range(n) for h in rng.uniform(0, 48, 5)
    ]
    rows += [(f"p{k}", DAY + pd.Timedelta(hours=1), "temp", 37 + 0.1 * k, None) for k in range(0, n, 2)]
    rows += [("p0", DAY, "note", np.nan, "fine"), ("p1", DAY, "rare", 1.0, None)]
    events = Events.of(pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value", "text_value"]))
    subjects = pd.DataFrame({"age": [50.5 + k for k in range(n + 1)]}, index=[f"p{k}" for k in range(n)] + ["nobody"])
    return Cohort("icu", subjects, Schema.infer(subjects), events=events)


def test_statistics_are_those_of_a_loop():
    cohort = make_cohort_of_events()
    found = EventSummary(min_subjects=3).apply(cohort).subjects
    table = cohort.events.table
    for subject in cohort.ids:
        mine = table[(table["subject_id"] == subject) & (table["code"] == "pulse")].sort_values("time")["numeric_value"].to_numpy(dtype=float)
        expected = [mine.mean(), mine.min(), mine.max(), mine[0], mine[-1], mine.std(ddof=1), 5] if len(mine) else [np.nan] * 6 + [0]
        names = [f"pulse {statistic}" for statistic in ("mean", "min", "max", "first", "last", "std", "count")]
        assert_allclose(found.loc[subject, names].to_numpy(dtype=float), expected, rtol=1e-5)
    assert np.isnan(found.loc["p2", "temp std"])
    assert found.loc["p1", "temp count"] == 0


def test_slopes_are_those_of_a_least_squares_line():
    cohort = make_cohort_of_events()
    found = EventSummary(("slope", "mean"), min_subjects=3).apply(cohort).subjects
    assert list(found.columns) == ["age", "pulse slope", "pulse mean", "temp slope", "temp mean"]
    table = cohort.events.table
    for subject in cohort.ids[:-1]:
        mine = table[(table["subject_id"] == subject) & (table["code"] == "pulse")]
        line = np.polyfit((mine["time"] - DAY) / pd.Timedelta(hours=1), mine["numeric_value"], 1)
        assert_allclose(found.loc[subject, "pulse slope"], line[0], rtol=1e-3)
    assert found["temp slope"].isna().all(), "one value has no slope"
    assert found.loc["nobody"].isna().sum() == 4
    pd.testing.assert_series_equal(EventSummary(("slope",), min_subjects=3).apply(cohort).subjects["pulse slope"], found["pulse slope"])


def test_values_of_one_time_or_of_none_have_no_slope():
    times = [DAY, DAY, None, None, DAY, DAY + pd.Timedelta(hours=2), None]
    rows = pd.DataFrame({"subject_id": list("aabbccc"), "time": times, "code": "pulse", "numeric_value": [60.0, 80, 60, 80, 60, 70, 500]})
    subjects = pd.DataFrame({"age": [50.5, 51.5, 52.5]}, index=list("abc"))
    cohort = Cohort("icu", subjects, Schema.infer(subjects), events=Events.of(rows))
    assert_allclose(EventSummary(("slope",), min_subjects=1).apply(cohort).subjects["pulse slope"], [np.nan, np.nan, 5.0])


def test_what_is_rare_or_has_no_number_is_left_out_and_listed():
    summarised = EventSummary(min_subjects=3).apply(make_cohort_of_events())
    assert {name.split()[0] for name in summarised.subjects.columns} == {"age", "pulse", "temp"}
    listed = summarised.excluded.set_index("id")["reason"]
    assert listed["rare"] == "events with a value in 1 subjects, fewer than 3"
    assert listed["note"] == "events with a value in 0 subjects, fewer than 3"


def test_the_future_does_not_enter():
    cohort = make_cohort_of_events()
    times = pd.Series(DAY + pd.Timedelta(hours=24), index=cohort.ids)
    planted = pd.DataFrame({"subject_id": ["p3"], "time": [DAY + pd.Timedelta(hours=30)], "code": ["pulse"], "numeric_value": [999.0]})
    other = Cohort(cohort.name, cohort.subjects, cohort.schema, events=cohort.events.union(Events.of(planted)))
    first, second = (EventSummary(min_subjects=3).apply(part.predict_at(times)).subjects for part in (cohort, other))
    pd.testing.assert_frame_equal(first, second)
    assert EventSummary(min_subjects=3).apply(other).subjects.loc["p3", "pulse max"] == 999.0


def test_a_patient_does_not_depend_on_the_others():
    cohort = make_cohort_of_events()
    together, alone = (EventSummary(min_subjects=1).apply(part).subjects for part in (cohort, cohort.select(["p4"])))
    pd.testing.assert_series_equal(together.loc["p4", alone.columns], alone.loc["p4"])


def test_what_makes_no_sense_is_refused():
    cohort = make_cohort_of_events()
    with pytest.raises(ConfigError, match="Expected statistics among mean, min"):
        EventSummary(statistics=("mean", "mean"))
    with pytest.raises(ConfigError, match="min_subjects of at least 1"):
        EventSummary(min_subjects=0)
    with pytest.raises(DataError, match="Expected events in 'icu' to summarise, found none"):
        EventSummary().apply(Cohort("icu", cohort.subjects, cohort.schema))
    with pytest.raises(DataError, match="values in 500 subjects or more, found none"):
        EventSummary(min_subjects=500).apply(cohort)
    with pytest.raises(SchemaError, match="no column called 'pulse mean'"):
        EventSummary(min_subjects=3).apply(EventSummary(min_subjects=3).apply(cohort))


def test_events_that_may_be_later_than_the_outcome_are_no_features():
    cohort = make_cohort_of_events()
    died = cohort.with_column(Column("died", "binary", "target"), pd.Series(["no", "yes"] * 6 + ["no"], index=cohort.ids))
    with pytest.raises(
        LeakageError, match="Expected prediction times in 'icu', whose events may be later than its outcome 'died'; found none. Set them"
    ):
        EventSummary(min_subjects=3).apply(died)
    times = pd.Series(DAY + pd.Timedelta(hours=24), index=cohort.ids)
    assert "pulse mean" in EventSummary(min_subjects=3).apply(died.predict_at(times)).subjects.columns
