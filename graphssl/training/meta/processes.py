"""The tasks of a meta-step spread over processes, with what all of them find put together in each."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from graphssl.errors import ConfigError, GraphSSLError

_Found = TypeVar("_Found")


class Processes:
    """This process among those that share the tasks of a step; alone where no Fabric is given.

    Args:
        fabric: Lightning's Fabric in a process that it, torchrun or SLURM started.
        device: Where to compute, alone.
    """

    def __init__(self, fabric: Fabric | None = None, device: torch.device | str = "cpu") -> None:
        self.fabric = fabric
        self.rank, self.n = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
        self.device = torch.device(device) if fabric is None else fabric.device

    def share(self, n_tasks: int) -> list[int]:
        """Places of this process's tasks, every `n`-th; none where there are more processes than tasks."""
        return list(range(self.rank, n_tasks, self.n))

    def gathered(self, own: Tensor, n_tasks: int) -> Tensor:
        """Values of all tasks in order; those of this process keep their graph, those of others are constants.

        Args:
            own: A row for each task of this process.
            n_tasks: Number of tasks of all processes.
        """
        if self.fabric is None:
            return own
        places = torch.tensor(self.share(n_tasks), dtype=torch.long, device=own.device)
        rows = own.detach().new_zeros(n_tasks, *own.shape[1:]).index_copy(0, places, own.detach())
        return self._sum(rows).index_copy(0, places, own)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make each gradient the sum of those of all processes; a parameter that none has used keeps none."""
        if self.fabric is None:
            return
        held = list(parameters)
        used = torch.tensor([float(parameter.grad is not None) for parameter in held], device=self.device)
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in held]
        *flat, counts = self._sum(torch.cat([*(gradient.flatten() for gradient in gradients), used])).split([*(p.numel() for p in held), len(held)])
        for parameter, gradient, count in zip(held, flat, counts.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if count else None

    def together(self, function: Callable[..., _Found], *arguments: Any) -> _Found:
        """What a function finds in this process; an error of one process is raised in all, so that none waits for it.

        Raises:
            GraphSSLError: If the function raises it in one of the processes.
        """
        if self.fabric is None:
            return function(*arguments)
        found, error = None, None
        try:
            found = function(*arguments)
        except GraphSSLError as raised:
            error = raised
        if bool(self._sum(torch.tensor(float(error is not None), device=self.device))):
            raise GraphSSLError(next(message for message in self._told(None if error is None else str(error)) if message))
        assert found is not None
        return found

    def same(self, value: object) -> bool:
        """Whether a value is the same in all processes."""
        return self.fabric is None or len(set(self._told(repr(value)))) == 1

    def copy_of_first(self, buffers: Iterable[Tensor]) -> None:
        """Overwrite buffers by those of the first process: what a layer or an objective remembers of its own rows differs elsewhere."""
        for buffer in buffers if self.fabric is not None else ():
            torch.distributed.broadcast(buffer, src=0)

    def _sum(self, values: Tensor) -> Tensor:
        assert self.fabric is not None
        summed = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    def _told(self, words: str | None) -> Sequence[str | None]:
        said: list[str | None] = [None] * self.n
        torch.distributed.all_gather_object(said, words)
        return said


def launch(function: Callable[..., _Found], arguments: Sequence[Any], *, accelerator: str, devices: int, nodes: int) -> _Found:
    """Run a function in several processes by Lightning's Fabric: those of torchrun or SLURM where these started this one, else new ones here.

    Args:
        function: Takes the `Fabric` and the arguments.
        arguments: What new processes are sent.
        accelerator: `cpu` (gloo) or `gpu` (NCCL).
        devices: Processes a node.
        nodes: Number of nodes.

    Returns:
        What it returns in the first process; in each its own where torchrun or SLURM started them.

    Raises:
        ConfigError: If there are not as many GPUs, torchrun or SLURM started another number of processes, or neither started those of several nodes.
    """
    started = cluster()
    if started is None and nodes > 1:
        raise ConfigError(f"Expected torchrun or SLURM to start the processes of {nodes} nodes, found neither. Start the command by one of them.")
    if started is not None and started.world_size() != devices * nodes:
        raise ConfigError(
            f"Expected as many processes as devices × nodes, {devices} × {nodes}, found {started.world_size()} started by {type(started).__name__}. "
            "Set devices to the processes of a node."
        )
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp_spawn" if started is None else "ddp",
            plugins=None if started is None else [started],
        )
    except (RuntimeError, MisconfigurationException) as error:
        raise ConfigError(f"Expected {devices} devices for the accelerator {accelerator!r}, found something else: {error}") from error
    # As a part of the function, since Lightning looks into arguments and cannot look into frozen dataclasses.
    found: _Found = fabric.launch(partial(_call, function, tuple(arguments)))
    return found


def cluster() -> ClusterEnvironment | None:
    """What started this process as one of several: torchrun or SLURM; None where neither did."""
    return next((kind() for kind in (TorchElasticEnvironment, SLURMEnvironment) if kind.detect()), None)


def is_first(n_processes: int) -> bool:
    """Whether this process is the one that writes; the only one, where neither torchrun nor SLURM started it.

    Args:
        n_processes: How many were asked for.

    Raises:
        ConfigError: If one was asked for, and torchrun or SLURM started several, which would all do the same.
    """
    started = cluster()
    if started is None:
        return True
    if n_processes == 1 and started.world_size() > 1:
        raise ConfigError(f"Expected one process, found {started.world_size()} started by {type(started).__name__}. Set settings.devices to as many.")
    return started.global_rank() == 0


def _call(function: Callable[..., _Found], arguments: tuple[Any, ...], fabric: Fabric) -> _Found:
    return function(fabric, *arguments)
