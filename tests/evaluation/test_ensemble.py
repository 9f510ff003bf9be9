"""Methods that predict together."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from graphssl.errors import ConfigError
from graphssl.evaluation.ensemble import check_members, ensemble
from graphssl.results import Result

Y = {"s0": 0, "s1": 1, "s2": 1, "s3": 0}


def predictions(method, seed, positive, split="x", fraction=1.0):
    rows = pd.DataFrame({"subject_id": list(Y), "split": split, "seed": seed, "method": method, "label_fraction": fraction})
    return rows.assign(y_true=list(Y.values()), p_0=1 - np.array(positive), p_1=positive, task="t", protocol="k_fold")


def record(method, seed, seconds, split="x", fraction=1.0):
    return Result("c", "t", "k_fold", method, split, seed, fraction, "auroc", 0.5, 8, 4, seconds)


def test_the_mean_of_log_odds():
    one, other = np.array([0.1, 0.3, 0.9, 0.6]), np.array([0.2, 0.8, 0.7, 0.4])
    table = pd.concat([predictions("a", 0, one), predictions("b", 0, other).iloc[::-1]])
    records, rows = ensemble("both", ["a", "b"], [record("a", 0, 2.0), record("b", 0, 3.0)], table)
    odds = np.exp((np.log(one / (1 - one)) + np.log(other / (1 - other))) / 2)
    assert_allclose(rows["p_1"], odds / (1 + odds), rtol=1e-6)
    assert_allclose(rows["p_0"] + rows["p_1"], 1.0)
    scores = {found.metric: found for found in records}
    assert scores["auroc"].value == pytest.approx(roc_auc_score(list(Y.values()), odds))
    assert (scores["auroc"].method, scores["auroc"].seconds, scores["auroc"].n_train, scores["auroc"].n_test) == ("both", 5.0, 8, 4)


def test_what_was_fitted_once_stands_beside_every_seed():
    table = pd.concat([*(predictions("a", seed, [0.1, 0.6, 0.8, 0.2 + seed / 10]) for seed in (0, 1)), predictions("b", 0, [0.4, 0.5, 0.6, 0.7])])
    results = [record("a", 0, 1.0), record("a", 1, 1.0), record("b", 0, 1.0)]
    records, rows = ensemble("both", ["a", "b"], results, table)
    assert rows.groupby("seed").size().to_dict() == {0: 4, 1: 4}
    assert rows.loc[rows["seed"] == 1, "p_1"].iloc[3] > rows.loc[rows["seed"] == 0, "p_1"].iloc[3]
    assert {found.seed for found in records} == {0, 1}


def test_no_seed_stands_for_another_where_draws_differ():
    table = pd.concat(
        [*(predictions("a", seed, [0.1, 0.6, 0.8, 0.2]) for seed in (0, 1, 2)), *(predictions("b", s, [0.4, 0.5, 0.6, 0.7]) for s in (0, 1))]
    )
    results = [record(name, seed, 1.0) for name, seeds in (("a", (0, 1, 2)), ("b", (0, 1))) for seed in seeds]
    records, rows = ensemble("both", ["a", "b"], results, table)
    assert sorted(rows["seed"].unique()) == [0, 1]
    assert {found.seed for found in records} == {0, 1}


def test_three_classes_and_certain_members():
    shares = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    base = predictions("a", 0, shares[:, 1]).assign(y_true=[0, 1, 2, 0])
    tables = [base.assign(method=name, **{f"p_{k}": shares[:, k] for k in range(3)}) for name in ("a", "b")]
    _, rows = ensemble("both", ["a", "b"], [record("a", 0, 1.0), record("b", 0, 1.0)], pd.concat(tables))
    assert_allclose(rows[["p_0", "p_1", "p_2"]], shares, atol=1e-5)


@pytest.mark.parametrize(
    ("ensembles", "words"),
    [
        ({"both": ["a"]}, "Expected two or more of a, b in the ensemble 'both'"),
        ({"both": ["a", "c"]}, "Expected two or more of a, b in the ensemble 'both'"),
        ({"a": ["a", "b"]}, "Expected an ensemble with a name of its own, found 'a'"),
    ],
)
def test_what_is_no_ensemble_is_refused(ensembles, words):
    with pytest.raises(ConfigError, match=words):
        check_members(ensembles, ["a", "b"])
