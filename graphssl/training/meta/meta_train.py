"""Meta-training: several sources of subjects in, an encoder from which few subjects of another go far out."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.errors import ConfigError, GraphSSLError
from graphssl.objectives.base import AbstractObjective
from graphssl.processes import Processes
from graphssl.training.checkpoint import read_checkpoint
from graphssl.training.launch import cluster, launch
from graphssl.training.meta.meta_trainer import MetaTrainer
from graphssl.training.meta.settings import MetaSettings
from graphssl.training.meta.source_batches import SourceBatches
from graphssl.training.meta.strategies import DirectLearning, MetaLearning, SingleSource, Strategy
from graphssl.training.meta.tasks import Source, TaskSampler
from graphssl.training.model import Model, fresh


def meta_train(
    sources: Sequence[Source],
    *,
    encoder: AbstractEncoder | None = None,
    objective: AbstractObjective | None = None,
    strategy: Strategy | None = None,
    builder: AbstractBuilder | None = None,
    settings: MetaSettings | None = None,
    target: Cohort | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Learn from several sources what a target is to start from.

    Sources may differ in site, atlas, size and label. Every step draws a task of each. Where the sources have a target the tasks are to predict it;
    with an objective, labels are never read.

    Given a folder, the state after every meta-epoch is in `folder/last.ckpt`; the same call after a kill goes on from there and ends with the same
    numbers. A loss that is not finite stops the run; the state before that step is then in `folder/stopped.ckpt`.

    Args:
        sources: What to learn from; leave the target's subjects out.
        encoder: The encoder whose arguments to use, with new weights; a `GraphTransformer` when left out.
        objective: What to learn without labels; the default of the encoder where sources have no target either.
        strategy: How to learn; second-order MAML when left out. `STRATEGIES` has the five that are compared.
        builder: How connectomes or records are made; fitted here, as in `SourceBatches`.
        settings: How long, how fast and on what tasks.
        target: Subjects of the target, whose labels are not read: for weightings by agreement with it.
        seed: Seed of weights, tasks, masks and dropout.
        folder: Where checkpoints go.

    Returns:
        A model for `finetune`, with the head of the sources where they have a target; its history has a row a meta-epoch, with loss and weight of
        each source, and its `update` is what a step does where that was learned (generated rates, Meta-SGD).

    Raises:
        DataError: If sources have no common target, or too few subjects for a task.
        ConfigError: If a weighting needs the target and none is given, or the encoder cannot be in an inner loop.
        CheckpointError: If the checkpoint is damaged.
        RunFolderError: If it belongs to another run.
        GraphSSLError: If the loss of a task is not finite; the task is named.
    """
    strategy, settings = strategy or MetaLearning(), settings or MetaSettings()
    chosen = [strategy.choose(sources)] if isinstance(strategy, SingleSource) else list(sources)
    learned = [Source(source.name, source.cohort) for source in chosen] if objective is not None else chosen
    sampler = TaskSampler(learned, settings.n_support, settings.n_query, seed)
    encoder = encoder or GraphTransformer()
    batches = SourceBatches(learned, builder or encoder.default_builder())
    if isinstance(strategy, MetaLearning) and not batches.keeps_apart:
        raise ConfigError(
            f"Expected two or more sources for meta-learning in a population, found {learned[0].name!r} alone: patients of a task are attached to "
            "those of other sources, so that its query is not in the graph of its support. Give more sources, or take the strategy JointTraining."
        )
    encoder = fresh(encoder.for_builder(batches.builder_), seed)
    given = (sampler, batches, strategy, settings, seed, target, encoder, objective, None if folder is None else Path(folder))
    is_spread = settings.devices * settings.nodes > 1
    run = MetaTrainer(Processes(device="cpu" if is_spread else settings.device), *given)
    if isinstance(strategy, DirectLearning):
        return run.model()
    run.resume()
    if is_spread and (run.epochs_left or cluster() is not None):  # the other processes may have found another checkpoint
        run.take_up(_of_processes(given, settings))
    elif run.epochs_left:
        run.train()
    return run.model()


def _of_processes(given: Sequence[Any], settings: MetaSettings) -> dict[str, Any]:
    """The state that training in several processes ends in."""
    started = cluster()
    with tempfile.TemporaryDirectory() as folder:
        kind = "gpu" if settings.device == "cuda" else "cpu"
        error = launch(_train_together, (Path(folder), *given), accelerator=kind, devices=settings.devices, nodes=settings.nodes)
        if error is not None:
            raise error
        return read_checkpoint(Path(folder) / f"{0 if started is None else started.global_rank()}.ckpt")


def _train_together(fabric: Fabric, results: Path, *given: Any) -> GraphSSLError | None:
    """Train in one of several processes, and write the state at the end; or give back the error that all of them met."""
    run = MetaTrainer(Processes(fabric.global_rank, fabric.world_size, fabric.device), *given)
    try:
        run.resume()
        run.train()
    except GraphSSLError as error:
        return error  # raised here, its kind would not reach the process that waits
    torch.save(run.state(), results / f"{fabric.global_rank}.ckpt")
    return None
