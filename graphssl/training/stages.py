"""Pre-training in stages: from general data to those of a cohort to those of a task, with a record of where every weight came from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, InputError
from graphssl.objectives.base import AbstractObjective
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model
from graphssl.training.probe import Probe
from graphssl.training.stage import Stage
from graphssl.training.stage_folder import DoneStage
from graphssl.training.stage_run import StageRun
from graphssl.training.stage_start import start_of


class Chain(NamedTuple):
    """What `pretrain_stages` returns.

    Attributes:
        models: The model after each stage, by name of the stage in their order.
        stages: A row a stage: what it was trained on, where its weights came from, its losses and its probe.
        history: A row an epoch of every stage, with the column `stage`.
    """

    models: dict[str, Model]
    stages: pd.DataFrame
    history: pd.DataFrame

    @property
    def model(self) -> Model:
        """The model after the last stage."""
        return list(self.models.values())[-1]


def pretrain_stages(
    stages: Sequence[Stage],
    cohort: Cohort | None = None,
    *,
    objective: AbstractObjective | None = None,
    encoder: AbstractEncoder | None = None,
    builder: AbstractBuilder | None = None,
    settings: TrainingSettings | None = None,
    probe: Probe | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Chain:
    """Pre-train in stages, each from the weights of the one before (consecutive pre-training; Zhang et al., Remote Sensing 2022).

    Every stage has an optimiser and a schedule of its own. The builder is fitted anew on the stage's training subjects; columns of tables that two
    stages share keep the scales they were learned in.

    Args:
        stages: The stages in their order.
        cohort: Subjects of the stages that name none; leave test subjects out of it.
        objective: What to learn in stages that do not say; a default for the encoder when left out.
        encoder: The encoder of stages that name none; that of the weights they start from, or a `GraphTransformer`, when left out.
        builder: How data are prepared in stages that do not say.
        settings: How long and how fast in stages that do not say.
        probe: Labelled subjects on whom the encoder is probed after every stage; labels decide nothing of the training.
        validation_fraction: Share of each stage's subjects that choose the epoch.
        seed: Seed of weights, order, masks and dropout.
        folder: Where stages are kept, a folder each; the same call after a kill goes on from there.

    Returns:
        Models, records and history. The card of each model holds the records of its stages (`card["stages"]`).

    Raises:
        ConfigError: If there is no stage, a name comes twice, or a stage has no cohort.
        CheckpointError: If weights that a stage starts from do not fit; names the tensors or the columns.
        AtlasError: If they belong to regions of another atlas.
        RunFolderError: If the folder holds stages of another chain.
    """
    _check(stages, cohort)
    done: list[DoneStage] = []
    for number, stage in enumerate(stages, start=1):
        place = None if folder is None else Path(folder) / f"{number}-{stage.name}"
        with _naming(stage.name):
            whole = replace(
                stage,
                cohort=stage.cohort or cohort,
                objective=stage.objective or objective,
                encoder=stage.encoder or encoder,
                builder=stage.builder or builder,
                settings=_settings(stage, settings or TrainingSettings()),
            )
            start = start_of(whole, done[-1] if done else None)
            done.append(StageRun(whole, start, probe, validation_fraction, seed, place).result())
    return Chain(
        {stage.name: each.model for stage, each in zip(stages, done, strict=True)},
        pd.DataFrame([_row(each.record) for each in done]),
        pd.concat([each.model.history.assign(stage=stage.name) for stage, each in zip(stages, done, strict=True)], ignore_index=True),
    )


def _check(stages: Sequence[Stage], cohort: Cohort | None) -> None:
    names = [stage.name for stage in stages]
    if not names:
        raise ConfigError("Expected at least one stage, found none.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"Expected another name for each stage, found {twice[0]!r} twice.")
    without = [stage.name for stage in stages if stage.cohort is None]
    if without and cohort is None:
        raise ConfigError(f"Expected a cohort for stage {without[0]!r}, found none. Give it one, or give the chain one.")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors say which stage they are of."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"Stage {name!r}: {error}") from error


def _settings(stage: Stage, default: TrainingSettings) -> TrainingSettings:
    settings = stage.settings or default
    return replace(
        settings,
        progress=default.progress,
        max_epochs=stage.epochs or settings.max_epochs,
        learning_rate=settings.learning_rate * stage.learning_rate_scale,
        anchor=stage.anchor or settings.anchor,
    )


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row of plain values."""
    cohort, probe, start = record["cohort"], record["probe"] or {}, record["initialisation"]
    return {
        "stage": record["stage"],
        "cohort": cohort["name"],
        "cohort_hash": cohort["hash"],
        "n_train": cohort["n_train"],
        "objective": record["objective"],
        "epochs": record["epochs"],
        "from": start["from"],
        "parent": start["weights"],
        "weights": record["weights"],
        "encoder_weights": record["encoder_weights"],
        "objective_weights": record["objective_weights"],
        "validation_loss_before": record.get("validation_loss_before"),
        "validation_loss": record.get("validation_loss"),
        "probe_auroc": probe.get("auroc"),
    }
