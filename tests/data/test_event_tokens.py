"""Single events against loops; nothing after the prediction time gets in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from graphssl.data import Cohort, EventBatch, Events, EventTokenizer
from graphssl.errors import ConfigError, DataError


@pytest.mark.parametrize(("max_events", "hours"), [(256, None), (4, None), (256, 11.0)])
def test_events_are_those_of_a_loop(ward, max_events, hours):
    cohort = ward(planted=(("p1", 24 - 11.0, "pulse", 300.0, None), ("p1", 5.0, "ventilator", 7.0, None)))
    tokenizer = EventTokenizer(max_events=max_events, hours=hours, min_subjects=3).fit(cohort)
    batch = tokenizer.transform(cohort)
    assert tokenizer.codes_ == ("pulse", "temp", "ventilator")
    assert tokenizer.scores_.codes == ("pulse", "temp"), "one ventilator with a number makes no scale"
    table = cohort.events.table.dropna(subset="time")
    for row, subject in enumerate(cohort.ids):
        mine = table[table["subject_id"] == subject].iloc[::-1]
        since = [(cohort.prediction_times[subject] - time).total_seconds() / 3600 for time in mine["time"]]
        expected = [
            (code, value, h) for code, value, h in zip(mine["code"], mine["numeric_value"], since, strict=True) if hours is None or h <= hours
        ]
        expected = expected[:max_events]
        assert batch.present[row].sum() == len(expected)
        assert batch.present[row, : len(expected)].all()
        for place, (code, value, h) in enumerate(expected):
            assert tokenizer.codes_[batch.codes[row, place]] == code
            assert_close(float(batch.hours[row, place]), h, atol=1e-4, rtol=0.0)
            assert bool(batch.has_value[row, place]) == (code != "ventilator")
            if code != "ventilator":
                score = tokenizer.scores_.transform(np.array([tokenizer.scores_.codes.index(code)]), np.array([value]))[0]
                assert_close(float(batch.values[row, place]), float(score), atol=1e-4, rtol=0.0)
    empty = ~batch.present
    assert all(not getattr(batch, name)[empty].any() for name in ("codes", "values", "has_value", "hours"))


def test_the_future_does_not_enter(ward):
    at = pd.Series(pd.Timestamp("2020-01-01 17:00"), index=ward().ids)
    planted = tuple(("p3", hour, "pulse", 999.0, None) for hour in (17.0, 17.5, 20.0))
    first, second = (ward(planted=rows, predicted=False).predict_at(at) for rows in ((), planted))
    tokenizer = EventTokenizer(min_subjects=3).fit(first)
    assert tokenizer.transform(first).signature() == tokenizer.transform(second).signature()
    assert np.array_equal(EventTokenizer(min_subjects=3).fit(second).scores_.quantiles_, tokenizer.scores_.quantiles_)
    assert float(tokenizer.transform(first).hours[tokenizer.transform(first).present].min()) > 0


def test_codes_that_training_patients_had_not_are_left_out_and_counted(ward):
    cohort = ward()
    tokenizer = EventTokenizer(max_events=8, hours=24, min_subjects=3).fit(cohort)
    other = ward(planted=(("p4", 20.0, "new", 1.0, None), ("p4", 23.9, "new", 2.0, None)))
    assert tokenizer.transform(other).signature() == tokenizer.transform(cohort).signature()
    sizes = cohort.events.table.dropna(subset="time").groupby("subject_id", observed=True).size()
    crowded = int((sizes - 8).clip(lower=0).sum())
    assert tokenizer.count_left_out(other) == {"not of the vocabulary": 2, "older than the hours": 0, "beyond max_events": crowded}
    alone = tokenizer.transform(cohort.select(["p5"]))
    assert alone.signature() == tokenizer.transform(cohort)[[5]].signature()


def test_a_batch_cuts_off_what_is_empty_and_checks_itself(ward):
    batch = EventTokenizer(min_subjects=3).fit(ward()).transform(ward())
    assert repr(batch) == f"EventBatch(13 patients × {float(batch.present.sum()) / 13:.0f} events on average, {batch.codes.shape[1]} at most)"
    few = batch[[12, 1]]
    assert few.codes.shape == (2, 9), "nobody's row is empty, p1 has nine pulses"
    assert batch[[12]].codes.shape == (1, 0)
    assert batch[torch.zeros(13, dtype=torch.bool)].codes.shape == (0, 0)
    hidden = batch.hide(torch.ones_like(batch.present))
    assert hidden.hidden.equal(batch.has_value)
    assert not hidden.visible.any()
    assert replace(batch, hours=batch.hours + 1).signature() != batch.signature()
    with pytest.raises(DataError, match=r"Expected shapes \(13, .* for events of 13 patients, found {'codes'"):
        EventBatch(batch.static, batch.codes[:2], *(getattr(batch, name) for name in ("values", "has_value", "hours", "present")))


def test_a_long_vocabulary_is_described_in_short(ward):
    planted = tuple((f"p{k}", 20.0, f"drug {d:03d}", None, None) for k in range(3) for d in range(60))
    tokenizer = EventTokenizer(hours=6.0, min_subjects=3, columns=()).fit(ward(planted=planted))
    assert tokenizer.describe()["codes"].endswith("drug 049 and 11 more")
    assert tokenizer.describe()["time"] == "the latest 256 events of 6 h before the prediction time"


def test_codes_without_any_number(ward):
    tokenizer = EventTokenizer(codes=["vent*"], min_subjects=3).fit(ward())
    batch = tokenizer.transform(ward())
    assert tokenizer.scores_.codes == ()
    assert not batch.has_value.any()
    assert batch.present.sum() == 16


def test_what_makes_no_sense_is_refused(ward):
    with pytest.raises(ConfigError, match="Expected max_events ≥ 1, hours > 0 and min_subjects ≥ 1; found 0, None and 10"):
        EventTokenizer(max_events=0).fit(ward())
    with pytest.raises(DataError, match="a code of 500 patients or more, found none"):
        EventTokenizer(min_subjects=500).fit(ward())
    with pytest.raises(DataError, match="Expected events in 'bare', found none"):
        EventTokenizer().fit(Cohort("bare", ward().subjects, ward().schema))
    nobody = ward().select(["nobody"])
    nothing = replace(nobody, events=Events.of(ward().events.table.iloc[:0]))
    assert EventTokenizer(min_subjects=3).fit(ward()).transform(nothing).codes.shape == (1, 0)
