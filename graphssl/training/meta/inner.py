"""Differentiable steps inside of a step: what the support of a task makes of the parameters, and how good that is on its query.

A task's loss is a function of a dictionary of parameters and a batch, so that any module and any objective can be adapted; `as_function` makes it of
a module. Many tasks run at once under `torch.func.vmap`, with one fused forward, or one after the other, with the same numbers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, GraphSSLError, InputError
from graphssl.objectives.base import AbstractObjective
from graphssl.training.meta.stack import stack

Parameters = dict[str, Tensor]
TaskLoss = Callable[[Parameters, Any], Tensor]
Path = Literal["auto", "vmap", "sequential"]


class Update(Protocol):
    """What a step makes of parameters and their gradients; both hold the tensors that are adapted, by name."""

    def __call__(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        """Parameters after the step."""


@dataclass(frozen=True)
class GradientStep:
    """A step of gradient descent with weight decay, `θ' = (1 − α β) θ − α g`.

    Args:
        learning_rate: `α`, for all tensors, or by name; a tensor of the parameter's shape gives one to each weight. Tensors may be trained.
        weight_decay: `β`, likewise.
    """

    learning_rate: float | Tensor | Mapping[str, float | Tensor]
    weight_decay: float | Tensor | Mapping[str, float | Tensor] = 0.0

    def __call__(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        """Parameters after the step.

        Raises:
            ConfigError: If a tensor has no learning rate or no weight decay.
        """
        moved = {}
        for name, theta in parameters.items():
            alpha, beta = _rate(self.learning_rate, name, "learning rate"), _rate(self.weight_decay, name, "weight decay")
            kept = theta if isinstance(beta, float) and beta == 0 else (1 - alpha * beta) * theta
            # One operation where it can be: with few subjects a task, most of a step is arithmetic on weights.
            moved[name] = torch.sub(kept, gradients[name], alpha=alpha) if isinstance(alpha, float) else kept - alpha * gradients[name]
        return moved


@dataclass(frozen=True)
class InnerLoop:
    """How a task is adapted to.

    Args:
        update: What a step does, such as a `GradientStep`.
        n_steps: Number of steps on the support.
        first_order: Whether gradients of steps are taken for constants (first-order MAML); cheaper by about half.
        adapted: Names of the tensors that are adapted; all when left out. The others are still trained by the query's loss.

    Raises:
        ConfigError: If there is no step.
    """

    update: Update
    n_steps: int = 1
    first_order: bool = False
    adapted: Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ConfigError(f"Expected at least one inner step, found n_steps={self.n_steps}.")


class EncoderLoss(nn.Module):
    """The loss of an objective on an encoder as a module of both: a batch in, a scalar out.

    Args:
        encoder: The encoder.
        objective: The objective, prepared for the encoder.
        generator: Where everything random comes from. Under `vmap` each task has draws of its own, which are not those it has one after the other.
    """

    def __init__(self, encoder: AbstractEncoder, objective: AbstractObjective, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder, self.objective, self.generator = encoder, objective, generator

    def forward(self, batch: Any) -> Float[Tensor, ""]:
        """The objective's total."""
        total: Tensor = self.objective(self.encoder, batch, self.generator).total
        return total


def as_function(module: nn.Module, *, first_order: bool = False) -> tuple[TaskLoss, Parameters]:
    """The loss a module returns as a function of its parameters and a batch, and those of its parameters that are trained.

    Args:
        module: Takes a batch and returns a scalar, such as `EncoderLoss`.
        first_order: Whether the inner loop will be of first order, where more layers are allowed.

    Raises:
        ConfigError: If a layer of the module cannot be in an inner loop; see `check_adaptable`.
    """
    check_adaptable(module, first_order=first_order)

    def loss(parameters: Parameters, batch: Any) -> Tensor:
        value: Tensor = functional_call(module, parameters, (batch,))
        return value

    return loss, {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def query_losses(
    loss: TaskLoss,
    parameters: Parameters,
    support: Sequence[Any],
    query: Sequence[Any],
    inner: InnerLoop,
    *,
    path: Path = "auto",
    names: Sequence[str] | None = None,
) -> Float[Tensor, "T"]:
    """Loss of each task's query at the parameters that its support leads to (MAML, Finn et al., ICML 2017).

    A meta-step minimises their sum, or a weighted one.

    Args:
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name, those that the tasks share.
        support: Batch of each task to adapt on: batches, tensors, or tuples, lists and dictionaries of them.
        query: Batch of each task to be good at.
        inner: How a task is adapted to.
        path: `"vmap"` for all tasks at once, which asks for tasks of one form (see `stack`) and for modules that `vmap` can map; `"sequential"` for
            one after the other; `"auto"` for the first where `choose_path` finds it possible. In a loop, ask `choose_path` once and give its answer.
        names: Names of the tasks, for the error.

    Raises:
        ConfigError: If support and query are of different numbers of tasks, or a name in `inner.adapted` is unknown.
        GraphSSLError: If the loss of a task is not finite; the task and the step are named.
    """
    tasks = _paired(support, query)
    path = choose_path(loss, parameters, tasks) if path == "auto" else _known(path)
    with _attention(path, inner.first_order):
        moved, losses = _adapted(loss, parameters, support, inner, path)
        found = _task_losses(loss, query, path)(moved)
    _check_finite(losses, found, names)
    return found


def adapted_parameters(
    loss: TaskLoss, parameters: Parameters, support: Sequence[Any], inner: InnerLoop, *, path: Path = "auto", names: Sequence[str] | None = None
) -> Parameters:
    """Parameters of each of `T` tasks after the steps on its support, `[T, …]` by name.

    Args:
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name.
        support: Batch of each task.
        inner: How many steps of what kind.
        path: `"vmap"` for all tasks at once, `"sequential"` for one after the other; `"auto"` tries the first.
        names: What the tasks are called, for errors.

    Raises:
        ConfigError: If a name in `inner.adapted` is unknown.
        GraphSSLError: If the loss of a task is not finite; the task and the step are named.
    """
    path = choose_path(loss, parameters, [(batch,) for batch in support]) if path == "auto" else _known(path)
    with _attention(path, inner.first_order):
        moved, losses = _adapted(loss, parameters, support, inner, path)
    _check_finite(losses, None, names)
    return moved


def support_gradients(loss: TaskLoss, parameters: Parameters, support: Sequence[Any], *, path: Path = "auto") -> Parameters:
    """Gradients of each task's loss `[T, …]` by name, as constants: what the similarity of tasks and generated learning rates are made of.

    Args:
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name.
        support: Batch of each task.
        path: See `query_losses`.
    """
    path = choose_path(loss, parameters, [(batch,) for batch in support]) if path == "auto" else _known(path)
    with _attention(path, first_order=True):
        return _gradients(_task_losses(loss, support, path), _for_each(parameters, len(support)), parameters, first_order=True)[0]


def adapt(loss: TaskLoss, parameters: Parameters, batch: Any, inner: InnerLoop) -> Parameters:
    """Parameters after the steps on one batch, differentiable with respect to those before; the plain form for one task.

    Args:
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name.
        batch: What is learned from.
        inner: How many steps of what kind.

    Raises:
        ConfigError: If a name in `inner.adapted` is unknown.
        GraphSSLError: If the loss is not finite.
    """
    moved = adapted_parameters(loss, parameters, [batch], inner, path="sequential")
    return {name: tensor.squeeze(0) for name, tensor in moved.items()}


def choose_path(loss: TaskLoss, parameters: Parameters, tasks: Sequence[tuple[Any, ...]]) -> Literal["vmap", "sequential"]:
    """`"vmap"` where tasks can be stacked and a gradient can be mapped over two of them, which is tried; else `"sequential"`.

    What fails to be mapped are mainly sparse layers, whose number of edges differs by task, and objectives that look something up by subject.

    Args:
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name.
        tasks: Support and query of each task.
    """
    if len(tasks) < 2:
        return "sequential"
    try:
        for side in zip(*tasks, strict=True):
            stack(side)
            with torch.random.fork_rng(devices=[]):
                support_gradients(loss, parameters, side[:2], path="vmap")
    except (RuntimeError, InputError):  # vmap says what it cannot map as a RuntimeError
        return "sequential"
    return "vmap"


def twice_differentiable(needed: bool = True) -> AbstractContextManager[Any]:
    """Inside of it attention is computed by plain operations, which have a second derivative; the fused kernels have none.

    Args:
        needed: False changes nothing.
    """
    return sdpa_kernel(SDPBackend.MATH) if needed else nullcontext()


def check_adaptable(module: nn.Module, *, first_order: bool = False) -> None:
    """Check that each layer of a module can be in an inner loop.

    Args:
        module: The module.
        first_order: Whether the inner loop is of first order.

    Raises:
        ConfigError: If a normalisation keeps running statistics, which a step would change for all tasks; or, at second order, if a layer is one of
            DGL's with a softmax over edges, whose second derivatives are wrong without an error.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats and part.training:
            raise ConfigError(
                f"Expected an inner loop without running statistics, found {type(part).__name__} in {name!r}, which would change them for all tasks. "
                "Call torch.func.replace_all_batch_norm_modules_(module), use LayerNorm, or put it into eval()."
            )
        if not first_order and _softmax_of_dgl(part):
            raise ConfigError(
                f"Expected layers with a second derivative, found {type(part).__name__} in {name!r}: DGL's softmax over edges gives a wrong one. "
                "Use PyTorch Geometric (backend='pyg'), or first_order=True."
            )


# Layers of dgl.nn that call edge_softmax, directly or through another layer.
_SOFTMAX_LAYERS = {"AGNNConv", "DotGatConv", "EGATConv", "EdgeGATConv", "GATConv", "GATv2Conv", "HGTConv"}


def _softmax_of_dgl(part: nn.Module) -> bool:
    of_dgl = any(kind.__module__.startswith("dgl.") and kind.__name__ in _SOFTMAX_LAYERS for kind in type(part).__mro__)
    return of_dgl or getattr(part, "backend", None) == "dgl"


def _adapted(loss: TaskLoss, parameters: Parameters, support: Sequence[Any], inner: InnerLoop, path: Path) -> tuple[Parameters, Float[Tensor, "T S"]]:
    """Parameters of each task after the steps, and the support's loss before each."""
    chosen = list(parameters if inner.adapted is None else inner.adapted)
    unknown = sorted(set(chosen) - set(parameters))
    if unknown or not chosen:
        raise ConfigError(f"Expected names of tensors to adapt among {sorted(parameters)[:8]}, found {unknown[:5] or 'none'}.")
    task_losses, update = _task_losses(loss, support, path), _task_updates(inner.update, path)
    moved, losses = _for_each(parameters, len(support)), []
    for _ in range(inner.n_steps):
        gradients, values = _gradients(task_losses, moved, chosen, inner.first_order)
        moved |= update({name: moved[name] for name in chosen}, gradients)
        losses.append(values.detach())
    return moved, torch.stack(losses, dim=1)


def _for_each(parameters: Parameters, n_tasks: int) -> Parameters:
    """The shared parameters as those of each task `[T, …]`."""
    return {name: tensor.expand(n_tasks, *tensor.shape) for name, tensor in parameters.items()}


def _gradients(losses: "_Losses", parameters: Parameters, chosen: Collection[str], first_order: bool) -> tuple[Parameters, Float[Tensor, "T"]]:
    """Gradients of each task's loss with respect to its own parameters `[T, …]`, and the losses: a task's loss depends on no other's."""
    start = {name: tensor.detach() for name, tensor in parameters.items()} if first_order else dict(parameters)
    for name in chosen:
        if not start[name].requires_grad:
            start[name] = start[name].detach().requires_grad_()
    with torch.enable_grad():
        values = losses(start)
        leaves = [start[name] for name in chosen]
        found = torch.autograd.grad(values.sum(), leaves, create_graph=not first_order, allow_unused=True, materialize_grads=True)
    return dict(zip(chosen, found, strict=True)), values


_Losses = Callable[[Parameters], Float[Tensor, "T"]]


def _task_losses(loss: TaskLoss, batches: Sequence[Any], path: Path) -> _Losses:
    """The losses of all tasks as a function of the parameters of each."""
    if path == "vmap":
        stacked = stack(batches)
        mapped = vmap(lambda parameters, tensors: loss(parameters, stacked.task(tensors)), randomness="different")
        return lambda parameters: mapped(parameters, stacked.tensors)
    return lambda parameters: torch.stack([loss(own, batch) for own, batch in zip(_one_by_one(parameters), batches, strict=True)])


def _task_updates(update: Update, path: Path) -> Update:
    """A step of each task."""
    if isinstance(update, GradientStep):  # arithmetic with one rate for all tasks, so that theirs are moved together
        return update
    if path == "vmap":
        return vmap(update)

    def in_turn(parameters: Parameters, gradients: Parameters) -> Parameters:
        moved = [update(*each) for each in zip(_one_by_one(parameters), _one_by_one(gradients), strict=True)]
        return {name: torch.stack([own[name] for own in moved]) for name in moved[0]}

    return in_turn


def _one_by_one(parameters: Parameters) -> list[Parameters]:
    tasks = zip(*(tensor.unbind() for tensor in parameters.values()), strict=True)
    return [dict(zip(parameters, tensors, strict=True)) for tensors in tasks]


def _attention(path: Path, first_order: bool) -> AbstractContextManager[Any]:
    """Plain attention where the fused one lacks a second derivative, or, on the CPU, a rule for `vmap`."""
    return twice_differentiable(path == "vmap" or not first_order)


def _paired(support: Sequence[Any], query: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(support) != len(query) or not support:
        raise ConfigError(f"Expected a support and a query for each of one or more tasks, found {len(support)} and {len(query)}.")
    return list(zip(support, query, strict=True))


def _known(path: Path) -> Path:
    if path not in ("vmap", "sequential"):
        raise ConfigError(f"Expected the path 'auto', 'vmap' or 'sequential', found {path!r}.")
    return path


def _rate(rates: float | Tensor | Mapping[str, float | Tensor], name: str, what: str) -> float | Tensor:
    if not isinstance(rates, Mapping):
        return rates
    if name not in rates:
        raise ConfigError(f"Expected a {what} for {name!r}, found those of {sorted(rates)[:5]}. Give one for every tensor that is adapted.")
    return rates[name]


def _check_finite(support: Float[Tensor, "T S"], query: Float[Tensor, "T"] | None, names: Sequence[str] | None) -> None:
    """Raise where a loss is not finite, with the task's name."""
    values = support.detach() if query is None else torch.cat([support, query.unsqueeze(1)], dim=1).detach()
    if bool(values.isfinite().all()):
        return
    task, step = (int(place) for place in (~values.isfinite()).nonzero()[0])
    name = str(task) if names is None else repr(names[task])
    where = f"inner step {step + 1} of {support.shape[1]}" if step < support.shape[1] else f"the query after {support.shape[1]} inner steps"
    raise GraphSSLError(
        f"Expected finite losses in every task, found {float(values[task, step])} in task {name} at {where}. "
        "Lower the inner learning rate, or look at the data of that task."
    )
