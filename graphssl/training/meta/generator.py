"""Learning rates and weight decays that are made for a task from what its support says of each tensor."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vmap

from graphssl.errors import ConfigError
from graphssl.training.meta.inner import Parameters, Path, TaskLoss, support_gradients


class AdaptiveStep(nn.Module):
    """A step `θ'_i = (1 − α_i β_i) θ_i − α_i g_i` whose rates a small network makes from the mean of each tensor and of its gradient.

    Adaptive reweighting of connectome meta-learning (Yang et al., KDD 2022), whose structure is that of ALFA (Baik et al., NeurIPS 2020). Sources
    that help little get small rates. The network is trained by the true gradient of the queries' losses: give its parameters to the optimiser too. It
    is an `Update` of an `InnerLoop`.

    Means span orders of magnitude, so the network sees their signed logarithm, as do networks that learn to optimise (Andrychowicz et al., NeurIPS
    2016). Rates lie between 0 and twice those given, and start at those given.

    Args:
        names: Names of the tensors that are adapted.
        learning_rate: `α` to start with.
        weight_decay: `β` to start with.
        scale: Mean that counts for small.

    Raises:
        ConfigError: If there is no tensor, or a rate is negative or the scale not positive.
    """

    def __init__(self, names: Sequence[str], learning_rate: float = 0.01, weight_decay: float = 1e-4, scale: float = 1e-4) -> None:
        super().__init__()
        if not names or learning_rate < 0 or weight_decay < 0 or scale <= 0:
            raise ConfigError(
                "Expected names of tensors, rates from 0 and a positive scale, found "
                f"{len(names)} names, learning_rate={learning_rate}, weight_decay={weight_decay}, scale={scale}."
            )
        self.names = tuple(names)
        self.learning_rate, self.weight_decay, self.scale = learning_rate, weight_decay, scale
        n = len(self.names)
        last = nn.Linear(2 * n, 2 * n)
        self.network = nn.Sequential(nn.Linear(2 * n, 2 * n), nn.ReLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        """Parameters after the step.

        Raises:
            ConfigError: If the parameters are not those it was made for.
        """
        rates = self.rates(parameters, gradients)
        moved = {}
        for name, alpha, beta in zip(self.names, *rates, strict=True):
            moved[name] = (1 - alpha * beta) * parameters[name] - alpha * gradients[name]
        return moved

    def rates(self, parameters: Parameters, gradients: Parameters) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
        """Learning rate and weight decay of each tensor, in the order of `names`.

        Raises:
            ConfigError: If the parameters are not those it was made for.
        """
        if set(parameters) != set(self.names):
            raise ConfigError(
                f"Expected the {len(self.names)} tensors {list(self.names)[:3]} …, found {len(parameters)}, {sorted(parameters)[:3]} …. "
                "Make it for the names that the inner loop adapts."
            )
        means = torch.stack([tensors[name].mean() for tensors in (parameters, gradients) for name in self.names])
        made = 2 * torch.sigmoid(self.network(torch.asinh(means / self.scale)))
        alpha, beta = made.chunk(2)
        return self.learning_rate * alpha, self.weight_decay * beta


def rates_of_tasks(
    step: AdaptiveStep, loss: TaskLoss, parameters: Parameters, support: Sequence[Any], *, path: Path = "auto"
) -> tuple[Float[Tensor, "T m"], Float[Tensor, "T m"]]:
    """Learning rate and weight decay of each tensor in the first step of each task: what a report shows of the sources.

    Args:
        step: The trained generator.
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name.
        support: Batch of each task.
        path: See `query_losses`.

    Raises:
        ConfigError: If a tensor of the generator is not among the parameters.
    """
    unknown = sorted(set(step.names) - set(parameters))
    if unknown:
        raise ConfigError(f"Expected parameters with the tensors of the generator, found none for {unknown[:5]}.")
    with torch.no_grad():
        gradients = support_gradients(loss, parameters, support, path=path)
        chosen = {name: parameters[name] for name in step.names}
        alpha, beta = vmap(lambda found: step.rates(chosen, found))({name: gradients[name] for name in step.names})
    return alpha, beta
