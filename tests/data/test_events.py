"""Event streams: read in any order, sorted, cut before a time; what cannot be a time is named."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import Events
from graphssl.data.events import COLUMNS, read_times
from graphssl.errors import DataError, SchemaError

ROWS = [
    ("b", "2130-01-02 08:00", "HR", 80.0, None),
    ("a", "2130-01-01 10:00", "HR", 70.0, None),
    ("a", None, "SEX//F", None, None),
    ("a", "2130-01-01 09:00", "NOTE", None, "well"),
]


def table(rows=ROWS):
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_sorted_by_subject_and_time_with_static_events_first():
    events = Events.of(table())
    assert events.ids == ["a", "b"]
    assert events.table["code"].tolist() == ["SEX//F", "NOTE", "HR", "HR"]
    assert events.table["time"].isna().tolist() == [True, False, False, False]
    np.testing.assert_array_equal(events.table["numeric_value"], np.array([np.nan, np.nan, 70, 80], np.float32))
    assert events.table["text_value"].tolist()[1] == "well"
    assert events.n_reordered == 1, "09:00 stood behind 10:00"
    assert repr(events) == "Events(4 of 2 subjects, 3 codes, 1 out of order in the source)"


def test_whole_numbers_are_ids_and_only_three_columns_are_needed():
    events = Events.of(pd.DataFrame({"subject_id": [10, 9], "time": pd.to_datetime(["2130-01-01", None]), "code": ["A", "B"], "hadm": [1, 2]}))
    assert events.ids == ["10", "9"]
    assert events.table["numeric_value"].isna().all()
    assert repr(Events.of(table([]))) == "Events(0 of 0 subjects, 0 codes)"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"code": None}, SchemaError, r"Expected a code for every event, found none in row 0\. Fill it in"),
        ({"subject_id": 1.5}, SchemaError, "Expected subject_id as text or whole numbers, found 1.5"),
        ({"numeric_value": "high"}, DataError, "Expected numbers in numeric_value, found text .*Put words into text_value"),
        ({"numeric_value": np.inf}, DataError, r"Expected finite numbers in numeric_value, found infinite ones.* in \d+ of \d+ events\. Leave"),
        ({"numeric_value": 1e300}, DataError, "Expected finite numbers in numeric_value, found infinite ones, or such beyond single precision"),
        ({"time": "yesterday"}, DataError, r"found \['yesterday'\] \(first in row 0\)\. Write them as year-month-day"),
        ({"time": 12}, DataError, "found numbers such as 12. Add them to the time they count from"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    with pytest.raises(error, match=message):
        Events.of(table().assign(**change))


def test_absent_columns_and_tables_of_other_origin():
    with pytest.raises(SchemaError, match=r"found \['subject_id', 'time'\]\. Rename them, or add \['code'\]"):
        Events.of(table()[["subject_id", "time"]])
    with pytest.raises(SchemaError, match=r"Make them with Events\.of"):
        Events(table())


def test_times_of_one_zone_become_utc_and_mixed_zones_are_refused():
    one = read_times(pd.Series(["2024-03-31T12:00:00+02:00", "2024-03-31T13:00:00+02:00", None]))
    assert one.tolist()[:2] == [pd.Timestamp("2024-03-31 10:00"), pd.Timestamp("2024-03-31 11:00")]
    assert one.isna().tolist() == [False, False, True]
    aware = read_times(pd.Series(pd.to_datetime(["2024-03-31 12:00"])).dt.tz_localize("Europe/Berlin"))
    assert aware.tolist() == [pd.Timestamp("2024-03-31 10:00")]
    for other in ("2024-03-31 12:00:00", "2024-03-31T12:00Z"):
        with pytest.raises(DataError, match=r"Expected times of one zone, found 2: .*Write them all in one zone, such as UTC"):
            read_times(pd.Series(["2024-03-31T12:00:00+02:00", other]))
    assert read_times(pd.Series(["2131-05-04", "2131-05-04 10:30"])).dt.hour.tolist() == [0, 10], "a date is no zone"


def test_before_is_strict_and_keeps_what_is_static():
    events = Events.of(table())
    times = pd.Series(pd.to_datetime(["2130-01-01 10:00", "2130-01-02 08:01"]), index=["a", "b"])
    kept = events.before(times)
    assert kept.table["code"].tolist() == ["SEX//F", "NOTE", "HR"]
    assert kept.table["code"].cat.categories.tolist() == ["HR", "NOTE", "SEX//F"]
    assert events.n_from(times) == (1, 1)
    assert events.before(times, timedelta(minutes=5)).table["code"].tolist() == ["SEX//F", "HR"]
    with pytest.raises(DataError, match=r"Expected a time for every subject with events, found none for \['b'\]"):
        events.before(times.drop("b"))


def test_samples_of_one_subject_see_as_much_as_their_time_allows():
    events = Events.of(table())
    times = pd.to_datetime(["2130-01-01 10:00", "2130-01-01 10:01", "2130-01-02 09:00", "2130-01-01 00:00"])
    samples = pd.DataFrame({"subject_id": ["a", "a", "b", "nobody"], "time": times}, index=["a1", "a2", "b1", "n1"])
    found = events.of_samples(samples).table
    seen = {sample: found.loc[found["subject_id"] == sample, "code"].tolist() for sample in samples.index}
    assert seen == {"a1": ["SEX//F", "NOTE"], "a2": ["SEX//F", "NOTE", "HR"], "b1": ["HR"], "n1": []}
    assert len(events.of_samples(samples[:0])) == 0


def test_select_leaves_no_trace_of_the_others():
    chosen = Events.of(table()).select(["b", "nobody"])
    assert chosen.ids == ["b"]
    assert chosen.table["code"].cat.categories.tolist() == ["HR"]
    assert chosen.hash == Events.of(table(ROWS[:1])).hash


def test_round_trip(tmp_path):
    events = Events.of(table())
    events.save(tmp_path / "events.parquet")
    again = Events.load(tmp_path / "events.parquet")
    assert again.hash == events.hash
    assert again.n_reordered == 0, "the file is in order"
    (tmp_path / "events.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"Expected events in .*events\.parquet, found a file that cannot be read"):
        Events.load(tmp_path / "events.parquet")


rows = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.one_of(st.none(), st.integers(0, 50).map(lambda minutes: str(pd.Timestamp("2130-01-01") + timedelta(minutes=minutes)))),
        st.sampled_from(["HR", "BP"]),
        st.one_of(st.none(), st.floats(-9, 9, width=32)),
        st.none(),
    ),
    max_size=20,
)


@settings(max_examples=30, deadline=None)
@given(rows, st.integers(0, 51))
def test_laws(rows, minutes):
    events = Events.of(table(rows))
    parts = [events.select(part) for part in (["a"], ["c", "b"])]
    assert parts[0].union(parts[1]).hash == parts[1].union(parts[0]).hash == events.hash
    limit = pd.Timestamp("2130-01-01") + timedelta(minutes=minutes)
    kept = events.before(pd.Series(limit, index=list("abc")))
    assert len(kept) == sum(time is None or pd.Timestamp(time) < limit for _, time, *_ in rows), "a slow loop"
    assert len(events) - len(kept) == events.n_from(pd.Series(limit, index=list("abc")))[0]


def test_a_stream_without_any_text_joins_one_with_some():
    row = {"subject_id": ["a"], "time": ["2020-01-01"], "code": ["note"], "numeric_value": [1.0]}
    bare, worded = Events.of(pd.DataFrame(row)), Events.of(pd.DataFrame({**row, "text_value": ["fine"]}))
    nothing = Events.of(pd.DataFrame({**row, "text_value": [None]}))
    assert [len(part.union(other)) for part, other in ((bare, worded), (worded, nothing), (nothing, bare))] == [2, 2, 2]
    assert bare.union(worded).table["text_value"].dropna().tolist() == ["fine"]


def test_categories_that_do_not_occur_are_dropped_as_pandas_drops_them():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"subject_id": rng.choice(list("abcdef"), 60), "time": pd.NaT, "code": rng.choice(list("uvwxyz"), 60)})
    rows["text_value"] = pd.Series(rng.choice(["yes", "no", "perhaps"], 60), dtype="str").mask(rng.random(60) < 0.5)
    events = Events.of(rows)
    for subjects in (["b", "e"], ["f"], [], list("abcdef")):
        kept = events.table[events.table["subject_id"].isin(subjects)].reset_index(drop=True)
        names = ["subject_id", "code", "text_value"]
        expected = kept.assign(**{name: kept[name].cat.remove_unused_categories() for name in names})
        pd.testing.assert_frame_equal(events.select(subjects).table, expected)
