"""BYOL and DINO against the pseudocode of the papers in loops; the gradient goes to the encoder and never to the teacher."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import ConfigError
from graphssl.objectives import BYOL, DINO
from graphssl.objectives.distillation import byol
from graphssl.objectives.multi_crop import cross_entropies

KINDS = (BYOL, DINO)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def prepared(kind, encoder, **options):
    torch.manual_seed(1)
    return kind(**{"width": 6, "hidden": 8, **options}).prepare(encoder)


def slow_byol(predicted, target):
    """Mean over rows of the squared distance of vectors of length one."""
    total = 0.0
    for one, other in zip(predicted.tolist(), target.tolist(), strict=True):
        total += sum((a / math.hypot(*one) - b / math.hypot(*other)) ** 2 for a, b in zip(one, other, strict=True))
    return total / len(predicted)


def softmax(values):
    top = max(values)
    exponentials = [math.exp(value - top) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def slow_dino(scores, taught, center, temperature, teacher_temperature):
    """Function H of algorithm 1, one row and prototype at a time."""
    total = 0.0
    for mine, theirs in zip(scores.tolist(), taught.tolist(), strict=True):
        target = softmax([(t - c) / teacher_temperature for t, c in zip(theirs, center.tolist(), strict=True)])
        shares = softmax([s / temperature for s in mine])
        total -= sum(t * math.log(s) for t, s in zip(target, shares, strict=True))
    return total / len(scores)


def dino(scores, taught, center, temperature=0.1, teacher_temperature=0.04):
    """The objective's loss of one view against the teacher's answer to another."""
    target = torch.softmax((taught - center) / teacher_temperature, dim=1)
    return cross_entropies([scores, scores], [target, target], temperature)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_losses_are_those_of_the_papers(n, width, seed):
    first, second = torch.randn(2, n, width, generator=generator(seed))
    center = torch.randn(width, generator=generator(seed + 1))
    assert float(byol(first, second)) == pytest.approx(slow_byol(first, second), rel=1e-4, abs=1e-5)
    assert float(dino(first, second, center, 0.3, 0.2)) == pytest.approx(slow_dino(first, second, center, 0.3, 0.2), rel=1e-4, abs=1e-5)


def test_closed_forms():
    vectors = torch.randn(5, 3, generator=generator())
    assert float(byol(vectors, 3 * vectors)) == pytest.approx(0, abs=1e-6)
    assert float(byol(vectors, -vectors)) == pytest.approx(4, rel=1e-6)
    alike = torch.zeros(5, 7)
    assert float(dino(alike, alike, torch.zeros(7))) == pytest.approx(math.log(7), rel=1e-6)
    sure = 10 * torch.eye(7)
    assert float(dino(sure, sure, torch.zeros(7))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [byol, lambda first, second: dino(first, second, torch.zeros(4))])
def test_no_gradient_reaches_what_is_predicted(loss):
    first, second = torch.randn(2, 5, 4, generator=generator()).unbind()
    first.requires_grad_()
    second.requires_grad_()
    loss(first, second).backward()
    assert first.grad.abs().max() > 0
    assert second.grad is None


def test_byol_is_the_loss_of_both_directions(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(5, 8)
    objective = prepared(BYOL, encoder)
    with torch.no_grad():
        loss = objective(encoder, batch, generator(2))
        source = generator(2)
        views = objective.view(batch, source), objective.view(batch, source)
        predicted = [objective.predictor(objective.projector(encoder(view).pooled)) for view in views]
        taught = [objective.projector(encoder(view).pooled) for view in views]  # the teacher is still the encoder's copy
    expected = slow_byol(predicted[0], taught[1]) + slow_byol(predicted[1], taught[0])
    assert float(loss.total) == pytest.approx(expected, rel=1e-4)


def test_dino_is_the_loss_of_both_directions(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(5, 8)
    objective = prepared(DINO, encoder, n_prototypes=9)
    objective.center.copy_(torch.linspace(-0.1, 0.1, 9))
    center = objective.center.clone()
    with torch.no_grad():
        loss = objective(encoder, batch, generator(2))
        source = generator(2)
        scores = [objective.prototypes(objective.projector(encoder(objective.view(batch, source)).pooled)) for _ in range(2)]
    expected = (slow_dino(scores[0], scores[1], center, 0.1, 0.04) + slow_dino(scores[1], scores[0], center, 0.1, 0.04)) / 2
    assert float(loss.total) == pytest.approx(expected, rel=1e-3)
    assert torch.equal(objective.center, center)
    objective.after_step(encoder, 0.5)
    torch.testing.assert_close(objective.center, 0.9 * center + 0.1 * torch.cat(scores).mean(dim=0))


def test_the_centre_moves_in_training_only(make_encoder, make_batch):
    encoder = make_encoder()
    objective = prepared(DINO, encoder).eval()
    objective(encoder, make_batch(), generator())
    objective.after_step(encoder, 0.5)
    assert not objective.center.any()


def test_the_teacher_sees_whole_views_and_the_encoder_all(make_resnet, make_patients, crops):
    encoder, batch = make_resnet(norm="group"), make_patients(5)
    objective = prepared(DINO, encoder, view=crops(2), n_prototypes=7).eval()
    with torch.no_grad():
        loss = objective(encoder, batch, generator(2))
        views = crops(2)(batch, generator(2))
        scores = [objective.prototypes(objective.projector(encoder(view).pooled)) for view in views]
        taught = [objective.teacher(view) for view in views[:2]]
    slow = [slow_dino(scores[v], taught[w], objective.center, 0.1, 0.04) for w in range(2) for v in range(4) if v != w]
    assert len(slow) == 6
    assert float(loss.total) == pytest.approx(sum(slow) / 6, rel=1e-3)


def test_the_gradient_is_softmax_minus_target():
    scores, taught = torch.randn(2, 4, 5, generator=generator(), dtype=torch.float64).unbind()
    scores.requires_grad_()
    center = torch.linspace(-0.2, 0.2, 5, dtype=torch.float64)
    dino(scores, taught, center, 0.5, 0.3).backward()
    target = torch.softmax((taught - center) / 0.3, dim=1)
    expected = (torch.softmax(scores.detach() / 0.5, dim=1) - target) / 0.5 / 4
    torch.testing.assert_close(scores.grad, expected, rtol=1e-4, atol=1e-6)


def test_the_teachers_temperature_warms_up_on_a_line(make_resnet):
    encoder = make_resnet(norm="group")
    objective = prepared(DINO, encoder, first_teacher_temperature=0.04, teacher_temperature=0.08, warmup=0.5)
    found = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        objective.after_step(encoder, progress)
        found.append(objective.teacher_temperature_now())
    assert found == pytest.approx([0.04, 0.06, 0.08, 0.08])
    assert prepared(DINO, encoder).teacher_temperature_now() == 0.04


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_gets_no_gradient_and_moves_after_a_step(make_encoder, make_batch, kind):
    encoder = make_encoder()
    objective = prepared(kind, encoder, momentum=0.5)
    before = objective.teacher.encoder.pool.project.weight.clone()
    objective(encoder, make_batch(), generator()).total.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert encoder.pool.project.weight.grad.abs().max() > 0
    with torch.no_grad():
        encoder.pool.project.weight.add_(1.0)
    objective.after_step(encoder, 0.0)
    torch.testing.assert_close(objective.teacher.encoder.pool.project.weight, before + 0.5)
    objective.after_step(encoder, 1.0)
    torch.testing.assert_close(objective.teacher.encoder.pool.project.weight, before + 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_vectors_do_not_collapse(make_encoder, scans_of_individuals, kind, train):
    encoder = make_encoder(width=16)
    objective = prepared(kind, encoder, momentum=0.9, width=16, hidden=32)
    losses = train(objective, encoder, scans_of_individuals, 30, 3e-3)
    parts = objective(encoder, scans_of_individuals, generator(30)).parts
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert parts["projected_spread"] > 0.1


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (BYOL, {"momentum": 1.5}, r"momentum in \[0, 1\], found 1.5"),
        (DINO, {"momentum": -0.5}, r"momentum in \[0, 1\], found -0.5"),
        (DINO, {"center_momentum": 2.0}, r"momentum in \[0, 1\], found 2.0"),
        (DINO, {"teacher_temperature": 0.0}, r"above 0, found \{'teacher_temperature': 0.0\}"),
        (DINO, {"first_teacher_temperature": 0.0}, r"above 0, found \{'first_teacher_temperature': 0.0\}"),
        (DINO, {"warmup": -0.5}, r"share of the training in \[0, 1\], found \{'warmup': -0.5\}"),
    ],
)
def test_impossible_arguments_are_refused(kind, wrong, message):
    with pytest.raises(ConfigError, match=message):
        kind(**wrong)
