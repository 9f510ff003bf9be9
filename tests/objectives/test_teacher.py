"""The teacher: a copy that follows slowly, is never trained, and sees without dropout."""

import math

import pytest
import torch
from torch import nn

from graphssl.errors import ConfigError
from graphssl.objectives.teacher import Teacher, check_momentum, momentum_at


@pytest.fixture
def pair(make_encoder):
    """An encoder with dropout, a head with batch normalisation, and their teacher."""
    encoder = make_encoder(dropout=0.5)
    head = nn.Sequential(nn.Linear(encoder.pooled_width, 4), nn.BatchNorm1d(4))
    return encoder, head, Teacher(encoder, head)


def test_it_starts_as_a_copy_that_shares_nothing(pair, make_batch):
    encoder, head, teacher = pair
    mine = {id(tensor) for tensor in (*encoder.parameters(), *head.parameters())}
    assert not mine & {id(tensor) for tensor in teacher.parameters()}
    expected = head(encoder.eval()(make_batch()).pooled)
    torch.testing.assert_close(teacher(make_batch()), expected.detach())


def test_parameters_move_to_a_weighted_mean_and_buffers_are_copied(pair):
    encoder, head, teacher = pair
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.no_grad():
        for tensor in (*encoder.parameters(), *head.parameters(), head[1].running_mean):
            tensor.add_(torch.randn_like(tensor))
    teacher.follow(encoder, head, 0.9)
    for prefix, module in (("encoder", encoder), ("head", head)):
        for name, value in module.named_parameters():
            torch.testing.assert_close(teacher.state_dict()[f"{prefix}.{name}"], 0.9 * before[f"{prefix}.{name}"] + 0.1 * value.detach())
    assert torch.equal(teacher.head[1].running_mean, head[1].running_mean)


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, "teacher"), (0.0, "encoder")])
def test_the_extremes_of_the_momentum(pair, momentum, expected):
    encoder, head, teacher = pair
    before = teacher.encoder.pool.project.weight.clone()
    with torch.no_grad():
        encoder.pool.project.weight.add_(1.0)
    teacher.follow(encoder, head, momentum)
    torch.testing.assert_close(teacher.encoder.pool.project.weight, before if expected == "teacher" else encoder.pool.project.weight.detach())


def test_no_gradient_and_no_dropout(pair, make_batch):
    _, _, teacher = pair
    teacher.train()
    first, second = teacher(make_batch()), teacher(make_batch())
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.head.training
    assert not teacher.encoder.training
    assert not teacher.eval().head.training


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_batch_normalisation_of_the_encoder_uses_the_minibatch_where_asked_to(make_resnet, make_patients, batch_statistics):
    encoder = make_resnet(norm="batch")
    teacher = Teacher(encoder, nn.Linear(encoder.pooled_width, 3), batch_statistics=batch_statistics)
    images, few = make_patients(), make_patients()[[0, 1]]
    for training in (True, False):
        teacher.train(training)
        alone = torch.allclose(teacher(few), teacher(images)[:2], atol=1e-6)
        assert alone == (not (batch_statistics and training))


def test_the_momentum_rises_along_half_a_cosine():
    assert momentum_at(0.9, 0.0) == pytest.approx(0.9)
    assert momentum_at(0.9, 0.5) == pytest.approx(0.95)
    assert momentum_at(0.9, 0.25) == pytest.approx(1 - 0.1 * (1 + math.sqrt(0.5)) / 2)
    assert momentum_at(0.9, 1.0) == 1.0


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_an_impossible_momentum_is_refused(momentum):
    with pytest.raises(ConfigError, match=r"Expected a momentum in \[0, 1\], found"):
        check_momentum(momentum)
