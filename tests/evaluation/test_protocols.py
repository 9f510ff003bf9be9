"""Protocols: one set of splits and labels for all, no label where it must not be, and runs that go on where they stopped."""

import math
import re
from collections import defaultdict
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from graphssl.data import Cohort, Column
from graphssl.data.splits import Split, label_fraction
from graphssl.encoders import GraphTransformer
from graphssl.errors import ConfigError, DataError, LeakageError
from graphssl.estimators import WITHHELD, ConnectomeClassifier
from graphssl.evaluation import evaluate, make_baseline
from graphssl.evaluation.baselines import LabelledOnly, RidgeProbability, SharedConnectivity
from graphssl.evaluation.fit_and_score import fit_and_score
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.protocols import SHUFFLED
from graphssl.evaluation.task import make_task
from graphssl.objectives import MaskedRegions
from graphssl.results import FIELDS, Result, read_results, write_results
from graphssl.statistics import METRICS, scored_splits
from graphssl.training import TrainingSettings

# What spies saw, by name; a clone shares the module, so nothing is lost.
SEEN = defaultdict(list)
# Spies of these names raise when they are fitted for the n-th time.
STOP = {}


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers what it was given and predicts from the data: the mean of the first series decides."""

    def __init__(self, name="spy", seed=0):
        self.name = name
        self.seed = seed

    def fit(self, cohort, y, groups=None):
        SEEN[self.name].append({"seed": self.seed, "ids": cohort.ids, "y": np.array(y), "groups": np.array(groups), "cohort": cohort})
        if len(SEEN[self.name]) == STOP.get(self.name):
            raise RuntimeError("the power went off")
        self.classes_ = np.unique(y[y != WITHHELD])
        self.offset_ = float(np.sum(y)) + self.seed
        return self

    def predict_proba(self, cohort):
        SEEN[self.name][-1] |= {"tested": cohort.ids, "test_cohort": cohort}
        data = next(iter(cohort.regions.values()))
        score = np.asarray([np.tanh(data.values[subject][:, 0].mean() + 0.01 * self.offset_) for subject in cohort.ids], dtype=float)
        positive = 0.5 + 0.4 * score
        rest = (1 - positive) / (len(self.classes_) - 1)
        return np.column_stack([*[rest] * (len(self.classes_) - 1), positive])


class Plain(Spy):
    """A spy without a seed: nothing about it is random."""

    def __init__(self, name="plain"):
        self.name = name
        self.seed = 0


@pytest.fixture(autouse=True)
def fresh_spies():
    SEEN.clear()
    STOP.clear()


def with_column(cohort, name, kind, role, values):
    return cohort.with_column(Column(name, kind, role), pd.Series(values, index=cohort.subjects.index, dtype="str"))


def with_labels(cohort, labels):
    classes = tuple(sorted({label for label in labels if label is not None}))
    column = Column("diagnosis", "categorical", "target", categories=classes)
    return cohort.with_column(column, pd.Series(labels, index=cohort.subjects.index, dtype="str"))


def without_seconds(results):
    return [replace(result, seconds=0.0) for result in results]


def same_results(one, other):
    """Whether two lists of records are equal but for the time; NaN equals NaN."""
    frames = [pd.DataFrame([vars(result) for result in results]).drop(columns="seconds") for results in (one, other)]
    pd.testing.assert_frame_equal(*frames)


# What every method is given


def test_every_method_meets_the_same_splits_and_labels(cohort):
    found = evaluate(cohort, {"one": Spy("one"), "two": Spy("two")}, seeds=(0, 1), label_fractions=(0.5, 1.0))
    assert len(SEEN["one"]) == len(SEEN["two"]) == 3 * 2 * 2
    for one, two in zip(SEEN["one"], SEEN["two"], strict=True):
        assert (one["ids"], one["tested"], one["seed"]) == (two["ids"], two["tested"], two["seed"])
        assert (one["y"] == two["y"]).all()
    splits = {(split.train, split.test) for split in found.splits}
    assert {(tuple(seen["ids"]), tuple(seen["tested"])) for seen in SEEN["one"]} == splits


@pytest.mark.parametrize("protocol", ["leave_one_site_out", "k_fold"])
def test_nobody_is_trained_and_tested(cohort, protocol):
    found = evaluate(cohort, {"spy": Spy()}, protocol=protocol, n_splits=3)
    for seen in SEEN["spy"]:
        assert not set(seen["ids"]) & set(seen["tested"])
        assert set(seen["ids"]) | set(seen["tested"]) == set(cohort.ids)
    tested = [subject for split in found.splits for subject in split.test]
    assert sorted(tested) == sorted(cohort.ids), "each subject is tested once"


def test_no_label_but_those_of_the_draw_reaches_a_method(cohort):
    """Neither as y nor in the table: withheld ones are -1, and the tables of both sides have an empty target."""
    truth = make_task(cohort, None, None, "k_fold").labels
    evaluate(cohort, {"spy": Spy()}, label_fractions=(0.25, 1.0))
    for seen in SEEN["spy"]:
        for subject, label in zip(seen["ids"], seen["y"], strict=True):
            assert label in (truth[subject], WITHHELD)
        assert seen["cohort"].subjects["diagnosis"].isna().all()
        assert seen["test_cohort"].subjects["diagnosis"].isna().all()
        assert seen["cohort"].subjects["age"].notna().all()


def test_label_fractions_are_nested_stratified_and_those_of_the_draw(cohort):
    evaluate(cohort, {"spy": Spy()}, seeds=(5,), label_fractions=(0.25, 0.5, 1.0))
    task = make_task(cohort, None, None, "k_fold")
    per_site = [SEEN["spy"][k : k + 3] for k in (0, 3, 6)]
    for visits in per_site:
        kept = [{subject for subject, label in zip(seen["ids"], seen["y"], strict=True) if label != WITHHELD} for seen in visits]
        assert kept[0] < kept[1] < kept[2] == set(visits[0]["ids"])
        assert [np.bincount(seen["y"][seen["y"] != WITHHELD]).tolist() for seen in visits] == [[2, 2], [4, 4], [8, 8]]
        ids = visits[0]["ids"]
        assert kept[0] == set(label_fraction(ids, [task.labels[s] for s in ids], 0.25, seed=5))


def test_n_train_counts_labels(cohort):
    found = evaluate(cohort, {"spy": Spy()}, label_fractions=(0.25, 1.0))
    assert {(r.label_fraction, r.n_train, r.n_test) for r in found.results} == {(0.25, 4, 8), (1.0, 16, 8)}


def test_leave_one_site_out_is_named_for_the_site(cohort):
    found = evaluate(cohort, {"spy": Spy()})
    assert [split.name for split in found.splits] == ["site-0", "site-1", "site-2"]
    for split in found.splits:
        assert set(cohort.sites[list(split.test)]) == {split.name}
        assert split.name not in set(cohort.sites[list(split.train)])
    assert {result.split for result in found.results} == {"site-0", "site-1", "site-2"}


def test_k_fold_is_stratified_by_class_and_site(cohort):
    found = evaluate(cohort, {"spy": Spy()}, protocol="k_fold", n_splits=4)
    for split in found.splits:
        tested = cohort.subjects.loc[list(split.test)]
        assert tested["diagnosis"].value_counts().to_dict() == {"control": 3, "patient": 3}
        assert tested["site"].value_counts().to_dict() == {"site-0": 2, "site-1": 2, "site-2": 2}


def test_k_fold_of_small_sites_is_stratified_by_class_alone(cohort):
    found = evaluate(cohort, {"spy": Spy()}, protocol="k_fold", n_splits=6)
    for split in found.splits:
        assert cohort.subjects.loc[list(split.test), "diagnosis"].value_counts().to_dict() == {"control": 2, "patient": 2}


def test_k_fold_needs_no_site(cohort):
    schema = type(cohort.schema)([column for column in cohort.schema if column.name != "site"])
    placeless = Cohort(cohort.name, cohort.subjects.drop(columns="site"), schema, cohort.regions)
    assert len(evaluate(placeless, {"spy": Spy()}, protocol="k_fold", n_splits=2).splits) == 2
    with pytest.raises(DataError, match=r"column with the role 'site', found none\. Use k-fold"):
        evaluate(placeless, {"spy": Spy()})


def test_groups_reach_fit(cohort):
    families = with_column(cohort, "family", "categorical", "group", [f"f{k // 6}-{k % 3}" for k in range(24)])
    evaluate(families, {"spy": Spy()})
    for seen in SEEN["spy"]:
        assert seen["groups"].tolist() == families.groups[seen["ids"]].tolist()


# Leaks


def test_a_family_at_two_sites_is_refused_by_name(cohort):
    families = [f"f{k}" for k in range(24)]
    families[4], families[5] = "same", "same"
    planted = with_column(cohort, "family", "categorical", "group", families)
    with pytest.raises(LeakageError, match=r"'sub-004', 'sub-005'|'sub-005', 'sub-004'"):
        evaluate(planted, {"spy": Spy()})
    assert not SEEN, "nothing was fitted"


def test_a_family_stays_on_one_side_of_a_fold(cohort):
    planted = with_column(cohort, "family", "categorical", "group", [f"f{k // 2}" for k in range(24)])
    for split in evaluate(planted, {"spy": Spy()}, protocol="k_fold", n_splits=3).splits:
        assert not set(planted.groups[list(split.train)]) & set(planted.groups[list(split.test)])


def test_a_family_linked_through_somebody_without_a_label_is_refused(cohort):
    """Subject 0 (site 0) and 1 (site 1) share nobody but subject 2, whose label is unknown."""
    mothers, fathers = [f"m{k}" for k in range(24)], [f"f{k}" for k in range(24)]
    mothers[0] = mothers[2] = "mother"
    fathers[1] = fathers[2] = "father"
    planted = with_column(with_column(cohort, "mother", "categorical", "group", mothers), "father", "categorical", "group", fathers)
    labels = planted.subjects["diagnosis"].tolist()
    labels[2] = None
    with pytest.raises(LeakageError, match="'sub-000'"):
        evaluate(with_labels(planted, labels), {"spy": Spy()})


def test_a_subject_planted_on_both_sides_is_refused():
    with pytest.raises(LeakageError, match=r"on both sides of split 'site-0', found 'sub-001'"):
        Split("site-0", ("sub-000", "sub-001"), ("sub-001", "sub-002"))


# Labels that are missing


def test_unlabelled_subjects_join_training_but_not_of_the_held_out_site(cohort):
    labels = cohort.subjects["diagnosis"].tolist()
    for position in (0, 1, 2):  # one a site
        labels[position] = None
    found = evaluate(with_labels(cohort, labels), {"spy": Spy()})
    for seen, split in zip(SEEN["spy"], found.splits, strict=True):
        own = cohort.ids[int(split.name.removeprefix("site-"))]
        others = set(cohort.ids[:3]) - {own}
        assert others < set(seen["ids"])
        assert own not in seen["ids"]
        assert not set(cohort.ids[:3]) & set(seen["tested"]), "who has no label is never scored"
        assert {label for subject, label in zip(seen["ids"], seen["y"], strict=True) if subject in others} == {WITHHELD}
    assert {result.n_train for result in found.results} == {14}


def test_unlabelled_relatives_of_test_subjects_do_not_train(cohort):
    labels = cohort.subjects["diagnosis"].tolist()
    labels[0] = None
    families = [f"f{k}" for k in range(24)]
    families[0] = families[1] = "same"
    planted = with_column(with_labels(cohort, labels), "family", "categorical", "group", families)
    for protocol in ("leave_one_site_out", "k_fold"):
        for split in evaluate(planted, {"spy": Spy()}, protocol=protocol, n_splits=3).splits:
            assert ("sub-000" in split.train) == ("sub-001" in split.train and not (protocol == "leave_one_site_out" and split.name == "site-0"))


# What cannot be evaluated


def test_one_site(cohort):
    with pytest.raises(DataError, match=r"at least two sites to leave one out, found \['site-0'\]"):
        evaluate(cohort.select((cohort.sites == "site-0").to_numpy()), {"spy": Spy()})


def test_a_site_with_one_subject(cohort):
    few = cohort.select([*cohort.ids[::3], *cohort.ids[1::3], cohort.ids[2]])
    with pytest.raises(DataError, match=r"at least 2 subjects in every site, found \{'site-2': 1\}"):
        evaluate(few, {"spy": Spy()})


def test_one_class(cohort):
    with pytest.raises(DataError, match=r"at least two classes in 'diagnosis' of 'toy', found \['patient'\]"):
        evaluate(cohort.select((cohort.subjects["diagnosis"] == "patient").to_numpy()), {"spy": Spy()})


def test_a_class_of_one_site_only(cohort):
    """With that site held out there is nothing to learn from; the message comes before any fit."""
    labels = ["patient" if site == "site-1" and k % 2 else "control" for k, site in enumerate(cohort.sites)]
    with pytest.raises(DataError, match=r"two classes among the training subjects of split 'site-1', found only 'control'"):
        evaluate(with_labels(cohort, labels), {"spy": Spy()})
    assert not SEEN


def test_a_class_that_was_not_named(cohort):
    with pytest.raises(DataError, match=r"hold the classes \['patient', 'healthy'\], found \['control'\] too"):
        evaluate(cohort, {"spy": Spy()}, classes=["patient", "healthy"])


@pytest.mark.parametrize(("changes", "missing"), [({"methods": {}}, "method"), ({"seeds": ()}, "seed"), ({"label_fractions": ()}, "label fraction")])
def test_nothing_to_evaluate(cohort, changes, missing):
    with pytest.raises(ConfigError, match=f"at least one {missing} to evaluate, found none"):
        evaluate(cohort, **{"methods": {"spy": Spy()}, **changes})


def test_audited_methods_are_among_the_methods(cohort):
    with pytest.raises(ConfigError, match=r"audited methods among spy; found \['ridge'\]"):
        evaluate(cohort, {"spy": Spy()}, audited=["ridge"])


# Numbers


def test_scores_are_those_of_the_predictions(cohort):
    found = evaluate(cohort, {"spy": Spy()})
    assert {result.metric for result in found.results} == set(METRICS)
    for result in found.results:
        rows = found.predictions[found.predictions["split"] == result.split]
        assert result.value == pytest.approx(METRICS[result.metric](rows["y_true"].to_numpy(), rows["p_1"].to_numpy()), nan_ok=True)
        if result.metric == "auroc":
            assert result.value == pytest.approx(roc_auc_score(rows["y_true"], rows["p_1"]))


def test_records_have_the_fields_of_results(cohort, tmp_path):
    found = evaluate(cohort, {"spy": Spy()}, seeds=(0, 3), label_fractions=(0.5, 1.0), audited=["spy"])
    assert all(isinstance(result, Result) for result in found.results)
    write_results(tmp_path / "results.jsonl", found.results)
    table = read_results(tmp_path / "results.jsonl")
    assert tuple(table.columns) == FIELDS
    assert len(table) == len(METRICS) * 3 * (2 * 2 + 1)
    first = table.iloc[0]
    assert (first.cohort, first.task, first.protocol) == ("toy", "diagnosis", "leave_one_site_out")
    assert (table["seconds"] >= 0).all()


def test_predictions_have_the_columns_that_statistics_read(cohort):
    found = evaluate(cohort, {"one": Spy("one"), "plain": Plain()}, seeds=(0, 1), label_fractions=(0.5, 1.0), audited=["one"])
    assert not found.predictions["method"].str.contains("shuffled").any()
    for method, seeds in (("one", 2), ("plain", 1)):
        splits = scored_splits(found.predictions, method, label_fraction=1.0)
        assert sorted(splits) == ["site-0", "site-1", "site-2"]
        for name, scored in splits.items():
            assert scored.p.shape == (seeds, 8)
            assert set(scored.subjects) == set(cohort.ids[int(name[-1]) :: 3])
    assert_allclose(found.predictions[["p_0", "p_1"]].sum(axis=1), 1.0)
    truth = make_task(cohort, None, None, "").labels
    assert (found.predictions["y_true"] == found.predictions["subject_id"].map(truth)).all()
    assert found.predictions["seed"].dtype == np.int64
    assert set(found.predictions["task"]) == {"diagnosis"}


def test_the_positive_class_is_the_last_one_named(cohort):
    one = evaluate(cohort, {"spy": Spy()}, classes=["control", "patient"])
    other = evaluate(cohort, {"spy": Spy()}, classes=["patient", "control"])
    for a, b in zip(one.predictions.itertuples(), other.predictions.itertuples(), strict=True):
        assert (a.subject_id, a.y_true) == (b.subject_id, 1 - b.y_true)


def test_three_classes(cohort):
    labels = [("a", "b", "c")[(k // 3) % 3] for k in range(24)]
    found = evaluate(with_labels(cohort, labels), {"spy": Spy()})
    assert {"p_0", "p_1", "p_2"} < set(found.predictions.columns)
    assert scored_splits(found.predictions, "spy")["site-0"].p.shape == (1, 8, 3)


def test_a_class_that_no_training_subject_has_gets_probability_zero(cohort):
    """Class `b` is known at site 1 only; with that site held out nobody can have learned of it, and columns keep their meaning."""
    labels = [("a", "c")[(k // 3) % 2] for k in range(24)]
    labels[1] = labels[4] = "b"
    found = evaluate(with_labels(cohort, labels), {"spy": Spy(), "majority": make_baseline("majority")})
    rows = found.predictions[found.predictions["split"] == "site-1"]
    assert (rows["p_1"] == 0).all()
    assert (rows["p_2"] > 0).all()
    assert_allclose(rows[["p_0", "p_1", "p_2"]].sum(axis=1), 1.0)


def test_a_test_set_of_one_class_has_no_auroc(cohort):
    labels = ["control" if site == "site-0" else diagnosis for site, diagnosis in zip(cohort.sites, cohort.subjects["diagnosis"], strict=True)]
    found = evaluate(with_labels(cohort, labels), {"spy": Spy()})
    values = {result.split: result.value for result in found.results if result.metric == "auroc"}
    assert math.isnan(values["site-0"])
    assert not math.isnan(values["site-1"])


def test_what_is_not_random_is_fitted_once(cohort):
    found = evaluate(cohort, {"plain": Plain(), "spy": Spy()}, seeds=(0, 1, 2))
    assert (len(SEEN["plain"]), len(SEEN["spy"])) == (3, 9)
    assert {result.seed for result in found.results if result.method == "plain"} == {0}
    assert {result.seed for result in found.results if result.method == "spy"} == {0, 1, 2}


def test_what_is_not_random_sees_each_draw_of_labels(cohort):
    evaluate(cohort, {"plain": Plain()}, seeds=(0, 1, 2), label_fractions=(0.5, 1.0))
    drawn = [seen["y"] for seen in SEEN["plain"] if (seen["y"] == WITHHELD).any()]
    assert len(drawn) == 3 * 3
    assert len(SEEN["plain"]) == 3 * 3 + 3


def test_a_later_seed_may_have_nothing_to_do(cohort):
    found = evaluate(cohort, {"plain": Plain()}, seeds=(4, 5))
    assert set(found.predictions["seed"]) == {4}
    assert found.predictions["seed"].dtype == np.int64
    assert len(scored_splits(found.predictions, "plain")) == 3


def test_methods_given_are_not_changed(cohort):
    spy = Spy(seed=11)
    evaluate(cohort, {"spy": spy}, seeds=(0, 1))
    assert spy.seed == 11
    assert not hasattr(spy, "classes_")
    assert {seen["seed"] for seen in SEEN["spy"]} == {0, 1}


def test_task_and_splits_by_hand_are_those_of_evaluate(cohort):
    task = make_task(cohort, "diagnosis", None, "leave_one_site_out")
    splits = make_splits(cohort, task, "leave_one_site_out")
    found = evaluate(cohort, {"spy": Spy()})
    assert [split.hash for split in splits] == [split.hash for split in found.splits]
    results, table = fit_and_score(Spy(), cohort, task, splits[0], 0, 1.0, "spy")
    same_results(results, [result for result in found.results if result.split == "site-0"])
    expected = found.predictions[found.predictions["split"] == "site-0"].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, expected)


# Shuffled labels


def test_audited_methods_are_fitted_once_more_for_the_first_seed(cohort):
    found = evaluate(cohort, {"one": Spy("one"), "two": Spy("two")}, seeds=(3, 4), label_fractions=(0.5, 1.0), audited=["two"])
    audits = [result for result in found.results if result.method.endswith(SHUFFLED)]
    assert {result.method for result in audits} == {"two" + SHUFFLED}
    assert {(result.seed, result.label_fraction) for result in audits} == {(3, 1.0)}
    assert len(audits) == 3 * len(METRICS)


def shuffled_and_real(make_cohort, method, name, seeds):
    """AUROC of a method on strongly affected cohorts, and on the same with shuffled labels, over sites and seeds."""
    real, shuffled = [], []
    for seed in seeds:
        planted = make_cohort(n_subjects=40, n_regions=12, n_sites=4, n_timepoints=60, seed=seed, effect=3.0)
        for result in evaluate(planted, {name: method}, seeds=(seed,), audited=[name]).results:
            if result.metric == "auroc":
                (shuffled if result.method.endswith(SHUFFLED) else real).append(result.value)
    return np.asarray(real), np.asarray(shuffled)


# Standard deviation of an AUROC of 5 against 5 subjects without any signal (Mann and Whitney 1947).
CHANCE_SD = math.sqrt((5 + 5 + 1) / (12 * 5 * 5))


def test_shuffled_labels_score_chance_where_true_ones_score_high(make_cohort):
    real, shuffled = shuffled_and_real(make_cohort, make_baseline("logistic_correlation"), "logistic", range(5))
    assert real.mean() > 0.9
    assert abs(shuffled.mean() - 0.5) < 3 * CHANCE_SD / math.sqrt(len(shuffled))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["probe", "full"])
def test_shuffled_labels_score_chance_for_the_encoder_too(make_cohort, mode):
    quick = TrainingSettings(max_epochs=2, batch_size=16, accelerator="cpu")
    encoder = GraphTransformer(width=16, depth=1, heads=2)
    method = ConnectomeClassifier(MaskedRegions(rank=4), encoder, mode=mode, pretraining=quick, finetuning=quick)
    real, shuffled = shuffled_and_real(make_cohort, method, "pretrained", range(3))
    assert real.mean() > 0.8
    assert abs(shuffled.mean() - 0.5) < 3 * CHANCE_SD / math.sqrt(len(shuffled))


# Runs that stop and go on


def test_a_run_that_was_stopped_goes_on_without_fitting_again(cohort, tmp_path):
    methods = {"spy": Spy()}
    unbroken = evaluate(cohort, methods, seeds=(0, 1), label_fractions=(0.5, 1.0), audited=["spy"])
    SEEN.clear()
    STOP["spy"] = 6  # five fits make the first unit: two seeds of two fractions and an audit make nine a site
    with pytest.raises(RuntimeError, match="the power went off"):
        evaluate(cohort, methods, seeds=(0, 1), label_fractions=(0.5, 1.0), audited=["spy"], folder=tmp_path)
    finished = [path.name for path in tmp_path.iterdir()]
    assert len(finished) >= 1
    assert not [name for name in finished if name.endswith(".part")]
    STOP.clear()
    SEEN.clear()
    found = evaluate(cohort, methods, seeds=(0, 1), label_fractions=(0.5, 1.0), audited=["spy"], folder=tmp_path)
    same_results(found.results, unbroken.results)
    pd.testing.assert_frame_equal(found.predictions, unbroken.predictions)
    n_all = 3 * (2 * 2 + 1)
    assert len(SEEN["spy"]) == n_all - {1: 3, 2: 5}[len(finished)]
    SEEN.clear()
    again = evaluate(cohort, methods, seeds=(0, 1), label_fractions=(0.5, 1.0), audited=["spy"], folder=tmp_path)
    assert again.results == found.results, "even the time is the one that was measured"
    assert not SEEN


def test_undefined_scores_survive_the_file(cohort, tmp_path):
    labels = ["control" if site == "site-0" else diagnosis for site, diagnosis in zip(cohort.sites, cohort.subjects["diagnosis"], strict=True)]
    first = evaluate(with_labels(cohort, labels), {"spy": Spy()}, folder=tmp_path)
    same_results(evaluate(with_labels(cohort, labels), {"spy": Spy()}, folder=tmp_path).results, first.results)
    assert len(SEEN["spy"]) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"methods": {"spy": Spy("spy", seed=0), "other": Spy("other")}},
        {"methods": {"spy": Spy("other")}},
        {"label_fractions": (0.5,)},
        {"audited": ["spy"]},
        {"classes": ["patient", "control"]},
    ],
    ids=["methods", "arguments", "fractions", "audit", "classes"],
)
def test_what_decides_the_numbers_is_fitted_anew(cohort, tmp_path, change):
    evaluate(cohort, {"spy": Spy()}, folder=tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    evaluate(cohort, **{"methods": {"spy": Spy()}, "folder": tmp_path, **change})
    assert len({path.name for path in tmp_path.iterdir()} - before) == 3


def test_other_data_are_fitted_anew(cohort, make_cohort, tmp_path):
    evaluate(cohort, {"spy": Spy()}, folder=tmp_path)
    evaluate(make_cohort(n_subjects=24, n_regions=8, n_sites=3, n_timepoints=20, seed=1), {"spy": Spy()}, folder=tmp_path)
    assert len(SEEN["spy"]) == 6


def test_settings_deep_inside_a_method_count(cohort, tmp_path):
    """A width of the encoder, a ratio of the objective, a penalty within a pipeline: each makes another run."""
    two_sites = cohort.select((cohort.sites != "site-2").to_numpy())
    scratch = ConnectomeClassifier(encoder=GraphTransformer(8, 1, 2), mode="probe")
    wide = ConnectomeClassifier(encoder=GraphTransformer(16, 1, 2), mode="probe")
    ridges = [LabelledOnly(make_pipeline(SharedConnectivity(), RidgeProbability(alphas))) for alphas in ((1.0,), (2.0,))]
    for method in (scratch, wide, *ridges):
        evaluate(two_sites, {"method": method}, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4 * 2


def test_sites_may_be_called_anything(cohort, tmp_path):
    named = with_column(cohort, "site", "categorical", "site", [("A/B", "../C", "Zürich 2")[k % 3] for k in range(24)])
    found = evaluate(named, {"spy": Spy()}, folder=tmp_path)
    again = evaluate(named, {"spy": Spy()}, folder=tmp_path)
    assert [split.name for split in found.splits] == ["../C", "A/B", "Zürich 2"]
    same_results(found.results, again.results)
    assert len(list(tmp_path.iterdir())) == len(SEEN["spy"]) == 3


# Processes


@pytest.mark.slow
def test_two_processes_find_what_one_finds(cohort):
    methods = {"logistic_correlation": make_baseline("logistic_correlation"), "covariates": make_baseline("covariates")}
    quick = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")
    methods["ours"] = ConnectomeClassifier(MaskedRegions(rank=2), GraphTransformer(8, 1, 2), pretraining=quick, finetuning=quick)
    runs = [evaluate(cohort, methods, seeds=(0, 1), label_fractions=(0.5, 1.0), audited=["ours"], n_jobs=n) for n in (1, 2)]
    same_results(runs[0].results, runs[1].results)
    pd.testing.assert_frame_equal(runs[0].predictions, runs[1].predictions)
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


def test_a_bar_goes_to_stderr_only(cohort, capsys):
    evaluate(cohort, {"spy": Spy()}, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search("leave_one_site_out, 1 methods", err)


def test_an_ensemble_is_scored_beside_its_members(cohort):
    methods = {"spy": Spy("ensemble one"), "other": make_baseline("ridge_correlation")}
    found = evaluate(cohort, methods, protocol="k_fold", n_splits=2, seeds=(0, 1), ensembles={"both": ("spy", "other")})
    cells = {(r.method, r.split, r.seed) for r in found.results if r.metric == "auroc"}
    assert {cell[1:] for cell in cells if cell[0] == "both"} == {cell[1:] for cell in cells if cell[0] == "spy"}
    assert set(found.predictions["method"]) == {"spy", "other", "both"}
    with pytest.raises(ConfigError, match="Expected two or more"):
        evaluate(cohort, methods, protocol="k_fold", n_splits=2, ensembles={"both": ("spy",)})
