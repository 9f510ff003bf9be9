"""Reptile against gradient descent task by task."""

import pytest
import torch

from graphssl.errors import GraphSSLError
from graphssl.training.meta import GradientStep, InnerLoop, reptile_gradients


def squared(parameters, batch):
    return 0.5 * (parameters["theta"] - batch).square().sum()


@pytest.mark.parametrize("path", ["vmap", "sequential"])
def test_it_points_from_where_the_tasks_lead_on_average(path):
    theta = torch.tensor([1.0, -1.0], requires_grad=True)
    centres = [torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0]), torch.tensor([1.0, 1.0])]
    found = reptile_gradients(squared, {"theta": theta}, centres, InnerLoop(GradientStep(0.1), n_steps=4), path=path)
    # Each step leaves 0.9 of the way to the centre.
    moved = torch.stack([centre + 0.9**4 * (theta.detach() - centre) for centre in centres])
    assert torch.allclose(found["theta"], theta.detach() - moved.mean(dim=0))
    assert not found["theta"].requires_grad


def test_steps_along_it_find_the_middle_of_the_tasks():
    theta = torch.tensor([8.0], requires_grad=True)
    centres = [torch.tensor([-1.0]), torch.tensor([2.0])]
    optimiser = torch.optim.SGD([theta], lr=1.0)
    for _ in range(50):
        theta.grad = reptile_gradients(squared, {"theta": theta}, centres, InnerLoop(GradientStep(0.1), n_steps=3))["theta"]
        optimiser.step()
    assert torch.allclose(theta, torch.tensor([0.5]), atol=1e-4)


def test_a_task_that_fails_is_named():
    theta, bad = torch.tensor([1.0], requires_grad=True), torch.tensor([float("inf")])
    with pytest.raises(GraphSSLError, match="found inf in task 'NYU' at inner step 1 of 1"):
        reptile_gradients(squared, {"theta": theta}, [torch.tensor([1.0]), bad], InnerLoop(GradientStep(0.1)), names=["UM", "NYU"])
