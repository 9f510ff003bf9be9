"""How several processes come to train together: started by torchrun or SLURM, or here."""

import atexit
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies import DDPStrategy

from graphssl.errors import ConfigError
from graphssl.processes import Processes

_Found = TypeVar("_Found")


def cluster() -> ClusterEnvironment | None:
    """What started this process as one of several: torchrun or SLURM's srun; None where neither did, or for one process alone.

    An allocation of SLURM says how many tasks it has to whatever runs in it; only what srun has started is one of them.

    Raises:
        ConfigError: If SLURM was told the number of tasks, and not that of each node.
    """
    by_srun = "SLURM_STEP_ID" in os.environ
    kinds = (kind for kind, counts in ((TorchElasticEnvironment, True), (SLURMEnvironment, by_srun)) if counts and kind.detect())
    try:
        return next((started for kind in kinds if (started := kind()).world_size() > 1), None)
    except RuntimeError as error:  # Lightning asks for the number of tasks a node
        raise ConfigError(f"Expected the tasks of SLURM to be told by node, found something else: {error}") from error


def joined(accelerator: str = "auto") -> Processes:
    """The processes that torchrun or SLURM started, which wait here for one another at first; this one alone where neither did.

    Args:
        accelerator: Lightning's name of the device kind: `auto`, `cpu`, `gpu`.

    Raises:
        ConfigError: If there is no GPU for each process of this machine, and GPUs are to be used.
    """
    started = cluster()
    if started is None:
        return Processes()
    place, n_gpus = started.local_rank(), torch.cuda.device_count()
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and n_gpus > 0)
    if on_gpu and n_gpus < processes_of_a_node(started):
        raise ConfigError(
            f"Expected a GPU for each of the {processes_of_a_node(started)} processes of a machine, found {n_gpus}. "
            "Start as many processes as there are GPUs, or set accelerator to cpu."
        )
    device = torch.device("cuda", place) if on_gpu else torch.device("cpu")
    if not torch.distributed.is_initialized():
        if on_gpu:
            torch.cuda.set_device(device)
        torch.distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            init_method=f"tcp://{started.main_address}:{started.main_port}",
            rank=started.global_rank(),
            world_size=started.world_size(),
        )
        atexit.register(_leave)
    return Processes(started.global_rank(), started.world_size(), device)


def processes_of_a_node(started: ClusterEnvironment) -> int:
    """Number of processes of each machine, the same on all."""
    if isinstance(started, TorchElasticEnvironment):
        return int(os.environ.get("LOCAL_WORLD_SIZE", started.world_size()))
    return started.world_size() // int(os.environ.get("SLURM_NNODES", os.environ.get("SLURM_JOB_NUM_NODES", 1)))


def trainer_arguments() -> dict[str, Any]:
    """What Lightning's `Trainer` is told of the processes that torchrun or SLURM started; one device where neither did."""
    started = cluster()
    if started is None:
        return {"devices": 1}
    a_node = processes_of_a_node(started)
    return {
        "devices": a_node,
        "num_nodes": started.world_size() // a_node,
        # Buffers are the same in all processes; which parameters have a gradient depends on the step (frozen prototypes, a share without rows).
        "strategy": DDPStrategy(broadcast_buffers=False, find_unused_parameters=True),
        "plugins": [started],
        "use_distributed_sampler": False,
    }


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


def as_started(devices: int, nodes: int) -> tuple[int, int]:
    """Processes of a node and nodes: those that were asked for, or what torchrun or SLURM started where one process was.

    Args:
        devices: Processes of a node that were asked for.
        nodes: Nodes that were asked for.
    """
    started = cluster()
    if started is None or devices * nodes > 1:
        return devices, nodes
    a_node = processes_of_a_node(started)
    return a_node, started.world_size() // a_node


def is_first() -> bool:
    """Whether this process is the one that writes; the only one, where neither torchrun nor SLURM started several."""
    started = cluster()
    return started is None or started.global_rank() == 0


def check_alone(what: str) -> None:
    """Check that this process is the only one.

    Args:
        what: What would be done by all of them alike.

    Raises:
        ConfigError: If torchrun or SLURM started several.
    """
    started = cluster()
    if started is not None:
        raise ConfigError(
            f"Expected one process for {what}, found {started.world_size()} that torchrun or SLURM started. Start it without them; "
            "pretrain, finetune and meta-train take several."
        )


def _call(function: Callable[..., _Found], arguments: tuple[Any, ...], fabric: Fabric) -> _Found:
    return function(fabric, *arguments)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
