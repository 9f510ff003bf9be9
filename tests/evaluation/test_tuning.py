"""Settings chosen on inner folds: against scikit-learn's grid search, and never on anything but training subjects."""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from graphssl.data import Cohort, Column
from graphssl.encoders import GraphTransformer
from graphssl.errors import ConfigError, DataError, LeakageError
from graphssl.estimators import WITHHELD, ConnectomeClassifier
from graphssl.evaluation import Tuned, evaluate, make_baseline
from graphssl.evaluation.tuning import inner_folds
from graphssl.statistics import brier
from graphssl.training import TrainingSettings

SEEN = defaultdict(list)
PENALTIES = {"classifier__model__C": [1e-4, 10.0]}


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers what it was given; its score rises with `skill` and turns around below zero."""

    def __init__(self, skill=0.0, seed=0):
        self.skill = skill
        self.seed = seed

    def fit(self, cohort, y, groups=None):
        SEEN["fit"].append({"ids": cohort.ids, "y": dict(zip(cohort.ids, y.tolist(), strict=True)), "skill": self.skill})
        self.classes_ = np.unique(y[y != WITHHELD])
        return self

    def predict_proba(self, cohort):
        SEEN["predict"].append(cohort.ids)
        ill = (cohort.subjects["sign"] == "b").to_numpy(dtype=float)
        noise = np.random.default_rng(len(cohort)).standard_normal(len(cohort))
        positive = 1 / (1 + np.exp(-self.skill * (ill - 0.5) - 0.5 * noise))
        return np.column_stack([1 - positive, positive])


@pytest.fixture(autouse=True)
def fresh_spies():
    SEEN.clear()


@pytest.fixture(scope="module")
def cohort(make_cohort):
    made = make_cohort(n_subjects=32, n_regions=8, n_sites=4, n_timepoints=40, effect=1.0)
    sign = pd.Series(np.where(made.subjects["diagnosis"] == "patient", "b", "a"), index=made.subjects.index, dtype="str")
    return made.with_column(Column("sign", "binary", "identifier", categories=("a", "b")), sign)


def labels_of(cohort):
    return (cohort.subjects["diagnosis"] == "patient").astype(int).to_numpy()


def with_families(cohort, names):
    return cohort.with_column(Column("family", "categorical", "group"), pd.Series(names, index=cohort.subjects.index, dtype="str"))


# The choice


def test_a_fold_is_cut_out_once_for_all_settings(cohort, monkeypatch):
    """What an estimator keeps of a cohort, such as its hash, then serves all settings."""
    cut, select = [], Cohort.select
    monkeypatch.setattr(Cohort, "select", lambda *arguments: cut.append(1) or select(*arguments))
    tuned = Tuned(Spy(), {"skill": [0.0, 1.0, 2.0, 3.0]}, n_inner=3).fit(cohort, labels_of(cohort))
    n_folds = tuned.candidates_["n_folds"].max()
    assert len(SEEN["fit"]) == 4 * n_folds + 1
    assert len(cut) == 2 * n_folds


@pytest.mark.parametrize("metric", ["auroc", "brier"])
def test_it_is_the_grid_search_of_scikit_learn_on_the_same_folds(cohort, metric):
    """Both choose among penalties of a support vector machine, on the folds that are given to the other."""
    y = labels_of(cohort)
    tuned = Tuned(make_baseline("svm_correlation"), PENALTIES, n_inner=2, metric=metric).fit(cohort, y)
    place = {subject: k for k, subject in enumerate(cohort.ids)}
    folds = [[[place[s] for s in side] for side in (fold.train, fold.test)] for fold in inner_folds(cohort, y, 2, "site")]
    scorer = "roc_auc" if metric == "auroc" else lambda model, X, y: -brier(y, model.predict_proba(X))
    peer = GridSearchCV(make_baseline("svm_correlation"), PENALTIES, scoring=scorer, cv=folds).fit(cohort, y)
    assert tuned.best_params_ == peer.best_params_
    sign = 1 if metric == "auroc" else -1
    assert_allclose(tuned.candidates_["score"], sign * peer.cv_results_["mean_test_score"], atol=1e-6)
    assert tuned.best_score_ == pytest.approx(sign * peer.best_score_, abs=1e-6)
    assert_allclose(tuned.predict_proba(cohort), peer.predict_proba(cohort), atol=1e-6)
    assert_array_equal(tuned.predict(cohort), peer.predict(cohort))


def test_the_best_is_chosen_and_the_first_among_equals(cohort):
    tuned = Tuned(Spy(), {"skill": [0.0, 8.0, -8.0]}).fit(cohort, labels_of(cohort))
    assert tuned.best_params_ == {"skill": 8.0}
    assert tuned.best_estimator_.skill == 8.0
    assert tuned.candidates_.columns.tolist() == ["skill", "score", "n_folds"]
    assert tuned.candidates_["n_folds"].tolist() == [3, 3, 3]
    same = Tuned(Spy(8.0), {"seed": [5, 3, 4]}).fit(cohort, labels_of(cohort))
    assert same.best_params_ == {"seed": 5}


def test_every_combination_is_tried(cohort):
    tuned = Tuned(Spy(), {"skill": [0.0, 1.0], "seed": [0, 1, 2]}, n_inner=2).fit(cohort, labels_of(cohort))
    assert len(tuned.candidates_) == 6
    assert len(SEEN["fit"]) == 2 * 6 + 1


def test_one_combination_needs_no_inner_fold(cohort):
    tuned = Tuned(Spy(), {"skill": [3.0]}).fit(cohort, labels_of(cohort))
    assert len(SEEN["fit"]) == 1
    assert np.isnan(tuned.best_score_)
    assert tuned.best_estimator_.skill == 3.0


def test_too_few_labels_take_the_first_settings(cohort):
    """One subject of each class at two sites: no fold can train on both classes and test on others."""
    y = np.full(32, WITHHELD)
    y[[0, 4]] = [1, 0]
    tuned = Tuned(Spy(), {"skill": [2.0, 8.0]}).fit(cohort, y)
    assert tuned.best_params_ == {"skill": 2.0}
    assert tuned.candidates_["n_folds"].tolist() == [0, 0]


def test_the_estimator_itself_is_not_changed(cohort):
    spy = Spy()
    Tuned(spy, {"skill": [1.0, 2.0]}).fit(cohort, labels_of(cohort))
    assert spy.skill == 0.0


# What the folds hold


def test_inner_folds_hold_out_whole_sites(cohort):
    folds = inner_folds(cohort, labels_of(cohort), 4, "site")
    assert len(folds) == 4
    for fold in folds:
        assert not set(cohort.sites[list(fold.train)]) & set(cohort.sites[list(fold.test)])
    assert sorted(s for fold in folds for s in fold.test) == sorted(cohort.ids)


def test_only_training_subjects_of_a_protocol_are_seen(cohort):
    """For every outer split, inner fits and inner tests stay within its training side."""
    found = evaluate(cohort, {"tuned": Tuned(Spy(), {"skill": [0.0, 8.0]}, n_inner=2)})
    for k, split in enumerate(found.splits):
        fits, predictions = SEEN["fit"][5 * k : 5 * k + 5], SEEN["predict"][5 * k : 5 * k + 5]
        for seen in fits:
            assert set(seen["ids"]) <= set(split.train)
        for tested in predictions[:-1]:
            assert set(tested) < set(split.train)
        assert set(predictions[-1]) == set(split.test)
        assert set(fits[-1]["ids"]) == set(split.train)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=32, max_size=32), st.integers(2, 5), st.integers(0, 3))
def test_no_inner_fold_cuts_a_family(cohort, families, n_folds, seed):
    planted = with_families(cohort, [f"f{k}" for k in families])
    for fold in inner_folds(planted, labels_of(planted), n_folds, "subject", seed=seed):
        assert not set(planted.groups[list(fold.train)]) & set(planted.groups[list(fold.test)])


def test_a_family_at_two_sites_is_refused(cohort):
    names = [f"f{k}" for k in range(32)]
    names[0] = names[1] = "same"
    with pytest.raises(LeakageError, match=r"family or repeated scans on one side of split 'inner-\d'"):
        inner_folds(with_families(cohort, names), labels_of(cohort), 4, "site")


def test_withheld_subjects_train_along_but_not_of_the_held_out_site(cohort):
    y = np.where(np.arange(32) % 16 < 8, labels_of(cohort), WITHHELD)
    for fold in inner_folds(cohort, y, 4, "site"):
        held = cohort.sites[list(fold.test)].unique()
        assert set(fold.test) == {s for s, label in zip(cohort.ids, y, strict=True) if label != WITHHELD and cohort.sites[s] in held}
        assert set(fold.train) == {s for s in cohort.ids if cohort.sites[s] not in held}
    Tuned(Spy(), {"skill": [0.0, 8.0]}).fit(cohort, y)
    assert any(WITHHELD in seen["y"].values() for seen in SEEN["fit"][:-1])


def test_folds_are_as_many_as_sites_and_rare_subjects_allow(cohort):
    y = labels_of(cohort)
    assert len(inner_folds(cohort, y, 9, "site")) == 4
    few = np.where((y == 1) & (np.arange(32) > 8), WITHHELD, y)
    assert len(inner_folds(cohort, few, 9, "subject")) == (few == 1).sum()
    assert inner_folds(cohort, np.full(32, WITHHELD), 3, "subject") == []


# Ours, and what is written down


def test_settings_of_ours_reach_inside(cohort):
    quick = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")
    ours = ConnectomeClassifier(encoder=GraphTransformer(16, 1, 2), mode="full", finetuning=quick)
    grid = {"encoder__width": [16, 8], "mode": ["probe"], "finetuning__learning_rate": [1e-2]}
    tuned = Tuned(ours, grid, n_inner=2).fit(cohort, labels_of(cohort))
    assert len(tuned.candidates_) == 2
    best = tuned.best_estimator_
    assert (best.encoder.width, best.mode, best.finetuning.learning_rate) == (tuned.best_params_["encoder__width"], "probe", 1e-2)
    assert tuned.predict_proba(cohort).shape == (32, 2)


@pytest.mark.parametrize(("name", "step"), [("logistic_table", "logisticregression"), ("boosting_table", "histgradientboostingclassifier")])
def test_whether_classes_count_alike_is_a_setting_like_others(cohort, name, step):
    y = (np.arange(32) % 8 == 0).astype(int)
    tuned = Tuned(make_baseline(name), {f"classifier__{step}__class_weight": [None]}).fit(cohort, y)
    assert_array_equal(tuned.predict_proba(cohort), make_baseline(name, class_weight=None).fit(cohort, y).predict_proba(cohort))
    both = Tuned(make_baseline(name), {f"classifier__{step}__class_weight": [None, "balanced"]}, n_inner=2, inner="subject").fit(cohort, y)
    assert both.candidates_[f"classifier__{step}__class_weight"].fillna("none").tolist() == ["none", "balanced"]


def test_choices_are_kept_beside_the_results(cohort, tmp_path):
    methods = {"spy_tuned": Tuned(Spy(), {"skill": [0.0, 8.0]}), "majority": make_baseline("majority")}
    first = evaluate(cohort, methods, folder=tmp_path, label_fractions=(0.1, 1.0))
    assert first.choices.columns.tolist() == ["method", "split", "seed", "label_fraction", "parameter", "value", "inner_score"]
    assert len(first.choices) == 4 * 2
    assert set(first.choices["parameter"]) == {"skill"}
    assert set(first.choices["value"]) == {"0.0", "8.0"}
    everything = first.choices[first.choices["label_fraction"] == 1.0]
    assert everything["inner_score"].between(0, 1).all()
    pd.testing.assert_frame_equal(evaluate(cohort, methods, folder=tmp_path, label_fractions=(0.1, 1.0)).choices, first.choices)


def test_a_grid_that_differs_is_another_run(cohort, tmp_path):
    for n, grid in enumerate(({"skill": [1.0]}, {"skill": [2.0]}, {"skill": [2.0], "seed": [0]}), start=1):
        for _ in range(2):
            evaluate(cohort, {"tuned": Tuned(Spy(), grid)}, folder=tmp_path)
        assert len(list(tmp_path.iterdir())) == 4 * n


def test_seeds_reach_the_estimator_inside(cohort):
    found = evaluate(cohort, {"tuned": Tuned(Spy(8.0), {"skill": [8.0, 0.0]}, n_inner=2)}, seeds=(3, 4))
    assert sorted({result.seed for result in found.results}) == [3, 4]


# Errors


@pytest.mark.parametrize("grid", [{}, {"skill": []}])
def test_nothing_to_choose_from(cohort, grid):
    with pytest.raises(ConfigError, match="at least one value of at least one parameter to choose from"):
        Tuned(Spy(), grid).fit(cohort, labels_of(cohort))


def test_unknown_parameter(cohort):
    with pytest.raises(ConfigError, match="Expected parameters of Spy to choose, found others: Invalid parameter 'will'"):
        Tuned(Spy(), {"will": [1, 2]}).fit(cohort, labels_of(cohort))


def test_unknown_unit(cohort):
    with pytest.raises(ConfigError, match="a 'site' or a 'subject', found 'country'"):
        inner_folds(cohort, labels_of(cohort), 3, "country")


def test_sites_are_needed_to_hold_them_out(cohort):
    schema = type(cohort.schema)([column for column in cohort.schema if column.name != "site"])
    placeless = Cohort(cohort.name, cohort.subjects.drop(columns="site"), schema, cohort.regions)
    with pytest.raises(DataError, match="role 'site' for inner folds, found none. Use inner='subject'"):
        Tuned(Spy(), {"skill": [0.0, 1.0]}).fit(placeless, labels_of(cohort))


def test_nothing_is_predicted_before_fit(cohort):
    with pytest.raises(NotFittedError):
        Tuned(Spy(), {"skill": [0.0]}).predict_proba(cohort)
