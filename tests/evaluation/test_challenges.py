"""Scores of challenges in an evaluation: thresholds come from training subjects, and whole patients are set aside."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from graphssl.data import Cohort, Column, Schema
from graphssl.data.events import ORIGIN
from graphssl.errors import ConfigError, DataError
from graphssl.estimators import WITHHELD
from graphssl.evaluation import CHALLENGE_SCORES, evaluate
from graphssl.evaluation.challenges import challenge_scores
from graphssl.statistics import event1, event1_best_threshold, event1_threshold, event2, sepsis_utility

FITTED = []


class Risk(ClassifierMixin, BaseEstimator):
    """Predicts the column `risk`, shifted by the share of labelled subjects it was fitted on that are positive."""

    def fit(self, cohort, y, groups=None):
        known = y[y != WITHHELD]
        FITTED.append((cohort.ids, known))
        self.classes_ = np.unique(known)
        return self

    def predict_proba(self, cohort):
        p = cohort.subjects["risk"].to_numpy()
        return np.column_stack([1 - p, p])


@pytest.fixture(autouse=True)
def fresh():
    FITTED.clear()


def stays(n=120, seed=0):
    rng = np.random.default_rng(seed)
    died = rng.random(n) < 0.3
    ids = pd.Index([f"p{k:03d}" for k in range(n)], dtype="str")
    risk = np.clip(0.25 * died + 0.6 * rng.random(n), 0, 1)
    table = pd.DataFrame({"outcome": np.where(died, "died", "lived"), "risk": risk, "family": [f"f{k // 2}" for k in range(n)]}, index=ids)
    columns = [Column("outcome", "binary", "target"), Column("risk", "continuous"), Column("family", "categorical", "group")]
    return Cohort("stays", table, Schema(columns), {})


def hours(n_patients=20, seed=0):
    """A row an hour: every second patient becomes septic, the risk rises with it."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n_patients):
        n = int(rng.integers(8, 20))
        first = int(rng.integers(2, n)) if k % 2 else n
        rows += [(f"p{k:02d}", hour, "yes" if hour >= first else "no") for hour in range(n)]
    table = pd.DataFrame(rows, columns=["patient", "hour", "sepsis"])
    table.index = pd.Index([f"{p}_{h}" for p, h in zip(table["patient"], table["hour"], strict=True)], dtype="str")
    table["risk"] = np.clip(0.3 * (table["sepsis"] == "yes") + 0.6 * rng.random(len(table)), 0, 1)
    columns = [Column("sepsis", "binary", "target"), Column("risk", "continuous"), Column("patient", "categorical", "group")]
    cohort = Cohort("hours", table[["sepsis", "risk", "patient"]], Schema(columns), {})
    return cohort.predict_at(ORIGIN + pd.to_timedelta(table["hour"], unit="h")), table


def values(found, metric):
    return {result.split: result.value for result in found.results if result.metric == metric}


def test_thresholds_are_those_of_training_subjects():
    cohort = stays()
    names = ["physionet2012_event1", "physionet2012_event1_best_threshold", "physionet2012_event2"]
    found = evaluate(cohort, {"risk": Risk()}, protocol="k_fold", classes=["lived", "died"], n_splits=3, scores=names)
    families = cohort.subjects["family"]
    for k, split in enumerate(found.splits):
        _, (others, _) = FITTED[2 * k : 2 * k + 2]
        aside = [subject for subject in split.train if subject not in set(others)]
        assert set(others) < set(split.train), "no test subject"
        assert len(aside) == pytest.approx(len(split.train) / 5, abs=3)
        assert not set(families[others]) & set(families[aside])
        y, p = cohort.subjects["outcome"] == "died", cohort.subjects["risk"]
        threshold = event1_threshold(y[aside], p[aside])
        test = list(split.test)
        assert values(found, names[0])[split.name] == pytest.approx(event1(y[test], p[test], threshold))
        assert values(found, names[1])[split.name] == pytest.approx(event1_best_threshold(y[test], p[test]))
        assert values(found, names[2])[split.name] == pytest.approx(event2(y[test], p[test]))
        assert values(found, names[0])[split.name] <= values(found, names[1])[split.name]


def test_nothing_more_is_fitted_where_no_threshold_is_needed():
    evaluate(stays(), {"risk": Risk()}, protocol="k_fold", classes=["lived", "died"], n_splits=3, scores=["physionet2012_event2"])
    assert len(FITTED) == 3


def test_the_utility_is_that_of_whole_patients():
    cohort, table = hours()
    found = evaluate(cohort, {"risk": Risk()}, protocol="k_fold", n_splits=2, scores=["physionet2019_utility"])
    by_split = values(found, "physionet2019_utility")
    for k, split in enumerate(found.splits):
        test = table.loc[[s for s in table.index if s in set(split.test)]]
        y, p = (test["sepsis"] == "yes").to_numpy(), test["risk"].to_numpy()
        possible = {sepsis_utility(y, p, test["patient"], threshold) for threshold in [*np.linspace(0, 1, 2000), *p]}
        assert min(abs(by_split[split.name] - value) for value in possible) < 1e-9
        others = {table.loc[s, "patient"] for s in FITTED[2 * k + 1][0]}
        aside = {table.loc[s, "patient"] for s in split.train} - others
        assert aside
        assert not aside & set(test["patient"])
    assert all(value > 0 for value in by_split.values())


def test_the_order_of_rows_does_not_matter():
    cohort, _ = hours()
    turned = cohort.select(np.random.default_rng(0).permutation(cohort.ids).tolist())
    y = (cohort.subjects["sepsis"] == "yes").astype(int)
    score = CHALLENGE_SCORES["physionet2019_utility"].value
    one, other = (score(y[c.ids].to_numpy(), c.subjects["risk"].to_numpy(), c, 0.5) for c in (cohort, turned))
    assert one == pytest.approx(other)


def test_too_few_labels_for_a_threshold():
    cohort = stays(20)
    y = np.full(20, WITHHELD)
    y[:3] = [0, 1, 0]
    p = cohort.subjects["risk"].to_numpy()
    truth = (cohort.subjects["outcome"] == "died").to_numpy().astype(int)
    names = ["physionet2012_event1", "physionet2012_event1_best_threshold"]
    found = challenge_scores(names, Risk(), cohort, y, cohort, truth, p, seed=0)
    assert math.isnan(found[names[0]])
    assert 0 <= found[names[1]] <= 1


def test_a_method_that_needs_everybody_has_no_threshold():
    class Wants(Risk):
        def fit(self, cohort, y, groups=None):
            if len(cohort) < 120:
                raise DataError("Expected 120 subjects.")
            return super().fit(cohort, y, groups)

    cohort = stays(120)
    y = (cohort.subjects["outcome"] == "died").to_numpy().astype(int)
    found = challenge_scores(["physionet2012_event1"], Wants(), cohort, y, cohort, y, cohort.subjects["risk"].to_numpy(), seed=0)
    assert math.isnan(found["physionet2012_event1"])


def test_scores_that_do_not_fit():
    cohort = stays()
    options = {"protocol": "k_fold", "n_splits": 2}
    with pytest.raises(ConfigError, match="Expected scores among physionet2012_event1, .*; found 'event3'"):
        evaluate(cohort, {"risk": Risk()}, scores=["event3"], **options)
    three = cohort.with_column(Column("outcome", "categorical", "target"), pd.Series(["a", "b", "c"] * 40, index=cohort.subjects.index))
    with pytest.raises(ConfigError, match="Expected a task of two classes for physionet2012_event2, found 3"):
        evaluate(three, {"risk": Risk()}, scores=["physionet2012_event2"], **options)
    with pytest.raises(DataError, match="to have a row an hour, with prediction times and groups, for the utility; found none"):
        evaluate(cohort, {"risk": Risk()}, scores=["physionet2019_utility"], **options)
    gapped, _ = hours()
    with pytest.raises(DataError, match="Expected a row of 'hours' for every hour of a patient"):
        evaluate(gapped.select(gapped.ids[:3] + gapped.ids[4:]), {"risk": Risk()}, scores=["physionet2019_utility"], **options)
