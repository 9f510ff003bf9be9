"""Fine-tuning against scikit-learn; who has no label never counts, and the model that was given stays as it is."""

import copy
import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from graphssl.data import Column
from graphssl.data.splits import hold_out
from graphssl.errors import ConfigError, DataError, RunFolderError, SchemaError
from graphssl.graphs import ConnectomeBuilder
from graphssl.training import Model, finetune

module = importlib.import_module("graphssl.training.finetune")


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(effect=2.0)


@pytest.fixture
def batches_seen(note_batches):
    """What `finetune` hands to the training, which goes on as ever."""
    return note_batches(module)


def with_labels(cohort, values, column=None):
    return cohort.with_column(column or cohort.schema["diagnosis"], pd.Series(values, index=cohort.subjects.index, dtype="object"))


def with_thirds(cohort):
    """The cohort with a target of three classes."""
    names = np.array(["high", "low", "middle"])
    return with_labels(cohort, names[np.arange(len(cohort)) % 3], Column("level", "categorical", "covariate", categories=("high", "low", "middle")))


def assert_same(found, expected):
    for part in ("encoder", "head"):
        mine, theirs = getattr(found, part).state_dict(), getattr(expected, part).state_dict()
        assert [name for name, value in theirs.items() if not torch.equal(mine[name], value)] == []


def indices(cohort, classes, target="diagnosis"):
    return [classes.index(label) for label in cohort.subjects[target]]


@pytest.mark.parametrize("target", ["diagnosis", "level"])
def test_a_probe_is_the_logistic_regression_of_scikit_learn(pretrained, cohort, target):
    cohort = with_thirds(cohort)
    model = finetune(pretrained, cohort, target=target, mode="probe")
    features = StandardScaler().fit_transform(pretrained.embed(cohort))
    regression = LogisticRegressionCV(
        Cs=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        cv=5,
        scoring="neg_log_loss",
        class_weight="balanced",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    regression.fit(features, cohort.subjects[target].astype(str))
    assert list(regression.classes_) == list(model.classes)
    np.testing.assert_allclose(model.predict_proba(cohort), regression.predict_proba(features), atol=1e-5)


@pytest.mark.parametrize("mode", ["probe", "full"])
def test_without_class_weights_probabilities_follow_how_common_a_class_is(pretrained, cohort, make_settings, mode):
    uneven = cohort.select(cohort.subjects["diagnosis"].sort_values().index[:16].tolist())
    share = 4 / 16
    plain, balanced = (
        finetune(pretrained, uneven, mode=mode, class_weight=weight, settings=make_settings()).predict_proba(uneven)[:, 1].mean()
        for weight in (None, "balanced")
    )
    assert plain < balanced
    if mode == "probe":  # whose intercept is not penalised
        assert plain == pytest.approx(share, abs=1e-3)


def test_an_unknown_class_weight_is_refused(pretrained, cohort):
    with pytest.raises(ConfigError, match="Expected the class weight 'balanced' or None, found 'equal'"):
        finetune(pretrained, cohort, class_weight="equal")


def test_the_penalty_is_the_best_of_cross_validation(pretrained, cohort):
    model = finetune(pretrained, cohort, mode="probe")
    features = StandardScaler().fit_transform(pretrained.embed(cohort))
    labels = cohort.subjects["diagnosis"].astype(str)
    choices = [LogisticRegression(C=c, class_weight="balanced", max_iter=2000) for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    scores = [cross_val_score(choice, features, labels, cv=5, scoring="neg_log_loss").mean() for choice in choices]
    best = choices[int(np.argmax(scores))].fit(features, labels)
    np.testing.assert_allclose(model.predict_proba(cohort), best.predict_proba(features), atol=5e-3)


def test_a_planted_effect_is_found_in_new_subjects(pretrained, cohort, make_cohort, make_settings):
    new = make_cohort(n_subjects=40, effect=2.0, seed=1)
    new = replace(new, regions={"toy": replace(new.regions["toy"], atlas=cohort.atlas("toy"))})
    for mode in ("probe", "full"):
        model = finetune(pretrained, cohort, mode=mode, settings=make_settings(max_epochs=8))
        assert roc_auc_score(indices(new, model.classes), model.predict_proba(new)[:, 1]) > 0.9


@pytest.mark.parametrize("mode", ["probe", "full"])
def test_the_pre_trained_model_stays_as_it_is(pretrained, cohort, make_settings, mode):
    before = copy.deepcopy(pretrained.encoder.state_dict())
    card, history = dict(pretrained.card), pretrained.history.copy()
    model = finetune(pretrained, cohort, mode=mode, settings=make_settings(learning_rate=0.01))
    assert model.encoder is not pretrained.encoder
    assert all(torch.equal(pretrained.encoder.state_dict()[name], value) for name, value in before.items())
    assert pretrained.head is None
    assert pretrained.card == card
    pd.testing.assert_frame_equal(pretrained.history, history)
    assert not pretrained.encoder.training
    assert not model.encoder.training


def test_a_probe_leaves_the_encoder_and_full_training_moves_it(pretrained, cohort, make_settings):
    probe = finetune(pretrained, cohort, mode="probe")
    full = finetune(pretrained, cohort, mode="full", settings=make_settings(max_epochs=8, learning_rate=1e-3))
    start = pretrained.encoder.state_dict()
    assert all(torch.equal(probe.encoder.state_dict()[name], value) for name, value in start.items())
    assert not all(torch.equal(full.encoder.state_dict()[name], value) for name, value in start.items())
    assert len(full.history) == 8
    assert "validation_accuracy" in full.history


@pytest.mark.parametrize("learning_rate", [1e-3, 10.0])
def test_full_training_is_never_worse_than_its_probe_on_validation(pretrained, cohort, make_settings, batches_seen, learning_rate):
    full = finetune(pretrained, cohort, mode="full", settings=make_settings(learning_rate=learning_rate, max_epochs=3))
    train, validation = (cohort.select(dict.fromkeys(batch.subject_ids)) for batch in batches_seen[0])
    probe = finetune(pretrained, train, mode="probe")
    losses = [log_loss(indices(validation, model.classes), model.predict_proba(validation)[:, 1]) for model in (full, probe)]
    assert losses[0] <= losses[1] + 1e-6
    if learning_rate == 10:  # useless: the probe is taken back
        assert_same(full, probe)


def test_the_same_seed_gives_the_same_model(pretrained, cohort, make_settings, tmp_path):
    first = finetune(pretrained, cohort, settings=make_settings(), seed=2)
    torch.manual_seed(77)
    assert_same(finetune(pretrained, cohort, settings=make_settings(), seed=2, folder=tmp_path), first)
    assert (tmp_path / "last.ckpt").is_file()
    assert_same(finetune(pretrained, cohort, settings=make_settings(), seed=2, folder=tmp_path), first)


def test_a_folder_of_other_labels_is_refused(pretrained, cohort, make_settings, tmp_path):
    finetune(pretrained, cohort, settings=make_settings(max_epochs=1), folder=tmp_path)
    swapped = with_labels(cohort, np.where(cohort.subjects["diagnosis"] == "patient", "control", "patient"))
    with pytest.raises(RunFolderError, match="found one of another run"):
        finetune(pretrained, swapped, settings=make_settings(max_epochs=1), folder=tmp_path)
    with pytest.raises(RunFolderError, match="found one of another run"):
        finetune(pretrained, cohort, class_weight=None, settings=make_settings(max_epochs=1), folder=tmp_path)


@pytest.mark.parametrize("mode", ["probe", "full"])
def test_subjects_without_a_label_do_not_count(pretrained, cohort, make_settings, mode):
    known = cohort.ids[:16]
    withheld = with_labels(cohort, cohort.subjects["diagnosis"].where(cohort.subjects.index.isin(known)))
    found = finetune(pretrained, withheld, mode=mode, settings=make_settings(max_epochs=2))
    assert_same(found, finetune(pretrained, cohort.select(known), mode=mode, settings=make_settings(max_epochs=2)))
    assert "16 labelled subjects" in found.card["fine-tuned on"]


@pytest.mark.parametrize("seed", range(3))
def test_families_are_not_split_between_training_and_validation(families, make_encoder, make_settings, batches_seen, seed):
    base = Model(ConnectomeBuilder().fit(families), make_encoder())
    finetune(base, families, settings=make_settings(max_epochs=1), seed=seed)
    sides = [set(families.groups.loc[list(batch.subject_ids)]) for batch in batches_seen[0]]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(families.groups)
    labels = [families.subjects["diagnosis"].loc[list(batch.subject_ids)].nunique() for batch in batches_seen[0]]
    assert labels == [2, 2]


def test_families_are_not_split_between_the_folds_of_a_probe(pretrained, families, make_encoder, monkeypatch):
    seen = []

    class Noting(LogisticRegressionCV):
        def fit(self, X, y):
            seen.extend(self.cv)
            return super().fit(X, y)

    monkeypatch.setattr(module, "LogisticRegressionCV", Noting)
    finetune(Model(ConnectomeBuilder().fit(families), make_encoder()), families, mode="probe")
    groups = families.groups.to_numpy()
    assert len(set(groups)) < len(groups)
    assert len(seen) >= 2
    assert all(not set(groups[train]) & set(groups[test]) for train, test in seen)


@pytest.mark.parametrize(
    ("groups", "n_folds"),
    [(list("aabbccdd"), 2), (list("abcdefgh"), 4), (list("aaaaaaaa"), 0), (list("abababab"), 0)],
    ids=["pairs of one class", "nobody related", "one family", "two families of both classes"],
)
def test_folds_of_a_probe_hold_every_class_on_both_sides(groups, n_folds):
    y, groups = np.array([0, 0, 1, 1] * 2), np.array(groups)
    folds = module._probe_folds(y, groups)
    assert len(folds) in ((n_folds,) if n_folds else (0, 2))
    for train, test in folds:
        assert set(y[train]) == set(y[test]) == {0, 1}
        assert not set(groups[train]) & set(groups[test])


def test_the_probe_of_full_training_never_sees_the_validation_subjects(pretrained, cohort, make_settings):
    split = hold_out(cohort.ids, indices(cohort, ("control", "patient")), groups=cohort.groups.tolist(), test_fraction=0.2, seed=0)
    values = {subject: array.copy() for subject, array in cohort.regions["toy"].values.items()}
    for subject in split.test:
        values[subject] = np.random.default_rng(0).standard_normal(values[subject].shape).astype(np.float32)
    changed = replace(cohort, regions={"toy": replace(cohort.regions["toy"], values=values, observed={})})
    settings = make_settings(max_epochs=1, learning_rate=1e-12)
    found, expected = (finetune(pretrained, each, settings=settings).head.weight for each in (changed, cohort))
    torch.testing.assert_close(found, expected)


def test_classes_come_in_the_order_that_was_named(pretrained, cohort, tuned):
    assert tuned.classes == ("control", "patient")
    assert tuned.target == "diagnosis"
    swapped = finetune(pretrained, cohort, classes=("patient", "control"), mode="probe")
    assert swapped.classes == ("patient", "control")
    np.testing.assert_allclose(swapped.predict_proba(cohort), tuned.predict_proba(cohort)[:, ::-1], atol=1e-4)


@pytest.mark.parametrize("per_class", [2, 3, 4])
@pytest.mark.parametrize("mode", ["probe", "full"])
def test_a_few_labels_are_enough(pretrained, cohort, make_settings, mode, per_class):
    labels = cohort.subjects["diagnosis"]
    few = [subject for name in ("control", "patient") for subject in labels.index[labels == name][:per_class]]
    model = finetune(pretrained, cohort.select(few), mode=mode, settings=make_settings(max_epochs=1))
    assert model.predict_proba(cohort).shape == (24, 2)


@pytest.mark.parametrize("mode", ["probe", "full"])
def test_three_classes_get_three_probabilities(pretrained, cohort, make_settings, mode):
    model = finetune(pretrained, with_thirds(cohort), target="level", mode=mode, settings=make_settings(max_epochs=1))
    assert model.classes == ("high", "low", "middle")
    assert model.predict_proba(cohort).shape == (24, 3)
    assert set(model.predict(cohort)) <= {"high", "low", "middle"}


def test_an_unknown_mode_is_refused(pretrained, cohort):
    with pytest.raises(ConfigError, match="Expected the mode 'probe' or 'full', found 'linear'"):
        finetune(pretrained, cohort, mode="linear")


def test_one_class_is_refused(pretrained, cohort):
    controls = cohort.select((cohort.subjects["diagnosis"] == "control").to_numpy())
    with pytest.raises(DataError, match=r"Expected at least two classes in 'diagnosis' of 'toy', found \['control'\]"):
        finetune(pretrained, controls)


def test_no_labels_are_refused(pretrained, cohort):
    with pytest.raises(DataError, match="Expected at least two classes in 'diagnosis' of 'toy', found no labels"):
        finetune(pretrained, with_labels(cohort, [None] * len(cohort)))


def test_a_class_that_was_not_named_is_refused(pretrained, cohort):
    with pytest.raises(DataError, match=r"Expected 'diagnosis' of .* to hold the classes \['control'\], found \['patient'\] too"):
        finetune(pretrained, cohort, classes=["control"])


@pytest.mark.parametrize("mode", ["probe", "full"])
def test_a_named_class_without_subjects_is_refused(pretrained, cohort, mode):
    with pytest.raises(DataError, match="Expected at least (one|two) labelled subjects? of each class to fine-tune, found 0 of one"):
        finetune(pretrained, cohort, classes=["control", "patient", "prodromal"], mode=mode)


def test_a_class_of_one_subject_is_refused(pretrained, cohort):
    labels = cohort.subjects["diagnosis"]
    few = [*labels.index[labels == "control"][:5], labels.index[labels == "patient"][0]]
    with pytest.raises(DataError, match="Expected at least two labelled subjects of each class to fine-tune, found 1 of one. Give more labels"):
        finetune(pretrained, cohort.select(few))


def test_an_unknown_target_is_refused(pretrained, cohort):
    with pytest.raises(SchemaError, match="Expected one of the columns .*, found 'remission'"):
        finetune(pretrained, cohort, target="remission")
