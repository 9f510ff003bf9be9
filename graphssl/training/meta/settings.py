"""How long, how fast and on what tasks to meta-train."""

from dataclasses import dataclass

import torch

from graphssl.errors import ConfigError


@dataclass(frozen=True)
class MetaSettings:
    """How long, how fast and on what tasks to meta-train.

    Args:
        max_epochs: Meta-epochs.
        steps_per_epoch: Steps a meta-epoch; each draws a task of every source.
        n_support: Subjects of each class to adapt on; of all subjects without labels.
        n_query: Subjects of each class to be good at.
        learning_rate: Highest learning rate of the meta-steps.
        weight_decay: Weight decay of the meta-steps.
        accelerator: `cpu`, `gpu`, or `auto` for a GPU where there is one.
        devices: Processes of a node, each with a device, over which the tasks of a step are spread; those of torchrun or SLURM where these
            started the command, else new ones.
        nodes: Number of nodes; several are started by torchrun or SLURM.
        progress: Whether to show progress on stderr.

    Raises:
        ConfigError: If a number is not positive, or the accelerator is unknown.
    """

    max_epochs: int = 20
    steps_per_epoch: int = 10
    n_support: int = 10
    n_query: int = 10
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("max_epochs", "steps_per_epoch", "n_support", "n_query", "learning_rate", "devices", "nodes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"Expected {name} above 0, found {getattr(self, name)}.")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise ConfigError(f"Expected the accelerator 'auto', 'cpu' or 'gpu', found {self.accelerator!r}.")

    @property
    def device(self) -> str:
        """Where it runs."""
        use_gpu = self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())
        return "cuda" if use_gpu else "cpu"
