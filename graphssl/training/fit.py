"""One way of training, for every objective."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from rich.console import Console
from rich.progress import Progress, TextColumn

from graphssl.data.batch import Batch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, RunFolderError
from graphssl.objectives.base import AbstractObjective
from graphssl.training.batches import loader
from graphssl.training.checkpoint import EpochCheckpoint, read_checkpoint
from graphssl.training.launch import is_first, joined, trainer_arguments
from graphssl.training.learner import Learner, Watch


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Args:
        max_epochs: Epochs at most.
        batch_size: Rows a minibatch.
        learning_rate: Highest learning rate.
        weight_decay: Weight decay of matrices.
        patience: Epochs without a better validation loss before training stops.
        accelerator: Lightning's name of the device kind: `auto`, `cpu`, `gpu`.
        precision: Lightning's name of the precision, such as `32-true` or `bf16-mixed` (GPU).
        rows_at_once: Rows of a minibatch that pass the encoder at once, for large minibatches in little memory, at the price of one more forward
            pass; all when left out. An encoder with batch normalisation is refused (`graphssl.training.accumulation`).
        progress: Whether to show a progress bar on stderr.
        layer_decay: Learning rate of each layer of the encoder as a share of that of the layer above, for fine-tuning; 1 is the same for all
            (`graphssl.training.layer_decay`).
        anchor: Weight of half the squared distance of the encoder's weights from those that training starts with, 0 for none (L2-SP; Li, Grandvalet
            & Davoine, ICML 2018).

    Raises:
        ConfigError: If a number is not positive, the anchor is negative or the layer decay is not in (0, 1].
    """

    max_epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    patience: int = 8
    accelerator: str = "auto"
    precision: str = "32-true"
    progress: bool = False
    rows_at_once: int | None = None
    layer_decay: float = 1.0
    anchor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "learning_rate", "patience", "rows_at_once"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ConfigError(f"Expected {name} above 0, found {getattr(self, name)}.")
        if not 0 < self.layer_decay <= 1 or self.anchor < 0:
            raise ConfigError(f"Expected layer_decay in (0, 1] and anchor ≥ 0, found {self.layer_decay} and {self.anchor}.")


@dataclass(frozen=True)
class Fitted:
    """What training leaves behind; encoder and objective hold the weights of the epoch that was kept.

    Attributes:
        history: One row an epoch: `epoch`, and train and validation means of the loss and its parts.
        best_epoch: The epoch whose weights were kept: the best, or the last where the objective's loss does not say which is the best.
        best_score: Its validation loss (training loss where there was no validation).
    """

    history: pd.DataFrame
    best_epoch: int
    best_score: float


def fit(
    encoder: AbstractEncoder,
    objective: AbstractObjective,
    train: Batch,
    validation: Batch | None,
    settings: TrainingSettings,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    label: str = "",
    watch: Watch | None = None,
) -> Fitted:
    """Train encoder and objective in place and keep the best epoch.

    An objective whose loss does not compare epochs (`selects_epoch`) is trained to the end, and the last epoch is kept.

    Given a folder, the state after every epoch is in `folder/last.ckpt`; the same call after a kill goes on from there and ends
    with the same numbers. The random numbers of the caller are left as they were.

    Where torchrun or SLURM started several processes, each of them calls this with the same arguments; they do every step together
    (`graphssl.training.divided`), end with the same weights, and the first one writes.

    Args:
        encoder: The encoder.
        objective: The objective, prepared for the encoder.
        train: Training rows: connectomes, or patients by columns.
        validation: Rows that choose the epoch; without them the epoch of the lowest training loss is kept, and no epoch is left out.
        settings: How long and how fast.
        seed: Seed of order, masks and dropout.
        folder: Where checkpoints go.
        label: Words for the progress bar.
        watch: What is measured of the encoder after an epoch, for the history.

    Raises:
        CheckpointError: If the checkpoint is damaged.
        RunFolderError: If it belongs to another run, or processes have other data or find another checkpoint.
        ConfigError: If there is no GPU for each process.
        GraphSSLError: If the loss is not finite.
    """
    processes = joined(settings.accelerator)
    encoder.train()  # which was perhaps asked for embeddings before, and Lightning leaves the mode as it is
    batches = loader(train, settings.batch_size, seed=seed)
    n_steps = settings.max_epochs * len(batches.sampler)  # type: ignore[arg-type]
    learner = Learner(
        encoder,
        objective,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        n_steps=n_steps,
        seed=seed,
        rows_at_once=settings.rows_at_once,
        layer_decay=settings.layer_decay,
        anchor=settings.anchor,
        watch=watch,
        processes=processes,
    )
    monitor = "train_loss" if validation is None else "validation_loss"
    keeper = EpochCheckpoint(
        monitor, _fingerprint(learner, train, validation, settings), None if folder is None else Path(folder), keep_last=not objective.selects_epoch
    )
    resume = keeper.resume_from()
    if not processes.same([keeper.fingerprint, keeper.best_epoch, keeper.stopped, resume is None]):
        raise RunFolderError(
            f"Expected all {processes.n} processes to train the same on the same data and to find the same checkpoint, found others in one of them. "
            "Give them one configuration, the same data and a folder that all of them see."
        )
    if not keeper.stopped:
        held = None if validation is None else loader(validation, settings.batch_size, shuffle=False)
        with _quiet(), torch.random.fork_rng(devices=[]):
            _trainer(settings, *_callbacks(settings, monitor, keeper, label)).fit(learner, batches, held, ckpt_path=resume, weights_only=True)
    else:
        assert resume is not None
        learner.history = read_checkpoint(resume)["history"]
    learner.load_state_dict(keeper.best_weights)
    return Fitted(pd.DataFrame(learner.history).astype({"epoch": int}), keeper.best_epoch, keeper.best_score)


def validation_loss(encoder: AbstractEncoder, objective: AbstractObjective, rows: Batch, settings: TrainingSettings, *, seed: int = 0) -> float:
    """The loss that `fit` would note of validation rows, with the weights as they are.

    Args:
        encoder: The encoder.
        objective: The objective, prepared for the encoder.
        rows: The rows.
        settings: Rows a minibatch, device and precision.
        seed: Seed of masks.
    """
    processes = joined(settings.accelerator)
    learner = Learner(encoder, objective, learning_rate=settings.learning_rate, weight_decay=0.0, n_steps=1, seed=seed, processes=processes)
    with _quiet(), torch.random.fork_rng(devices=[]):
        [found] = _trainer(settings).validate(learner, loader(rows, settings.batch_size, shuffle=False), verbose=False)
    return float(found["validation_loss"])


def _callbacks(settings: TrainingSettings, monitor: str, keeper: EpochCheckpoint, label: str) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = [keeper, EarlyStopping(monitor, patience=settings.patience, check_on_train_epoch_end=False)]
    if monitor == "train_loss" or keeper.keep_last:
        callbacks.pop()
    if settings.progress and is_first():
        callbacks.append(_EpochBar(label))
    return callbacks


def _trainer(settings: TrainingSettings, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        precision=settings.precision,  # type: ignore[arg-type]
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **trainer_arguments(),
    )


class _EpochBar(pl.Callback):
    """A bar of epochs on stderr; Lightning's own bars fill a log file with a line a step."""

    def __init__(self, label: str) -> None:
        self.bar = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[note]}"), console=Console(stderr=True))
        self.label = label

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.start()
        self.task = self.bar.add_task(self.label, total=trainer.max_epochs, completed=trainer.current_epoch, note="")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        shown = [f"{name.replace('_', ' ')} {float(value):.3f}" for name, value in sorted(trainer.callback_metrics.items())]
        self.bar.update(self.task, completed=trainer.current_epoch + 1, note=", ".join(shown))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.bar.stop()


def _fingerprint(learner: Learner, train: Batch, validation: Batch | None, settings: TrainingSettings) -> str:
    """Hash of what decides the numbers: settings, seed, initial weights, and which data they meet."""
    digest = hashlib.sha256()
    plain = {k: v for k, v in asdict(settings).items() if k not in ("progress", "accelerator")}
    digest.update(json.dumps([plain, learner.seed, learner.n_steps], sort_keys=True).encode())
    digest.update(f"{type(learner.encoder).__qualname__} {learner.encoder.arguments()} {type(learner.objective).__qualname__}".encode())
    digest.update(str(learner.objective.arguments()).encode())
    for batch in (train, *([] if validation is None else [validation])):
        digest.update(batch.signature())
    for value in learner.state_dict().values():
        digest.update(value.detach().double().sum().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice about workers and devices, which does not apply to data in memory."""
    import logging

    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        try:
            yield
        finally:
            logger.setLevel(level)
