"""Simulated stays: what was put in can be found, and nothing else."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from graphssl.data import EventSummary
from graphssl.data.events import ORIGIN
from graphssl.datasets import simulate_stays
from graphssl.datasets.simulate_stays import SIGNS, TREATMENTS
from graphssl.errors import ConfigError


def auroc_of(cohort, column):
    values = cohort.subjects[column]
    return roc_auc_score(cohort.target() == "yes", values.fillna(values.mean()))


def test_the_outcome_follows_from_the_signs_of_severity():
    cohort = EventSummary(statistics=("mean", "count")).apply(simulate_stays(600, n_hours=24))
    assert auroc_of(cohort, "heart rate mean") > 0.7
    assert auroc_of(cohort, "blood pressure mean") < 0.3
    assert auroc_of(cohort, "lactate count") > 0.55, "who is ill is measured more often"
    assert abs(auroc_of(cohort, "age") - 0.5) < 0.06
    chance = EventSummary(statistics=("mean",)).apply(simulate_stays(600, n_hours=24, effect=0.0))
    assert abs(auroc_of(chance, "heart rate mean") - 0.5) < 0.06


def test_events_lie_in_the_window_and_treatments_follow_severity():
    cohort = simulate_stays(200, n_hours=12, n_sites=3)
    events = cohort.events.table
    assert set(events["code"]) == {*SIGNS, *TREATMENTS, "planned admission"}
    timed = events.dropna(subset="time")
    assert timed["time"].between(ORIGIN, cohort.prediction_times.iloc[0], inclusive="left").all()
    assert set(events.loc[events["time"].isna(), "code"]) == {"planned admission"}
    pulses = timed[timed["code"] == "heart rate"].groupby("subject_id", observed=False)["numeric_value"].mean()
    treated = timed.loc[timed["code"] == "vasopressor", "subject_id"].unique()
    assert pulses[treated].mean() > pulses.drop(treated).mean() + 5
    assert cohort.sites.nunique() == 3
    assert (timed.groupby("subject_id", observed=True)["time"].min() >= ORIGIN).all()


def test_the_seed_decides():
    assert simulate_stays(20, seed=1).hash == simulate_stays(20, seed=1).hash
    assert simulate_stays(20, seed=1).hash != simulate_stays(20, seed=2).hash
    assert len(simulate_stays(1, n_hours=2)) == 1
    assert np.isfinite(simulate_stays(5).events.table["numeric_value"].dropna()).all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="Expected n_patients ≥ 1, n_hours ≥ 2 and n_sites ≥ 1; found 0, 48 and 2"):
        simulate_stays(0)
