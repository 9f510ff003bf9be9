"""Checkpoints that survive a kill at any moment, and the best epoch kept with them."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from graphssl.errors import CheckpointError, RunFolderError
from graphssl.folders import file_written_whole

LAST = "last.ckpt"


class EpochCheckpoint(Checkpoint):
    """Keeps the weights of the best epoch, or of the last, and, given a folder, writes `last.ckpt` after every epoch.

    The file is whole at any moment. It holds the best weights, the history, the optimiser
    and a fingerprint of the run, so that another run's file is never taken up.

    Args:
        monitor: Name of the logged value; lower is better.
        fingerprint: Hash of everything that decides the run's numbers.
        folder: Where to write; nowhere when left out.
        keep_last: Whether the last epoch is kept whatever its value.
    """

    def __init__(self, monitor: str, fingerprint: str, folder: Path | None = None, *, keep_last: bool = False) -> None:
        self.monitor, self.fingerprint, self.folder, self.keep_last = monitor, fingerprint, folder, keep_last
        self.best_score, self.best_epoch = float("inf"), -1
        self.best_weights: dict[str, Tensor] = {}
        self.stopped = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the epoch with the best and write the checkpoint; runs after all other hooks."""
        score = float(trainer.callback_metrics[self.monitor])
        if self.keep_last or score < self.best_score:
            self.best_score, self.best_epoch = score, trainer.current_epoch
            self.best_weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        self.stopped = bool(trainer.should_stop)
        if self.folder is None:
            return
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder / LAST)  # which writes in the first process only, and waits for it
            return
        with file_written_whole(self.folder / LAST) as aside:
            trainer.save_checkpoint(aside)

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint file keeps of this callback."""
        names = ("fingerprint", "best_score", "best_epoch", "best_weights", "stopped")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint file kept."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    @property
    def state_key(self) -> str:
        """Name under which the file keeps the state."""
        return "EpochCheckpoint"

    def resume_from(self) -> Path | None:
        """The checkpoint to go on from, or None where there is none.

        Raises:
            CheckpointError: If the file is truncated, or needs unpickling of more than tensors and plain values.
            RunFolderError: If it belongs to another run.
        """
        path = None if self.folder is None else self.folder / LAST
        if path is None or not path.is_file():
            return None
        state = read_checkpoint(path).get("callbacks", {}).get(self.state_key, {})
        if state.get("fingerprint") != self.fingerprint:
            raise RunFolderError(
                f"Expected the checkpoint of this run in {path.parent}, found one of another run (other data, settings or code of the model). "
                "Choose another run name, or remove the folder."
            )
        self.load_state_dict(state)
        return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling anything but tensors and plain values.

    Raises:
        CheckpointError: If it is absent, truncated or unsafe.
    """
    if not path.is_file():
        raise CheckpointError(f"Expected a checkpoint at {path}, found no such file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        raise CheckpointError(
            f"Expected a whole checkpoint of tensors at {path}, found a truncated file or a pickle of other things ({type(error).__name__}). "
            "Remove it to start this run again from the beginning."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"Expected a checkpoint with named entries at {path}, found a {type(content).__name__}. Remove it to start this run again."
        )
    return content
