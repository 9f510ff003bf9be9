"""Generated rates: where they start, that their gradient is true, and that a network of them learns whose task to follow."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.training.meta import AdaptiveStep, GradientStep, InnerLoop, query_losses, rates_of_tasks, support_gradients


def network_loss(parameters, batch):
    x, y = batch
    return (torch.tanh(x @ parameters["first"]) @ parameters["second"] - y).square().mean()


def network():
    generator = torch.Generator().manual_seed(0)
    made = {"first": torch.randn(3, 4, generator=generator).double(), "second": torch.randn(4, generator=generator).double()}
    return {name: tensor.requires_grad_() for name, tensor in made.items()}


def tasks(n_tasks=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(5, 3, generator=generator).double(), torch.randn(5, generator=generator).double()) for _ in range(n_tasks)]


def trained(step, seed=0):
    """With weights as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in step.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return step


@pytest.mark.parametrize("path", ["vmap", "sequential"])
def test_it_starts_as_a_step_of_the_given_rates(path):
    parameters = network()
    step = AdaptiveStep(list(parameters), learning_rate=0.1, weight_decay=0.3).double()
    found, expected = (
        query_losses(network_loss, parameters, tasks(seed=1), tasks(seed=2), InnerLoop(update, n_steps=2), path=path)
        for update in (step, GradientStep(0.1, 0.3))
    )
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("path", ["vmap", "sequential"])
@pytest.mark.parametrize("first_order", [False, True])
def test_its_weights_are_trained_by_the_true_gradient(path, first_order):
    parameters = network()
    step = trained(AdaptiveStep(list(parameters), learning_rate=0.1, weight_decay=0.3).double())
    inner = InnerLoop(step, first_order=first_order)

    def total():
        return query_losses(network_loss, parameters, tasks(seed=1), tasks(seed=2), inner, path=path).sum()

    found = torch.autograd.grad(total(), list(step.parameters()))
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) for parameter in step.parameters()]
    values = []
    for sign in (1, -2, 1):  # ahead, behind, and back
        for parameter, d in zip(step.parameters(), direction, strict=True):
            parameter.data += sign * 1e-6 * d
        values.append(total().detach())
    expected = (values[0] - values[1]) / 2e-6
    assert torch.allclose(sum((g * d).sum() for g, d in zip(found, direction, strict=True)), expected, rtol=1e-5)


@pytest.mark.parametrize("path", ["vmap", "sequential"])
def test_rates_of_tasks_follow_their_means(path):
    parameters = network()
    step = trained(AdaptiveStep(list(parameters), learning_rate=0.1, weight_decay=0.3).double())
    alpha, beta = rates_of_tasks(step, network_loss, parameters, tasks(), path=path)
    assert alpha.shape == beta.shape == (3, 2)
    assert ((alpha > 0) & (alpha < 0.2)).all()
    assert ((beta > 0) & (beta < 0.6)).all()
    gradients = support_gradients(network_loss, parameters, tasks(), path=path)
    for k, batch in enumerate(tasks()):
        own = dict(zip(parameters, torch.autograd.grad(network_loss(parameters, batch), list(parameters.values())), strict=True))
        assert all(torch.allclose(gradients[name][k], own[name]) for name in own)
        assert torch.allclose(torch.stack(step.rates(parameters, own)), torch.stack([alpha[k], beta[k]]))


def test_a_source_whose_labels_say_nothing_is_followed_less():
    """Two kinds of tasks: queries like their support, and queries that have nothing to do with it."""
    generator = torch.Generator().manual_seed(0)
    parameters = {"theta": torch.zeros(4, requires_grad=True)}
    step = AdaptiveStep(["theta"], learning_rate=0.5, weight_decay=0.0)
    optimiser = torch.optim.Adam(step.parameters(), lr=0.02)

    def loss(parameters, batch):
        return 0.5 * (parameters["theta"] - batch).square().sum()

    for _ in range(100):
        honest = 1 + 0.1 * torch.randn(4, generator=generator)
        misleading = -1 + 0.1 * torch.randn(4, generator=generator)
        losses = query_losses(loss, parameters, [honest, misleading], [honest, 0 * misleading], InnerLoop(step), path="vmap")
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
    alpha, _ = rates_of_tasks(step, loss, parameters, [torch.ones(4), -torch.ones(4)])
    assert alpha[0] > 0.8
    assert alpha[1] < 0.2


def test_refusals():
    with pytest.raises(ConfigError, match="found 0 names, learning_rate=0.01"):
        AdaptiveStep([])
    with pytest.raises(ConfigError, match="learning_rate=-1"):
        AdaptiveStep(["a"], learning_rate=-1)
    step = AdaptiveStep(["first"]).double()
    with pytest.raises(ConfigError, match=r"Expected the 1 tensors \['first'\] …, found 2"):
        query_losses(network_loss, network(), tasks(), tasks(), InnerLoop(step), path="sequential")
    with pytest.raises(ConfigError, match=r"tensors of the generator, found none for \['third'\]"):
        rates_of_tasks(AdaptiveStep(["third"]), network_loss, network(), tasks())
