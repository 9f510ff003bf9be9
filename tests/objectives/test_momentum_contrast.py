"""MoCo against the pseudocode of the paper, one query at a time; the queue takes in the step's keys and never compares a subject with itself."""

import math

import pytest
import torch
from torch.nn import functional as F

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import MoCo
from graphssl.objectives.momentum_contrast import momentum_logits, owner_numbers


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def prepared(encoder, **options):
    torch.manual_seed(1)
    return MoCo(**{"width": 6, "hidden": 8, "queue_size": 12, **options}).prepare(encoder)


def slow_loss(queries, keys, queue, left_out, temperature):
    """Algorithm 1: cross-entropy of the own key among it and the queue."""
    total = 0.0
    for row, (query, key) in enumerate(zip(queries, keys, strict=True)):
        query = query / query.norm()
        own = float(query @ key) / temperature
        others = [float(query @ other) / temperature for column, other in enumerate(queue) if not left_out[row, column]]
        total += math.log(sum(math.exp(value) for value in [own, *others])) - own
    return total / len(queries)


def test_the_loss_and_its_gradient_are_those_of_the_paper():
    queries = torch.randn(4, 5, generator=generator(), dtype=torch.float64, requires_grad=True)
    keys, queue = (F.normalize(torch.randn(n, 5, generator=generator(n), dtype=torch.float64), dim=1) for n in (4, 9))
    left_out = torch.rand(4, 9, generator=generator(2)) < 0.3
    logits = momentum_logits(queries, keys, queue, left_out, 0.2).double()
    loss = F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
    assert float(loss.detach()) == pytest.approx(slow_loss(queries.detach(), keys, queue, left_out, 0.2), rel=1e-5)
    loss.backward()
    step = 1e-5
    for row, column in ((0, 0), (1, 3), (3, 4)):
        moved = [queries.detach().clone() for _ in range(2)]
        moved[0][row, column] += step
        moved[1][row, column] -= step
        by_hand = (slow_loss(moved[0], keys, queue, left_out, 0.2) - slow_loss(moved[1], keys, queue, left_out, 0.2)) / (2 * step)
        assert float(queries.grad[row, column]) == pytest.approx(by_hand, rel=1e-3, abs=1e-6)


def test_an_equal_pair_among_orthogonal_vectors_has_a_closed_form():
    vectors = torch.eye(6)
    logits = momentum_logits(vectors[:2], vectors[:2], vectors[2:], torch.zeros(2, 4, dtype=torch.bool), 0.5)
    assert float(F.cross_entropy(logits, torch.zeros(2, dtype=torch.long))) == pytest.approx(math.log(1 + 4 * math.exp(-2)), rel=1e-6)


def test_the_query_is_the_encoders_and_the_key_the_teachers(make_resnet, make_patients, noise):
    encoder, batch = make_resnet(norm="group"), make_patients()
    objective = prepared(encoder, view=noise())
    loss = objective(encoder, batch, generator(2))
    source = generator(2)
    views = noise()(batch, source), noise()(batch, source)
    with torch.no_grad():
        query, key = objective.projector(encoder(views[0]).pooled), F.normalize(objective.teacher(views[1]), dim=1)
    expected = slow_loss(query, key, objective.queue["keys"], torch.zeros(6, 12, dtype=torch.bool), 0.2)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    loss.total.backward()
    assert encoder.conv1.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_keys_are_remembered_after_the_step_and_not_compared_with_their_own_subject(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, view=noise())
    before = objective.queue["keys"].clone()
    losses = [float(objective.eval()(encoder, make_patients(), generator(2)).total.detach()) for _ in range(2)]
    objective.after_step(encoder, 0.1)
    assert torch.equal(objective.queue["keys"], before)  # nothing of an evaluation is remembered
    losses.append(float(objective.train()(encoder, make_patients(), generator(2)).total.detach()))
    assert len(set(losses[:2])) == 1
    assert torch.equal(objective.queue["keys"], before)  # the same step gives the same loss
    objective.after_step(encoder, 0.2)
    assert torch.equal(objective.queue["keys"][:6], before[6:])
    torch.testing.assert_close(objective.queue["keys"][6:].norm(dim=1), torch.ones(6))
    assert torch.equal(objective.queue["owners"][6:], owner_numbers(make_patients()))
    same, others = make_patients(), make_patients()
    others = ImageBatch(tuple(f"other-{k}" for k in range(6)), others.images)
    few, many = (float(objective.eval()(encoder, batch, generator(3)).total.detach()) for batch in (same, others))
    assert few < many  # the six keys of the patients themselves are left out, of others they are negatives


def test_a_number_of_a_subject_is_the_same_everywhere(make_patients):
    numbers = owner_numbers(make_patients())
    assert torch.equal(numbers[[2, 0]], owner_numbers(make_patients()[[2, 0]]))
    assert len(set(numbers.tolist())) == 6
    assert int(numbers.min()) >= 0


def test_the_teacher_keeps_running_means_and_follows_at_one_pace(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="batch")
    objective = prepared(encoder, view=noise(), momentum=0.5)
    assert not any(module.training for module in objective.train().teacher.encoder.modules())
    alone, together = (objective.teacher(batch) for batch in (make_patients()[[0, 1]], make_patients()))
    torch.testing.assert_close(alone, together[:2])
    before = objective.teacher.encoder.conv1.weight.clone()
    with torch.no_grad():
        encoder.conv1.weight.add_(1.0)
    for share in (0.5, 0.75):
        objective.after_step(encoder, 1.0)
        torch.testing.assert_close(objective.teacher.encoder.conv1.weight, before + share)


def test_the_loss_falls(make_resnet, make_patients, noise, train):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, view=noise(), queue_size=24, momentum=0.9)
    losses = train(objective, encoder, make_patients(12), 40, 2e-2)
    parts = objective(encoder, make_patients(12), generator(40)).parts
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert parts["projected_spread"] > 0.1
    assert parts["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queue_size": 0}, r"above 0, found \{'queue_size': 0\}"),
        ({"momentum": 2.0}, r"momentum in \[0, 1\], found 2.0"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_impossible_arguments_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        MoCo(**wrong)


def test_one_subject_is_refused(make_resnet, make_patients):
    encoder = make_resnet(norm="group")
    with pytest.raises(DataError, match="at least two subjects"):
        prepared(encoder)(encoder, make_patients(1), generator())
