"""Bins of time against loops; nothing after the prediction time, and nothing of a later bin, gets in."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from graphssl.data import Cohort, Column, TimelineBatch, TimelineTokenizer
from graphssl.data.events import Events
from graphssl.datasets import load_physionet2012
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError

SETTINGS = {"n_bins": 6, "bin_hours": 2.5, "treatments": ["vent*"], "min_subjects": 3, "n_pieces": 4}


@pytest.mark.parametrize("statistic", ["last", "mean"])
def test_bins_are_those_of_a_loop(ward, statistic):
    cohort = ward(planted=tuple(("p1", hour, "pulse", 300.0, None) for hour in (24 - 2.5, 24 - 15.0, 24 - 15.1, 23.9)))
    tokenizer = TimelineTokenizer(statistic=statistic, **SETTINGS).fit(cohort)
    batch = tokenizer.transform(cohort)
    assert (tokenizer.codes_, tokenizer.treatments_) == (("pulse", "temp"), ("ventilator",))
    table = cohort.events.table.dropna(subset="time")
    for row, subject in enumerate(cohort.ids):
        mine = table[table["subject_id"] == subject]
        since = [(cohort.prediction_times[subject] - time).total_seconds() / 3600 for time in mine["time"]]
        places = [next((t for t in range(6) if (5 - t) * 2.5 < hours <= (6 - t) * 2.5), None) for hours in since]
        for t in range(6):
            for v, code in enumerate(tokenizer.codes_):
                values = [value for place, c, value in zip(places, mine["code"], mine["numeric_value"], strict=True) if place == t and c == code]
                assert bool(batch.measured[row, t, v]) == bool(values)
                if values:
                    value = np.array([values[-1] if statistic == "last" else np.mean(values)])
                    assert_close(float(batch.values[row, t, v]), float(tokenizer.scores_.transform(np.array([v]), value)[0]), atol=1e-4, rtol=0.0)
                else:
                    assert batch.values[row, t, v] == 0
            assert bool(batch.given[row, t, 0]) == any(p == t and c == "ventilator" for p, c in zip(places, mine["code"], strict=True))
        reached = [place for place in places if place is not None]
        assert batch.present[row].tolist() == [bool(reached) and t >= min(reached) for t in range(6)]


def test_the_future_does_not_enter(ward):
    at = pd.Series(pd.Timestamp("2020-01-01 17:00"), index=ward().ids)
    planted = tuple(("p3", hour, "pulse", 999.0, None) for hour in (17.0, 17.5, 20.0))
    first, second = (ward(planted=rows, predicted=False).predict_at(at) for rows in ((), planted))
    tokenizer = TimelineTokenizer(**SETTINGS).fit(first)
    assert tokenizer.transform(first).signature() == tokenizer.transform(second).signature()
    again = TimelineTokenizer(**SETTINGS).fit(second)
    assert np.array_equal(again.scores_.quantiles_, tokenizer.scores_.quantiles_)


def test_a_bin_holds_nothing_of_other_bins(ward):
    """No value is carried forward or drawn between two others: what is planted in one bin changes that bin alone."""
    cohort = ward()
    tokenizer = TimelineTokenizer(**SETTINGS).fit(cohort)
    before, after = tokenizer.transform(cohort), tokenizer.transform(ward(planted=(("p3", 24 - 6.0, "temp", 41.0, None),)))
    changed = (before.values != after.values).any(dim=2)
    assert changed.nonzero().tolist() == [[3, 3]]
    assert after.measured[3].sum() == before.measured[3].sum() + 1


def test_scales_and_codes_are_those_of_training_patients(ward):
    cohort = ward()
    tokenizer = TimelineTokenizer(**SETTINGS).fit(cohort)
    other = ward(
        planted=(
            ("p4", 20.0, "new", 1.0, None),
            ("p4", 21.0, "new", 2.0, None),
            ("p4", 22.0, "note", np.nan, "fine"),
            ("p4", 1.0, "pulse", 1.0, None),
        )
    )
    assert tokenizer.transform(other).values.equal(tokenizer.transform(cohort).values)
    old = int((cohort.events.table["time"].dropna() < pd.Timestamp("2020-01-01 09:00")).sum())
    assert tokenizer.count_left_out(cohort) == {"not of the vocabulary": 0, "older than the bins": old}
    assert tokenizer.count_left_out(other) == {"not of the vocabulary": 3, "older than the bins": old + 1}
    alone = tokenizer.transform(cohort.select(["p5"]))
    assert alone.signature() == tokenizer.transform(cohort)[[5]].signature()


def test_static_categories_that_training_patients_had_not_are_told(ward):
    tokenizer = TimelineTokenizer(**SETTINGS).fit(ward())
    sexes = pd.Series(["x", *ward().subjects["sex"][1:]], index=ward().ids)
    found = tokenizer.unknown(ward().with_column(Column("sex", "categorical"), sexes))
    assert found["sex"].sum() == found.to_numpy().sum() == 1


def test_a_treatment_of_dose_zero_was_not_given(ward):
    doses = tuple((f"p{k}", 20.0, "drip", float(k % 2), None) for k in range(12))
    cohort = ward(planted=doses)
    tokenizer = TimelineTokenizer(**{**SETTINGS, "treatments": ["drip"], "codes": ["p*"]}).fit(cohort)
    assert (tokenizer.codes_, tokenizer.treatments_) == (("pulse",), ("drip",))
    assert tokenizer.transform(cohort).given.any(dim=1).flatten().tolist() == [k % 2 == 1 for k in range(12)] + [False]


def test_what_is_named_in_full_is_read_however_rare(ward):
    settings = {**SETTINGS, "min_subjects": 8, "treatments": ["ventilator"]}
    assert TimelineTokenizer(**settings).fit(ward()).treatments_ == ("ventilator",)
    assert TimelineTokenizer(**{**settings, "treatments": ["vent*"]}).fit(ward()).treatments_ == ()
    assert TimelineTokenizer(**{**settings, "codes": ["temp", "p*"]}).fit(ward()).codes_ == ("pulse", "temp")


def test_without_prediction_times_bins_end_at_the_last_event(ward):
    cohort = ward(predicted=False)
    batch = TimelineTokenizer(**SETTINGS).fit(cohort).transform(cohort)
    read = torch.cat([batch.measured, batch.given], dim=2).any(dim=2)
    assert read[:12, -1].all()
    assert not batch.present[12].any()


def test_it_survives_json(ward):
    tokenizer = TimelineTokenizer(**SETTINGS).fit(ward())
    record, tensors = tokenizer.state()
    again = TimelineTokenizer.from_state(json.loads(json.dumps(record)), tensors)
    assert again.transform(ward()).signature() == tokenizer.transform(ward()).signature()
    assert again.layout() == tokenizer.layout()
    assert again.describe() == {
        "codes": "pulse, temp",
        "treatments": "ventilator",
        "time": "6 bins of 2.5 h before the prediction time",
        "static columns": "age, height, sex, smokes, ward",
    }
    with pytest.raises(CheckpointError, match="fitted state of a TimelineTokenizer, found a problem with 'quantiles'"):
        TimelineTokenizer.from_state(record, {})


def test_a_batch_hides_what_is_known_and_checks_itself(ward):
    batch = TimelineTokenizer(**SETTINGS).fit(ward()).transform(ward())
    assert repr(batch) == f"TimelineBatch(13 patients × 6 bins of 2 numbers, {float(batch.measured.float().mean()):.0%} measured, 1 treatments)"
    hidden = batch.hide(torch.ones(13, 6, 3, dtype=torch.bool)).hidden
    assert hidden[..., :2].equal(batch.measured)
    assert hidden[..., 2].equal(batch.present)
    assert not batch.hidden.any()
    rows = batch[torch.arange(13) % 2 == 0]
    assert rows.subject_ids == batch.subject_ids[::2]
    assert rows.to("cpu").signature() == rows.signature()
    moved = replace(batch, values=batch.values.roll(1, dims=1))
    assert moved.signature() != batch.signature(), "when something was measured counts"
    with pytest.raises(DataError, match="Expected shapes .* found {'present': \\(13, 5\\)}"):
        TimelineBatch(batch.static, batch.values, batch.measured, batch.given, batch.present[:, 1:])


def test_what_makes_no_sense_is_refused(ward):
    with pytest.raises(ConfigError, match="Expected n_bins ≥ 1, bin_hours > 0, a statistic among last, mean"):
        TimelineTokenizer(statistic="first").fit(ward())
    with pytest.raises(DataError, match="a code with numbers in 500 patients or more, found none"):
        TimelineTokenizer(min_subjects=500).fit(ward())
    with pytest.raises(SchemaError, match="Expected events of the treatment 'pressor', found none among 3 codes"):
        TimelineTokenizer(treatments=["pressor"]).fit(ward())
    with pytest.raises(DataError, match="Expected events in 'bare', found none"):
        TimelineTokenizer().fit(Cohort("bare", ward().subjects, ward().schema))
    nobody = ward().select(["nobody"])
    batch = TimelineTokenizer(**SETTINGS).fit(ward()).transform(replace(nobody, events=Events.of(ward().events.table.iloc[:0])))
    assert not batch.present.any()


@pytest.mark.shared_data
def test_bins_of_real_stays_hold_each_hour_and_variable_once(shared_data):
    """Of 4,000 stays in intensive care, against counts of the text-like table itself."""
    folder = shared_data / "ehr/icu_timeseries/p2012"
    cohort = load_physionet2012(folder, subsets=["a"])
    batch = TimelineTokenizer(treatments=["MechVent"], columns=["age"]).fit(cohort).transform(cohort)
    rows = pd.read_parquet(folder / "set-a.parquet").astype({"Time": "str", "Parameter": "str"})
    rows = rows[(rows["Value"] != -1) & (rows["Time"] < "48:00") & ~rows["Parameter"].isin(["RecordID", "Age", "Gender", "Height", "ICUType", ""])]
    cells = rows.assign(hour=rows["Time"].str[:2]).drop_duplicates(["RecordID", "hour", "Parameter"])
    n_of = cells["Parameter"].value_counts()
    assert int(batch.measured.sum()) == n_of.drop("MechVent").sum()
    assert int(batch.given.sum()) == n_of["MechVent"]
