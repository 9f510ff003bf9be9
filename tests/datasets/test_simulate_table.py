"""Simulated tables: what was planted is in them, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from graphssl.datasets import simulate_table
from graphssl.errors import DataError


def test_a_table_and_its_truth():
    made = simulate_table(n_subjects=50, columns=10, n_factors=3, sites=2, seed=1)
    cohort, truth = made.cohort, made.truth
    assert [cohort.schema[name].kind for name in ("lab00", "lab04", "died", "site")] == ["continuous", "categorical", "binary", "categorical"]
    assert cohort.schema.named("feature") == [f"lab{k:02d}" for k in range(10)]
    assert (cohort.schema["lab01"].unit, cohort.schema["lab04"].unit) == ("mmol/L", None)
    assert cohort.sites.value_counts().tolist() == [25, 25]
    assert truth.factors.columns.tolist() == ["severity", "factor1", "factor2"]
    assert truth.columns.loc["lab07", "factor"] == "factor1"
    assert repr(truth) == "TableTruth(10 columns of 3 factors, 50 patients)"
    assert "site" not in simulate_table(n_subjects=5).cohort.schema


def test_columns_follow_their_factor_as_told():
    made = simulate_table(n_subjects=20000, columns=8, loading=0.6, share_missing=0.0)
    for name, row in made.truth.columns.iterrows():
        values = made.cohort.subjects[name].replace({"low": -1, "middle": 0, "high": 1}).astype(float)
        ranks = [pd.Series(made.truth.factors[factor]).corr(values, method="spearman") for factor in made.truth.factors]
        own = list(made.truth.factors).index(row["factor"])
        # The rank correlation of normal variables, which cuts weaken.
        expected = 6 / np.pi * np.arcsin(row["loading"] / 2)
        assert ranks[own] == pytest.approx(expected, abs=0.02 if row["kind"] == "continuous" else 0.1)
        assert np.delete(ranks, own) == pytest.approx(0.0, abs=0.03)


def test_the_outcome_and_what_is_measured_follow_severity():
    made = simulate_table(n_subjects=20000, columns=2, effect=2.0, share_dead=0.3, share_missing=0.4)
    died = made.cohort.subjects["died"] == "yes"
    sick = made.truth.factors["severity"] > 0
    assert died.mean() == pytest.approx(made.truth.probability.mean(), abs=0.01)
    assert died[sick].mean() > died[~sick].mean() + 0.3
    assert made.cohort.subjects["lab00"].isna()[sick].mean() < made.cohort.subjects["lab00"].isna()[~sick].mean() - 0.2
    nothing = simulate_table(n_subjects=20000, columns=2, effect=0.0)
    assert nothing.truth.probability.to_numpy() == pytest.approx(0.3)


def test_columns_of_one_world_mean_the_same_whoever_is_measured_with_what():
    whole, part = simulate_table(n_subjects=30, columns=12, seed=3), simulate_table(n_subjects=30, columns=[7, 2], seed=3)
    pd.testing.assert_frame_equal(part.cohort.subjects[["lab07", "lab02"]], whole.cohort.subjects[["lab07", "lab02"]])
    pd.testing.assert_frame_equal(simulate_table(columns=[7, 2], seed=9).truth.columns, whole.truth.columns.loc[["lab07", "lab02"]])
    assert simulate_table(n_subjects=30, columns=12, seed=3).cohort.hash == whole.cohort.hash
    assert simulate_table(columns=[7], world=1).truth.columns.loc["lab07", "loading"] != whole.truth.columns.loc["lab07", "loading"]


def test_what_makes_no_sense_is_refused():
    for arguments, what in [
        ({"n_subjects": 2, "sites": 3}, "one patient a site"),
        ({"columns": [1, 1]}, "different columns"),
        ({"n_factors": 0}, "one factor"),
        ({"loading": 0.9}, "loading in"),
        ({"share_dead": 0.0}, "share_dead in"),
        ({"share_missing": 1.0}, "share_missing in"),
    ]:
        with pytest.raises(DataError, match=what):
            simulate_table(**arguments)
