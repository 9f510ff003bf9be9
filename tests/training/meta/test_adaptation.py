"""Adaptation curves: honest, alike for all models, and rising where there is something to learn."""

import copy

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from graphssl.errors import ConfigError, DataError
from graphssl.training.meta import (
    GradientStep,
    JointTraining,
    MetaLearning,
    MetaSettings,
    Source,
    TaskSampler,
    adapt_and_score,
    adaptation_curve,
    meta_train,
)
from graphssl.training.meta.adaptation import builder_for, labelled_and_others
from graphssl.training.meta.strategies import DirectLearning


@pytest.fixture(scope="module")
def model(two_diseases, make_encoder):
    settings = MetaSettings(max_epochs=3, steps_per_epoch=5, n_support=5, n_query=5, learning_rate=2e-3, accelerator="cpu")
    return meta_train(two_diseases[:1], encoder=make_encoder(), strategy=JointTraining(), settings=settings)


def test_a_curve_has_a_row_for_every_number_draw_and_step(model, two_diseases):
    curve = adaptation_curve(model, two_diseases[1], n_support=(2, 4), n_draws=2, n_steps=3)
    assert curve.groupby(["n_support", "draw"]).size().tolist() == [4] * 4
    assert set(curve["n_query"]) == {48 - 4, 48 - 8}
    assert np.isfinite(curve.to_numpy(float)).all()


def test_before_any_step_it_is_the_model_itself(model, two_diseases):
    target = two_diseases[1]
    curve = adaptation_curve(model, target, n_support=(3,), n_draws=1, n_steps=0)
    labelled, others = labelled_and_others(target, TaskSampler([target], 3, 1).draw(0)[0])
    batch = builder_for(model, labelled).transform(others)
    probability = model.answers(batch, others.ids).probability[:, 1]
    assert curve["auroc"].item() == pytest.approx(roc_auc_score([target.labels[s] for s in others.ids], probability))


def test_steps_help_where_the_disease_is_another(two_diseases, model):
    curve = adaptation_curve(model, two_diseases[2], n_support=(6,), n_draws=2, n_steps=8, learning_rate=0.05)
    by_step = curve.groupby("step")["loss"].mean()
    assert by_step.iloc[-1] < 0.8 * by_step.iloc[0]


@pytest.fixture(scope="module")
def rows(model, two_diseases):
    """Support and query of one draw."""
    target = two_diseases[1]
    labelled, others = labelled_and_others(target, TaskSampler([target], 4, 1).draw(0)[0])
    builder = builder_for(model, labelled)
    return [(builder.transform(part), torch.tensor([target.labels[s] for s in part.ids])) for part in (labelled, others)]


def test_a_curve_is_made_of_scores_draw_by_draw(model, two_diseases, rows):
    found = adapt_and_score(model, *rows, GradientStep(0.05), n_steps=2)
    curve = adaptation_curve(model, two_diseases[1], n_support=(4,), n_draws=1, n_steps=2)
    assert found.to_numpy().tolist() == curve[["step", "loss", "auroc"]].to_numpy().tolist()


def test_learned_steps_are_taken_where_they_are_asked_for(two_diseases, make_encoder):
    short = MetaSettings(max_epochs=1, steps_per_epoch=2, n_support=4, n_query=4, accelerator="cpu")
    model = meta_train(two_diseases[:2], encoder=make_encoder(), strategy=MetaLearning("meta_sgd", learning_rate=0.3), settings=short)
    target, how = two_diseases[2], {"n_support": (4,), "n_draws": 1, "n_steps": 1}
    labelled, others = labelled_and_others(target, TaskSampler([target], 4, 1).draw(0)[0])
    builder = builder_for(model, labelled)
    sides = [(builder.transform(part), torch.tensor([target.labels[s] for s in part.ids])) for part in (labelled, others)]
    learned = adaptation_curve(model, target, **how, learned=True)
    assert learned["loss"].tolist() == adapt_and_score(model, *sides, model.update, n_steps=1)["loss"].tolist()
    assert learned["loss"].iloc[1] != adaptation_curve(model, target, **how)["loss"].iloc[1]


def test_the_head_alone_is_a_logistic_regression_on_pooled_vectors(model, rows):
    (support, labels), (query, query_labels) = rows
    with torch.no_grad():
        pooled, other = model.encoder(support).pooled, model.encoder(query).pooled
    head = copy.deepcopy(model.head)
    for _ in range(2):
        head.zero_grad()
        torch.nn.functional.cross_entropy(head(pooled), labels).backward()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.3 * parameter.grad
    expected = torch.nn.functional.cross_entropy(head(other), query_labels).item()
    found = adapt_and_score(model, *rows, GradientStep(0.3), n_steps=2, head_only=True)
    assert found["loss"].iloc[-1] == pytest.approx(expected, rel=1e-4)
    assert adapt_and_score(model, *rows, GradientStep(0.3), n_steps=2)["loss"].iloc[-1] != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("strategy", [MetaLearning("anil", adaptive=True), MetaLearning("meta_sgd")], ids=["generated", "meta_sgd"])
def test_a_model_is_adapted_as_it_learned_to_be(strategy, two_diseases, make_encoder):
    settings = MetaSettings(max_epochs=1, steps_per_epoch=3, n_support=4, n_query=4, learning_rate=0.1, accelerator="cpu")
    model = meta_train(two_diseases[:2], encoder=make_encoder(), strategy=strategy, settings=settings)
    target = two_diseases[3]
    labelled, others = labelled_and_others(target, TaskSampler([target], 4, 1).draw(0)[0])
    builder = builder_for(model, labelled)
    rows = [(builder.transform(part), torch.tensor([target.labels[s] for s in part.ids])) for part in (labelled, others)]
    learned, plain = (adapt_and_score(model, *rows, update, n_steps=1) for update in (model.update, GradientStep(strategy.learning_rate)))
    assert learned["loss"].iloc[0] == plain["loss"].iloc[0]
    assert learned["loss"].iloc[1] != plain["loss"].iloc[1]
    assert not any(parameter.requires_grad for parameter in model.update.parameters())


def test_the_scored_are_not_seen(model, two_diseases):
    """Neither they nor their families are among the labelled, and what is centred is centred on the labelled alone."""
    target = two_diseases[1]
    task = TaskSampler([target], 3, 1).draw(0)[0]
    labelled, others = labelled_and_others(target, task)
    assert set(labelled.ids) == set(task.support)
    assert not set(labelled.ids) & set(others.ids)
    assert len(others) == 48 - 6
    centred = builder_for(model, labelled).transform(labelled).weights.mean(dim=0)
    torch.testing.assert_close(centred, torch.zeros_like(centred), atol=1e-5, rtol=0)


def test_the_model_is_left_as_it_was(model, two_diseases):
    before = [parameter.clone() for parameter in model.encoder.parameters()]
    adaptation_curve(model, two_diseases[1], n_support=(2,), n_draws=1, n_steps=2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.encoder.parameters(), strict=True))


def test_a_model_without_a_head_knows_nothing_at_first(two_diseases, make_encoder):
    settings = MetaSettings(n_support=2, n_query=2, accelerator="cpu")
    start = meta_train(two_diseases[:1], encoder=make_encoder(), strategy=DirectLearning(), settings=settings)
    curve = adaptation_curve(start, two_diseases[1], n_support=(3,), n_draws=1, n_steps=1)
    assert curve["auroc"].iloc[0] == 0.5
    assert curve["loss"].iloc[0] == pytest.approx(np.log(2))


def test_more_classes_than_the_head_tells_apart_are_refused(model, rows):
    support, (batch, labels) = rows
    with pytest.raises(ConfigError, match="a head for 3 classes, found one for 2"):
        adapt_and_score(model, support, (batch, labels + 1), GradientStep(0.1))


def test_bad_targets_are_refused(model, two_diseases):
    target = two_diseases[1]
    with pytest.raises(DataError, match="a target with labels to adapt to, found none in 'bare'"):
        adaptation_curve(model, Source("bare", target.cohort))
    with pytest.raises(DataError, match="at least 41 subjects of the class 'no' in source 'x2'"):
        adaptation_curve(model, target, n_support=(40,))
    with pytest.raises(ConfigError, match="a head for the 3 classes of 'x2', found one for 2"):
        adaptation_curve(model, Source("x2", target.cohort, "ill", ("no", "yes", "perhaps")), n_support=(2,))
    with pytest.raises(ConfigError, match=r"one draw and one number of labelled subjects, found 0 and \[2\]"):
        adaptation_curve(model, target, n_support=(2,), n_draws=0)
