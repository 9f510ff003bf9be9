"""Reptile: move towards where the tasks lead."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from graphssl.training.meta.inner import InnerLoop, Parameters, Path, TaskLoss, adapted_parameters


def reptile_gradients(
    loss: TaskLoss, parameters: Parameters, support: Sequence[Any], inner: InnerLoop, *, path: Path = "auto", names: Sequence[str] | None = None
) -> Parameters:
    """What Reptile takes for a gradient, `θ − mean_k θ'_k` (Nichol et al., 2018): no derivative of a derivative, and no query.

    Written into `.grad`, any optimiser can take the step; that of the paper is `torch.optim.SGD` with the learning rate `ε`.

    Args:
        loss: Loss of a task as a function of parameters and a batch.
        parameters: Tensors by name.
        support: Batch of each task.
        inner: How a task is adapted to; the paper takes several steps.
        path: See `query_losses`.
        names: Names of the tasks, for the error.

    Raises:
        GraphSSLError: If the loss of a task is not finite; the task and the step are named.
    """
    with torch.no_grad():
        moved = adapted_parameters(loss, parameters, support, replace(inner, first_order=True), path=path, names=names)
        return {name: tensor - moved[name].mean(dim=0) for name, tensor in parameters.items()}
