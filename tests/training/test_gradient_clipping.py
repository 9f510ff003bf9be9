"""Adaptive gradient clipping: units one at a time, small gradients as they were."""

import pytest
import torch
from torch import nn

from graphssl.errors import ConfigError
from graphssl.training.gradient_clipping import clip_adaptively


def with_gradients(scale):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    for parameter in network.parameters():
        parameter.grad = scale * torch.randn_like(parameter)
    return network


def test_small_gradients_are_left_as_they_are():
    network = with_gradients(1e-5)
    before = [parameter.grad.clone() for parameter in network.parameters()]
    clip_adaptively(network.parameters())
    assert all(now.grad.equal(then) for now, then in zip(network.parameters(), before, strict=True))


def test_large_gradients_get_a_share_of_the_norm_of_their_unit_and_keep_their_direction():
    """Against the rule written out in loops."""
    network = with_gradients(10.0)
    before = [parameter.grad.clone() for parameter in network.parameters()]
    clip_adaptively(network.parameters(), factor=0.02)
    for parameter, then in zip(network.parameters(), before, strict=True):
        units = range(len(parameter)) if parameter.dim() > 1 else [slice(None)]
        for unit in units:
            most = 0.02 * max(parameter[unit].norm().item(), 1e-3)
            expected = then[unit] * min(1.0, most / then[unit].norm().item())
            torch.testing.assert_close(parameter.grad[unit], expected)


def test_one_unit_is_clipped_alone():
    layer = nn.Linear(4, 2)
    layer.weight.grad = torch.stack([torch.full((4,), 1e-6), torch.full((4,), 5.0)])
    clip_adaptively([layer.weight, layer.bias])  # the bias has no gradient
    assert layer.weight.grad[0].equal(torch.full((4,), 1e-6))
    assert layer.weight.grad[1].norm() == pytest.approx(0.01 * layer.weight[1].norm().item(), rel=1e-4)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="Expected a share above 0"):
        clip_adaptively([], factor=0.0)
