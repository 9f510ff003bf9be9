"""The module that Lightning trains: an encoder and an objective."""

import math
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from graphssl.data.batch import Batch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import GraphSSLError
from graphssl.objectives.base import AbstractObjective
from graphssl.training.accumulation import rows_at_once


class Learner(pl.LightningModule):
    """Trains an encoder on an objective with AdamW, a short warm-up and a cosine decay.

    All randomness of a step comes from the seed and the step's number: a run that was killed and resumed repeats an unbroken one.

    Args:
        encoder: The encoder.
        objective: The objective, prepared for the encoder.
        learning_rate: Highest learning rate.
        weight_decay: Weight decay of matrices; vectors have none.
        n_steps: Steps of the whole training, for the schedule.
        seed: Seed of masks and dropout.
        rows_at_once: Rows that pass the encoder at once in a step; all of the minibatch when left out.
    """

    def __init__(
        self,
        encoder: AbstractEncoder,
        objective: AbstractObjective,
        *,
        learning_rate: float,
        weight_decay: float,
        n_steps: int,
        seed: int,
        rows_at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.n_steps, self.seed, self.rows_at_once = max(1, n_steps), seed, rows_at_once
        self.history: list[dict[str, float]] = []
        self._running: dict[str, list[Tensor]] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; a loss that is not finite stops the run."""
        step_seed = (self.seed * 1_000_003 + self.global_step) % 2**63
        torch.manual_seed(step_seed)
        with nullcontext() if self.rows_at_once is None else rows_at_once(self.encoder, self.rows_at_once, maps=self.objective.reads_maps):
            loss = self.objective(self.encoder, batch, torch.Generator().manual_seed(step_seed))
        self._check_finite(loss.total, batch, "training")
        self._note("train", {"loss": loss.total.detach(), **loss.parts})
        self.log("train_loss", loss.total.detach(), prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss.total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Tell the objective of the optimiser's step."""
        self.objective.after_step(self.encoder, self.global_step / self.n_steps)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The loss with the same draws every epoch, so that epochs compare."""
        loss = self.objective(self.encoder, batch, torch.Generator().manual_seed(self.seed * 1_000_003 + batch_idx))
        self._check_finite(loss.total, batch, "validation")
        self._note("validation", {"loss": loss.total, **loss.parts})
        self.log("validation_loss", loss.total, prog_bar=True, on_epoch=True, batch_size=len(batch))

    def on_train_epoch_end(self) -> None:
        """Write the epoch's means into the history."""
        row = {name: float(torch.stack(values).mean()) for name, values in self._running.items()}
        self.history.append({"epoch": float(self.current_epoch), **row})
        self._running = {}

    def on_validation_epoch_start(self) -> None:
        """Forget what a sanity check or an unfinished epoch left."""
        self._running = {name: values for name, values in self._running.items() if not name.startswith("validation")}

    def configure_optimizers(self) -> Any:
        """AdamW with decay on matrices only; warm-up over a tenth of the steps, then cosine to a hundredth."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(self.n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history with the weights."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history up again."""
        self.history = list(checkpoint["history"])

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch; Lightning knows only tensors and collections of them."""
        return batch.to(device)

    def _check_finite(self, loss: Tensor, batch: Batch, stage: str) -> None:
        if not torch.isfinite(loss):
            raise GraphSSLError(
                f"Expected a finite {stage} loss at step {self.global_step}, found {loss.item()} (subjects {list(batch.subject_ids[:3])} …). "
                "The last checkpoint is intact; lower the learning rate, or look for extreme values with `graphssl validate`."
            )

    def _note(self, stage: str, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            self._running.setdefault(f"{stage}_{name}", []).append(value.detach().float())


class WarmupCosine:
    """Share of the highest learning rate by step: a warm-up over a tenth of the steps, then a cosine to a hundredth.

    Args:
        n_steps: Steps of the whole training.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.warmup = n_steps, max(1, n_steps // 10)

    def __call__(self, step: int) -> float:
        """The share at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.n_steps - self.warmup))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
