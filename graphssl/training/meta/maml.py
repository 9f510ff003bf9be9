"""Model-agnostic meta-learning in the shape of learn2learn: clone, adapt, and let the query's loss train what was cloned."""

import copy
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from graphssl.errors import ConfigError, GraphSSLError
from graphssl.training.meta.inner import GradientStep, Parameters, check_adaptable, twice_differentiable

_Module = TypeVar("_Module", bound=nn.Module)


class MAML(nn.Module):
    """A model whose clones adapt to a task and pass the gradient of their query's loss on to it (Finn et al., ICML 2017).

    For scripts that read like learn2learn's, one task at a time; `query_losses` takes all tasks of a step at once.

        maml = MAML(model, lr=0.01)
        for support, query in tasks:
            learner = maml.clone()
            learner.adapt(loss(learner, support))
            loss(learner, query).backward()  # reaches the parameters of the model

    Args:
        model: Any module, such as an encoder.
        lr: Learning rate of the steps of a clone.
        first_order: Whether gradients of these steps are taken for constants.

    Raises:
        ConfigError: If a layer of the model cannot be in an inner loop; see `check_adaptable`.
    """

    def __init__(self, model: nn.Module, lr: float = 0.01, first_order: bool = False) -> None:
        super().__init__()
        check_adaptable(model, first_order=first_order)
        self.module, self.lr, self.first_order = model, lr, first_order
        self.is_clone = False

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the model makes of its arguments."""
        with twice_differentiable(not self.first_order):
            return self.module(*arguments, **named)

    def clone(self, first_order: bool | None = None) -> Self:
        """A model with the same parameters, which adapts in its place; gradients with respect to its parameters go on to these.

        Args:
            first_order: For this clone, where it is another than the model's.

        Raises:
            ConfigError: If a layer of the model cannot be in an inner loop of second order.
        """
        made = _with_parameters(self, {id(parameter): parameter.clone() for parameter in self.parameters() if parameter.requires_grad})
        made.is_clone = True
        if first_order is not None:
            check_adaptable(self.module, first_order=first_order)
            made.first_order = first_order
        return made

    def adapt(self, loss: Tensor, first_order: bool | None = None) -> None:
        """Take a step down a loss.

        Args:
            loss: Scalar, computed with this clone.
            first_order: For this step, where it is another than the clone's.

        Raises:
            ConfigError: If it is not a clone.
            GraphSSLError: If the loss is not finite.
        """
        if not self.is_clone:
            raise ConfigError("Expected a clone to adapt, found the model itself, whose parameters would be lost. Call learner = maml.clone() first.")
        if not bool(loss.isfinite()):
            raise GraphSSLError(f"Expected a finite loss to adapt to, found {loss.item()}. Lower lr, or look at the data of this task.")
        first_order = self.first_order if first_order is None else first_order
        parameters = self.adapted_parameters()
        # Unused tensors get zeros: heads of other tasks, and the vector of regions that are hidden where none is.
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=not first_order, allow_unused=True, materialize_grads=True)
        moved = self.update()(parameters, dict(zip(parameters, gradients, strict=True)))
        self.module = _with_parameters(self.module, {id(parameters[name]): tensor for name, tensor in moved.items()})

    def adapted_parameters(self) -> Parameters:
        """Tensors that a step moves, by their name in the model."""
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def update(self) -> GradientStep:
        """What a step does; with `InnerLoop` and `query_losses` the same for all tasks at once."""
        return GradientStep(self.lr)

    def __getattr__(self, name: str) -> Any:
        """What is asked of the model, such as `pooled_width`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


class ANIL(MAML):
    """MAML whose clones adapt the head alone (Raghu et al., ICLR 2020); the body is trained by the query's loss.

    Args:
        model: Any module with a head.
        head: Name of the head in the model, such as `"head"`.
        lr: Learning rate of the steps of a clone.
        first_order: Whether gradients of these steps are taken for constants.

    Raises:
        ConfigError: If the model has no parameters under that name, or a layer that cannot be in an inner loop.
    """

    def __init__(self, model: nn.Module, head: str, lr: float = 0.01, first_order: bool = False) -> None:
        super().__init__(model, lr, first_order)
        self.head_name = head
        if not self.adapted_parameters():
            known = [name for name, _ in model.named_children()]
            raise ConfigError(f"Expected the name of a part of the model with parameters, found {head!r}. Its parts are {known}.")

    def adapted_parameters(self) -> Parameters:
        """Tensors of the head, by their name in the model."""
        return {name: parameter for name, parameter in super().adapted_parameters().items() if name.startswith(f"{self.head_name}.")}


class MetaSGD(MAML):
    """MAML that learns a learning rate for every weight (Li et al., 2017).

    Args:
        model: Any module.
        lr: Learning rate to start with.
        first_order: Whether gradients of steps are taken for constants; learning rates are trained all the same.

    Raises:
        ConfigError: If a layer of the model cannot be in an inner loop; see `check_adaptable`.
    """

    def __init__(self, model: nn.Module, lr: float = 1.0, first_order: bool = False) -> None:
        super().__init__(model, lr, first_order)
        self.lrs = nn.ParameterList(torch.full_like(parameter, lr) for parameter in self.adapted_parameters().values())

    def learning_rates(self) -> Parameters:
        """Learning rates by name of the tensor, each of its shape."""
        return dict(zip(self.adapted_parameters(), self.lrs, strict=True))

    def update(self) -> GradientStep:
        """A step with the learned rates."""
        return GradientStep(self.learning_rates())


def _with_parameters(module: _Module, tensors: dict[int, Tensor]) -> _Module:
    """A copy of a module with other tensors in the place of some of its own, by their identity; whatever is not replaced is shared."""
    kept = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, {**kept, **tensors})
