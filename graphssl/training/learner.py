"""The module that Lightning trains: an encoder and an objective."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from graphssl.data.batch import Batch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import GraphSSLError
from graphssl.objectives.base import AbstractObjective
from graphssl.processes import Processes
from graphssl.training.accumulation import rows_at_once
from graphssl.training.divided import divided
from graphssl.training.layer_decay import layer_scales
from graphssl.training.seeds import nth_seed

# What is measured of the encoder after an epoch, by name; nothing after an epoch that it is not measured after.
Watch = Callable[[AbstractEncoder, int], dict[str, float]]


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
        layer_decay: Learning rate of a layer of the encoder as a share of that of the layer above.
        anchor: Weight of half the squared distance of the encoder's weights from those it has now.
        watch: What is measured of the encoder after an epoch.
        processes: Those that do every step together; this one alone when left out.
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
        layer_decay: float = 1.0,
        anchor: float = 0.0,
        watch: Watch | None = None,
        processes: Processes | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.n_steps, self.seed, self.rows_at_once = max(1, n_steps), seed, rows_at_once
        self.layer_decay, self.anchor, self.watch, self.processes = layer_decay, anchor, watch, processes or Processes()
        self.history: list[dict[str, float]] = []
        self._start = {name: weight.detach().clone() for name, weight in self._anchored().items()}
        self._running: dict[str, list[Tensor]] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; a loss that is not finite stops the run."""
        step_seed = nth_seed(self.seed, self.global_step)
        torch.manual_seed(step_seed)
        in_parts = nullcontext() if self.rows_at_once is None else rows_at_once(self.encoder, self.rows_at_once, maps=self.objective.reads_maps)
        with in_parts, divided(self.encoder, self.objective, self.processes):
            loss = self.objective(self.encoder, batch, torch.Generator().manual_seed(step_seed))
        self._check_finite(loss.total, batch, "training")
        self._note("train", {"loss": loss.total.detach(), **loss.parts})
        self.log("train_loss", loss.total.detach(), prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss.total if not self.anchor else loss.total + self.anchor / 2 * self._distance()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Tell the objective of the optimiser's step."""
        self.objective.after_step(self.encoder, self.global_step / self.n_steps)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The loss with the same draws every epoch, so that epochs compare."""
        with divided(self.encoder, self.objective, self.processes):
            loss = self.objective(self.encoder, batch, torch.Generator().manual_seed(nth_seed(self.seed, batch_idx)))
        self._check_finite(loss.total, batch, "validation")
        self._note("validation", {"loss": loss.total, **loss.parts})
        self.log("validation_loss", loss.total, prog_bar=True, on_epoch=True, batch_size=len(batch), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Write the epoch's means into the history."""
        row = {name: float(torch.stack(values).mean()) for name, values in self._running.items()}
        watched = {} if self.watch is None else self.watch(self.encoder, self.current_epoch)
        self.history.append({"epoch": float(self.current_epoch), **row, **watched})
        self._running = {}

    def on_validation_epoch_start(self) -> None:
        """Forget what a sanity check or an unfinished epoch left."""
        self._running = {name: values for name, values in self._running.items() if not name.startswith("validation")}

    def configure_optimizers(self) -> Any:
        """AdamW with decay on matrices only; warm-up over a tenth of the steps, then cosine to a hundredth."""
        optimizer = torch.optim.AdamW(self._groups(), lr=self.learning_rate)
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

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate, matrices and vectors apart."""
        scales = {} if self.layer_decay == 1 else layer_scales(self.encoder, self.layer_decay)
        by_scale: dict[float, list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                by_scale.setdefault(scales.get(name.removeprefix("encoder."), 1.0) if name.startswith("encoder.") else 1.0, []).append(parameter)
        groups = []
        for scale, trained in (by_scale or {1.0: []}).items():
            matrices, vectors = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]
            rate = self.learning_rate * scale
            groups += [{"params": matrices, "weight_decay": self.weight_decay, "lr": rate}, {"params": vectors, "weight_decay": 0.0, "lr": rate}]
        return groups

    def _anchored(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.encoder.named_parameters() if weight.requires_grad} if self.anchor else {}

    def _distance(self) -> Tensor:
        """Squared distance of the encoder's weights from those it started with (L2-SP; Li, Grandvalet & Davoine, ICML 2018)."""
        parts = [(weight - self._start[name].to(weight.device)).square().sum() for name, weight in self._anchored().items()]
        distance = torch.stack(parts).sum()
        self._note("train", {"distance": distance})
        return distance

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
