"""The scikit-learn face: what fit promises, what a withheld label may not do, and what is shared between fits."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl import estimators
from graphssl.data import Column, Schema
from graphssl.encoders import GraphTransformer, PopulationTransformer
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.estimators import WITHHELD, ConnectomeClassifier, PopulationClassifier
from graphssl.graphs.connectivity import ConnectivityFeatures
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.objectives import MaskedConnections, MaskedRegions, PredictLabel
from graphssl.training import Stage, TrainingSettings, finetune, pretrain, pretrain_stages
from graphssl.training.finetune import FINETUNING

QUICK = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")


def quick_classifier(**changes):
    arguments = {
        "objective": MaskedRegions(rank=4),
        "encoder": GraphTransformer(width=16, depth=1, heads=2),
        "mode": "probe",
        "pretraining": QUICK,
        "finetuning": QUICK,
    }
    return ConnectomeClassifier(**{**arguments, **changes})


def labels_of(cohort):
    return (cohort.subjects["diagnosis"] == "patient").astype(int).to_numpy()


@pytest.fixture(autouse=True)
def no_starts():
    """Each test begins without a remembered pre-training."""
    estimators._STARTS.clear()


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=24, n_regions=20, effect=2.0)


@pytest.mark.parametrize("mode", ["probe", "full"])
@pytest.mark.parametrize("objective", [None, MaskedRegions(rank=4)], ids=["scratch", "pretrained"])
def test_fit_returns_itself_and_predicts_probabilities(cohort, mode, objective):
    classifier = quick_classifier(mode=mode, objective=objective)
    assert classifier.fit(cohort, labels_of(cohort), groups=cohort.groups.to_numpy()) is classifier
    probability = classifier.predict_proba(cohort)
    assert probability.shape == (24, 2)
    assert_allclose(probability.sum(axis=1), 1.0)
    assert_array_equal(classifier.classes_, [0, 1])
    assert_array_equal(classifier.predict(cohort), probability.argmax(axis=1))
    assert classifier.score(cohort, labels_of(cohort)) == accuracy_score(labels_of(cohort), classifier.predict(cohort))


def test_members_predict_together(cohort):
    """They share the pre-training, and each chooses its epoch on other subjects."""
    y, settings = (np.arange(24) % 3 == 0).astype(int), TrainingSettings(max_epochs=2, batch_size=8, accelerator="cpu")
    alone, both = (quick_classifier(mode="full", finetuning=settings, n_members=n).fit(cohort, y) for n in (1, 2))
    probabilities = [model.predict_proba(cohort) for model in both.models_]
    assert_array_equal(alone.predict_proba(cohort), probabilities[0])
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-3
    assert_allclose(both.predict_proba(cohort), np.mean(probabilities, axis=0))
    assert both.model_ is both.models_[0]


def test_a_probe_has_one_member(cohort):
    assert len(quick_classifier(n_members=3).fit(cohort, labels_of(cohort)).models_) == 1


def test_no_member_is_refused(cohort):
    with pytest.raises(ConfigError, match="Expected n_members of at least 1, found 0"):
        quick_classifier(n_members=0).fit(cohort, labels_of(cohort))


def test_class_indices_need_not_start_at_zero_nor_sort_as_text(cohort):
    """As text, 10 stands before 2; the columns follow the numbers."""
    names = np.where(labels_of(cohort) == 1, 10, 2)
    classifier = quick_classifier().fit(cohort, names)
    assert_array_equal(classifier.classes_, [2, 10])
    assert set(classifier.predict(cohort)) <= {2, 10}
    same = quick_classifier().fit(cohort, labels_of(cohort))
    assert_array_equal(classifier.predict_proba(cohort), same.predict_proba(cohort))


def test_three_classes(cohort):
    labels = np.arange(24) % 3
    classifier = quick_classifier(objective=None).fit(cohort, labels)
    assert classifier.predict_proba(cohort).shape == (24, 3)
    assert_array_equal(classifier.classes_, [0, 1, 2])


def test_rows_belong_to_subjects_whatever_their_order(cohort):
    classifier = quick_classifier().fit(cohort, labels_of(cohort))
    backwards = cohort.select(cohort.ids[::-1])
    assert_allclose(classifier.predict_proba(backwards), classifier.predict_proba(cohort)[::-1], atol=1e-6)
    alone = cohort.select(cohort.ids[:1])
    assert_allclose(classifier.predict_proba(alone), classifier.predict_proba(cohort)[:1], atol=1e-6)


def test_transform_gives_pooled_vectors_by_subject(cohort):
    classifier = quick_classifier().fit(cohort, labels_of(cohort))
    pooled = classifier.transform(cohort)
    assert isinstance(pooled, pd.DataFrame)
    assert pooled.index.tolist() == cohort.ids
    assert pooled.shape[1] == classifier.model_.encoder.pooled_width


def test_it_is_pretraining_then_finetuning(cohort):
    """The same two calls by hand give the same numbers."""
    classifier = quick_classifier(mode="full", seed=3).fit(cohort, labels_of(cohort))
    start = pretrain(cohort, objective=MaskedRegions(rank=4), encoder=GraphTransformer(width=16, depth=1, heads=2), settings=QUICK, seed=3)
    tuned = finetune(start, cohort, target="diagnosis", classes=["control", "patient"], mode="full", settings=QUICK, seed=3)
    assert_array_equal(classifier.predict_proba(cohort), tuned.predict_proba(cohort))


def test_the_label_of_a_withheld_subject_cannot_matter(cohort):
    """The table's own labels, permuted among withheld subjects or thrown away, change nothing."""
    withheld = np.arange(24) % 3 == 0
    y = np.where(withheld, WITHHELD, labels_of(cohort))
    diagnosis = cohort.subjects["diagnosis"].to_numpy(dtype=object)
    permuted, erased = diagnosis.copy(), diagnosis.copy()
    permuted[withheld] = np.where(diagnosis[withheld] == "patient", "control", "patient")
    erased[withheld] = None
    probabilities = []
    for values in (diagnosis, permuted, erased):
        other = cohort.with_column(cohort.schema["diagnosis"], pd.Series(values, index=cohort.subjects.index, dtype="str"))
        probabilities.append(quick_classifier(mode="probe").fit(other, y).predict_proba(cohort))
    assert_array_equal(probabilities[0], probabilities[1])
    assert_array_equal(probabilities[0], probabilities[2])


def test_an_objective_that_reads_labels_is_told_those_that_are_not_withheld(cohort):
    """And no others: labels of the table do not matter, those that are given do."""
    withheld = np.arange(24) % 3 == 0
    y = np.where(withheld, WITHHELD, labels_of(cohort))
    seen = []
    for table, given in ((labels_of(cohort), y), (1 - labels_of(cohort), y), (labels_of(cohort), np.where(withheld, WITHHELD, 1 - y))):
        diagnosis = pd.Series(np.where(table == 1, "patient", "control"), index=cohort.subjects.index, dtype="str")
        other = cohort.with_column(cohort.schema["diagnosis"], diagnosis)
        fitted = quick_classifier(objective=PredictLabel()).fit(other, given)
        seen.append(fitted.pretrained_.embed(cohort).to_numpy())
    assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()


def test_withheld_subjects_take_part_in_pretraining(cohort):
    y = labels_of(cohort)
    some = np.where(np.arange(24) < 16, y, WITHHELD)
    with_all = quick_classifier().fit(cohort, some)
    with_labelled = quick_classifier().fit(cohort.select(cohort.ids[:16]), y[:16])
    assert (with_all.predict_proba(cohort) != with_labelled.predict_proba(cohort)).any()
    assert "subjects" in with_all.pretrained_.card["pre-trained on"]
    assert "16 labelled subjects" in with_all.model_.card["fine-tuned on"]


def test_one_label_a_subject(cohort):
    with pytest.raises(DataError, match=r"one label for each of 24 subjects, found 23"):
        quick_classifier().fit(cohort, labels_of(cohort)[:23])


@pytest.mark.parametrize("labels", [[0] * 24, [WITHHELD] * 24, [1] + [WITHHELD] * 23])
def test_two_classes_at_least(cohort, labels):
    with pytest.raises(DataError, match="at least two classes among the labels, found"):
        quick_classifier().fit(cohort, labels)


def test_what_is_no_cohort_or_no_label(cohort):
    with pytest.raises(DataError, match=r"Expected a cohort, found ndarray\. Cohort\.from_arrays\(values, atlas\) makes one"):
        ConnectomeClassifier().fit(np.zeros((4, 20, 3)), [0, 1, 0, 1])
    labels = np.where(np.arange(len(cohort)) % 3 == 0, np.nan, np.arange(len(cohort)) % 2)
    with pytest.raises(DataError, match=r"Expected a label for every subject, or -1 where it is withheld; found none for \d+"):
        ConnectomeClassifier().fit(cohort, labels)


def test_two_labels_of_each_class_at_least(cohort):
    labels = np.full(24, WITHHELD)
    labels[[0, 1, 2]] = [0, 0, 1]
    with pytest.raises(DataError, match="at least two labelled subjects of each class"):
        quick_classifier(mode="full").fit(cohort, labels)


def test_unknown_mode(cohort):
    with pytest.raises(ConfigError, match="mode 'probe' or 'full', found 'half'"):
        quick_classifier(mode="half").fit(cohort, labels_of(cohort))


def test_nothing_is_predicted_before_fit(cohort):
    for method in ("predict_proba", "predict", "transform"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(ConnectomeClassifier(), method)(cohort)


def test_same_seed_same_numbers_other_seed_others(cohort):
    fits = []
    for seed in (0, 0, 1):
        estimators._STARTS.clear()
        fits.append(quick_classifier(seed=seed).fit(cohort, labels_of(cohort)).predict_proba(cohort))
    assert_array_equal(fits[0], fits[1])
    assert (fits[0] != fits[2]).any()


def test_a_remembered_pretraining_gives_the_numbers_of_a_new_one(cohort):
    y = labels_of(cohort)
    some = np.where(np.arange(24) < 12, y, WITHHELD)
    first, shared = quick_classifier().fit(cohort, y), quick_classifier(mode="full").fit(cohort, some)
    assert shared.pretrained_ is first.pretrained_
    estimators._STARTS.clear()
    alone = quick_classifier(mode="full").fit(cohort, some)
    assert alone.pretrained_ is not shared.pretrained_
    assert_array_equal(alone.predict_proba(cohort), shared.predict_proba(cohort))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"objective": MaskedConnections(rank=4)},
        {"objective": MaskedRegions(ratio=0.5, rank=4)},
        {"objective": None},
        {"encoder": GraphTransformer(width=8, depth=1, heads=2)},
        {"encoder": GraphTransformer(width=16, depth=1, heads=2, edges=False)},
        {"builder": ConnectomeBuilder(center=False)},
        {"pretraining": TrainingSettings(max_epochs=2, batch_size=16, accelerator="cpu")},
    ],
    ids=["seed", "objective", "ratio", "scratch", "width", "edges", "builder", "epochs"],
)
def test_whatever_decides_a_pretraining_makes_another_one(cohort, change):
    first = quick_classifier().pretrain_cohort(cohort)
    assert quick_classifier().pretrain_cohort(cohort) is first
    assert quick_classifier(**change).pretrain_cohort(cohort) is not first


def test_other_subjects_values_or_families_are_another_pretraining(cohort, make_cohort):
    scratch = quick_classifier(objective=None)
    first = scratch.pretrain_cohort(cohort)
    assert scratch.pretrain_cohort(cohort.select(cohort.ids[:20])) is not first
    assert scratch.pretrain_cohort(make_cohort(n_subjects=24, n_regions=20, effect=2.0, seed=1)) is not first
    # The same values with another meaning: families decide who chooses the epoch.
    pairs = pd.Series([f"f{k // 2}" for k in range(24)], index=cohort.subjects.index, dtype="str")
    feature, family = (cohort.with_column(Column("pair", "text", role), pairs) for role in ("feature", "group"))
    assert feature.hash == family.hash
    assert scratch.pretrain_cohort(feature) is not scratch.pretrain_cohort(family)


def test_only_few_pretrainings_are_remembered(cohort):
    for seed in range(estimators._MAX_STARTS + 2):
        quick_classifier(objective=None, seed=seed).pretrain_cohort(cohort)
    assert len(estimators._STARTS) == estimators._MAX_STARTS


def test_the_one_used_last_is_remembered_longest(cohort):
    def start(seed):
        return quick_classifier(objective=None, seed=seed).pretrain_cohort(cohort)

    first = start(0)
    for seed in range(1, estimators._MAX_STARTS):
        start(seed)
    assert start(0) is first
    start(99)
    assert start(0) is first


def test_fitting_changes_neither_arguments_nor_the_pretrained_model(cohort):
    classifier = quick_classifier(mode="full")
    before = {name: value.clone() for name, value in classifier.encoder.state_dict().items()}
    classifier.fit(cohort, labels_of(cohort))
    start = {name: value.clone() for name, value in classifier.pretrained_.encoder.state_dict().items()}
    classifier.fit(cohort, 1 - labels_of(cohort))
    for name, value in classifier.encoder.state_dict().items():
        assert torch.equal(value, before[name])
    for name, value in classifier.pretrained_.encoder.state_dict().items():
        assert torch.equal(value, start[name])


def test_clone_and_parameters(cohort):
    classifier = quick_classifier(seed=5)
    names = {"objective", "encoder", "builder", "mode", "pretraining", "finetuning", "seed", "class_weight", "n_members", "selection", "stages"}
    assert set(classifier.get_params(deep=False)) == names
    copied = clone(classifier)
    assert copied is not classifier
    assert copied.seed == 5
    assert copied.encoder.arguments() == classifier.encoder.arguments()
    copied.set_params(seed=6, builder=ConnectomeBuilder(center=False))
    assert (classifier.seed, classifier.builder) == (5, None)
    classifier.fit(cohort, labels_of(cohort))
    estimators._STARTS.clear()
    again = clone(classifier).fit(cohort, labels_of(cohort))
    assert_array_equal(again.predict_proba(cohort), classifier.predict_proba(cohort))


def test_arguments_may_all_be_left_out():
    assert ConnectomeClassifier().get_params()["mode"] == "full"


# In scikit-learn's hands


def untrained_probe(**changes):
    return quick_classifier(**{"objective": None, **changes})


def test_cross_validation_over_sites_is_the_loop_by_hand(cohort):
    y, sites = labels_of(cohort), cohort.sites.to_numpy()
    found = cross_val_score(untrained_probe(), cohort, y, groups=sites, cv=LeaveOneGroupOut(), scoring="roc_auc")
    by_hand = []
    for site in np.unique(sites):
        train, test = cohort.select(sites != site), cohort.select(sites == site)
        by_hand.append(roc_auc_score(labels_of(test), untrained_probe().fit(train, labels_of(train)).predict_proba(test)[:, 1]))
    assert_allclose(found, by_hand)


def test_nested_cross_validation_in_a_pipeline(cohort):
    """A grid is searched on inner folds that hold out sites, within each outer fold that holds out a site."""
    y, sites = labels_of(cohort), np.asarray([f"site-{k % 3}" for k in range(24)])
    pipeline = Pipeline([("classifier", untrained_probe())])
    grid = {"classifier__encoder__width": [8, 16]}
    search = GridSearchCV(pipeline, grid, cv=GroupKFold(2), scoring="roc_auc")
    outer = cross_validate(
        search, cohort, y, groups=sites, cv=LeaveOneGroupOut(), params={"groups": sites}, return_estimator=True, return_indices=True
    )
    assert len(outer["test_score"]) == 3
    for fitted, train in zip(outer["estimator"], outer["indices"]["train"], strict=True):
        assert fitted.best_params_["classifier__encoder__width"] in (8, 16)
        assert fitted.best_estimator_["classifier"].model_.encoder.width == fitted.best_params_["classifier__encoder__width"]
        assert len(set(sites[train])) == 2


def test_features_of_a_cohort_in_a_pipeline(cohort):
    pipeline = make_pipeline(ConnectivityFeatures("toy"), StandardScaler(), LogisticRegression())
    found = cross_val_score(pipeline, cohort, cohort.target(), groups=cohort.sites, cv=LeaveOneGroupOut(), scoring="roc_auc")
    assert found.shape == (2,)
    assert (found > 0.5).all()


def test_names_of_classes_may_be_labels(cohort):
    named = untrained_probe().fit(cohort, cohort.target())
    assert named.classes_.tolist() == ["control", "patient"]
    assert_array_equal(named.predict_proba(cohort), untrained_probe().fit(cohort, labels_of(cohort)).predict_proba(cohort))


def test_parameters_reach_inside():
    classifier = quick_classifier(builder=ConnectomeBuilder())
    classifier.set_params(seed=4, finetuning__learning_rate=0.5, objective__ratio=0.4, encoder__width=8, builder__center=False)
    assert (classifier.seed, classifier.finetuning.learning_rate, classifier.finetuning.max_epochs) == (4, 0.5, 1)
    assert (classifier.objective.ratio, classifier.objective.rank, classifier.encoder.width) == (0.4, 4, 8)
    assert classifier.builder.center is False
    bare = ConnectomeClassifier().set_params(encoder__depth=3, finetuning__patience=2)
    assert (bare.encoder.depth, bare.finetuning.patience, bare.finetuning.max_epochs) == (3, 2, FINETUNING.max_epochs)


@pytest.mark.parametrize(
    ("name", "known"), [("encoder__wide", "width"), ("objective__ratio", "there is none"), ("finetuning__rate", "learning_rate")]
)
def test_unknown_parameters_inside(name, known):
    with pytest.raises(ValueError, match=rf"Expected an argument of {name.partition('__')[0]} \(.*{known}.*\), found"):
        ConnectomeClassifier().set_params(**{name: 1})


# Patients of a table


def patients(n=90, seed=0):
    """A hidden severity drives three columns, some values of which are missing, and the outcome."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(n)
    table = {"lactate": severity + 0.5 * rng.standard_normal(n), "pulse": 80 + 10 * severity, "ward": np.where(severity > 0.3, "icu", "floor")}
    return pd.DataFrame(table).mask(rng.random((n, 3)) < 0.1), np.where(severity > 0, "ill", "well")


def population_classifier(**changes):
    settings = TrainingSettings(max_epochs=4, batch_size=64, learning_rate=0.01, accelerator="cpu")
    arguments = {"encoder": PopulationTransformer(8, 1, 2), "pretraining": settings, "finetuning": settings}
    return PopulationClassifier(**{**arguments, **changes})


@pytest.fixture(scope="module")
def fitted():
    table, outcome = patients()
    return population_classifier().fit(table.iloc[:60].set_axis(range(100, 160)), outcome[:60])


def test_a_table_with_gaps_is_all_it_takes(fitted):
    table, outcome = patients()
    probability = fitted.predict_proba(table.iloc[60:])
    assert_allclose(probability.sum(axis=1), 1.0)
    assert fitted.classes_.tolist() == ["ill", "well"]
    assert fitted.score(table.iloc[60:], outcome[60:]) > 0.75
    assert set(fitted.predict(table.iloc[60:])) == {"ill", "well"}
    assert len(fitted.pretrained_.history) == 4
    assert fitted.transform(table.iloc[60:63]).index.tolist() == [60, 61, 62]
    assert fitted.n_features_in_ == 3


def test_a_new_patient_gets_the_same_whoever_else_is_new(fitted):
    table, _ = patients(40, seed=1)
    whole = fitted.predict_proba(table)
    assert_allclose(fitted.predict_proba(table.iloc[[7]]), whole[[7]], atol=1e-6)
    assert_allclose(fitted.predict_proba(table.iloc[::-1]), whole[::-1], atol=1e-6)


def test_the_patients_who_informed_a_prediction_are_named(fitted):
    table, _ = patients()
    found = fitted.neighbors(table.iloc[[2, 70]], k=3)
    assert found["patient"].tolist() == [2, 2, 2, 70, 70, 70]
    assert set(found["neighbor"]) <= set(range(100, 160)), "by the index of the training table"
    assert list(found.columns) == ["patient", "neighbor", "similarity", "similarity_numbers", "similarity_categories"]
    assert (found.groupby("patient")["similarity"].diff().dropna() <= 0).all()
    unlike = fitted.unlikeness(pd.concat([table.iloc[60:80], pd.DataFrame({"lactate": [40.0], "pulse": [900.0], "ward": ["home"]})]))
    assert unlike[-1] == 1.0
    assert unlike[:-1].mean() < 0.8


def test_whether_classes_count_alike_reaches_the_fine_tuning():
    table, outcome = patients(60)
    labels = np.where(np.arange(60) % 3, "well", outcome)
    plain, balanced = (population_classifier(mode="probe", objective=None, class_weight=weight).fit(table, labels) for weight in (None, "balanced"))
    assert plain.predict_proba(table)[:, 0].mean() == pytest.approx((labels == "ill").mean(), abs=0.05)
    assert balanced.predict_proba(table)[:, 0].mean() > plain.predict_proba(table)[:, 0].mean() + 0.1


def test_missing_labels_are_withheld_and_their_patients_stay_as_neighbours():
    table, outcome = patients(60)
    labels = np.where(np.arange(60) % 2, outcome.astype(object), None)
    classifier = population_classifier(mode="probe").fit(table, labels)
    assert classifier.classes_.tolist() == ["ill", "well"]
    assert len(classifier.model_.builder.population_) > 50
    assert population_classifier(objective=None, mode="probe").fit(table, labels).pretrained_.history.empty


def test_it_is_cross_validated_and_stands_in_pipelines():
    table, outcome = patients(60)
    classifier = population_classifier(mode="probe", objective=None)
    assert cross_val_score(classifier, table, outcome, cv=2).mean() > 0.7
    imputed = make_pipeline(SimpleImputer(), StandardScaler(), clone(classifier)).fit(table[["lactate", "pulse"]], outcome == "ill")
    assert imputed.classes_.tolist() == [False, True]
    assert imputed.predict_proba(table[["lactate", "pulse"]].iloc[:3]).shape == (3, 2)
    search = GridSearchCV(classifier, {"encoder__width": [4, 8]}, cv=2).fit(table.iloc[:40], outcome[:40])
    assert search.best_params_["encoder__width"] in (4, 8)


def test_a_schema_says_what_columns_are():
    table, outcome = patients(60)
    coded = table.assign(code=np.arange(60) % 5)
    columns = [Column("lactate", "continuous", unit="mmol/L"), Column("code", "categorical")]
    classifier = population_classifier(mode="probe", objective=None, schema=Schema(columns)).fit(coded, outcome)
    reader = classifier.model_.encoder.reader
    assert (reader.numbers, list(reader.categories)) == (("lactate",), ["code"])


def test_labels_in_another_order_are_refused():
    table = pd.DataFrame({"x": np.arange(8.0)}, index=list("abcdefgh"))
    labels = pd.Series([0, 1] * 4, index=list("badcfehg"))
    with pytest.raises(DataError, match=r"Expected labels in the order of the rows of the table, found .*another order\. Give y\.loc\[X\.index\]"):
        PopulationClassifier().fit(table, labels)


def test_tables_that_do_not_fit_are_refused(fitted):
    table, outcome = patients()
    with pytest.raises(SchemaError, match="'pulse'"):
        fitted.predict(table[["lactate", "ward"]])
    with pytest.raises(DataError, match="one label for each of 90 subjects, found 80"):
        population_classifier().fit(table, outcome[:80])
    with pytest.raises(DataError, match="at least two classes"):
        population_classifier().fit(table, ["ill"] * 90)
    with pytest.raises(NotFittedError):
        population_classifier().neighbors(table)


def test_a_stage_without_a_cohort_reads_the_training_subjects_and_the_others_are_done_once(cohort, make_cohort, monkeypatch):
    public = make_cohort(n_subjects=20, n_regions=20, seed=9)
    done = []

    def noting(stages, given=None, **told):
        done.append([(stage.name, (stage.cohort or given).ids) for stage in stages])
        return pretrain_stages(stages, given, **told)

    monkeypatch.setattr(estimators, "pretrain_stages", noting)
    classifier = quick_classifier(stages=(Stage("public", public), Stage("task", epochs=1)))
    halves = [cohort.select(cohort.ids[::2]), cohort.select(cohort.ids[1::2])]
    fitted = [clone(classifier).fit(half, labels_of(half)) for half in halves]
    assert done == [[("public", public.ids)], [("task", halves[0].ids)], [("task", halves[1].ids)]]
    records = [one.pretrained_.card["stages"] for one in fitted]
    assert [[record["stage"] for record in both] for both in records] == [["public", "task"]] * 2
    assert records[0][0] == records[1][0]
    assert [both[1]["cohort"]["hash"] for both in records] == [half.hash for half in halves]
    assert records[0][1]["initialisation"]["weights"] == records[0][0]["weights"]
    assert records[0][1]["objective_weights"] == "kept"


def test_stages_of_other_cohorts_alone_are_the_same_for_all(cohort, make_cohort):
    classifier = quick_classifier(stages=(Stage("public", make_cohort(n_subjects=20, n_regions=20, seed=9)),))
    first, second = (clone(classifier).fit(part, labels_of(part)).pretrained_ for part in (cohort, cohort.select(cohort.ids[::2])))
    assert first is second


def test_a_stage_is_told_the_labels_that_are_not_withheld_and_scratch_has_no_stages(cohort):
    labels = labels_of(cohort).copy()
    labels[::2] = WITHHELD
    stages = (Stage("without", epochs=1), Stage("with", objective=PredictLabel(), epochs=1))
    fitted = quick_classifier(stages=stages).fit(cohort, labels)
    assert set(fitted.pretrained_.objective.class_of) == set(np.asarray(cohort.ids)[1::2])
    assert "stages" not in quick_classifier(stages=stages, objective=None).fit(cohort, labels_of(cohort)).pretrained_.card
