"""Pre-training in stages: from general data to those of a cohort to those of a task, with a record of where every weight came from."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import CheckpointError, ConfigError, InputError, RunFolderError
from graphssl.folders import file_written_whole
from graphssl.initializers.dimension import Inflation, initialise_from_2d
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.default import default_objective
from graphssl.training.carry import ObjectiveWeights, carried, objective_weights, same_columns, take_objective, weights_hash
from graphssl.training.fit import TrainingSettings, validation_loss
from graphssl.training.launch import is_first
from graphssl.training.learner import Watch
from graphssl.training.model import Model, fresh
from graphssl.training.pretrain import batches_of, held_out, prepared, trained, untrained
from graphssl.training.probe import Probe

# Beside a saved encoder: weights of the objective that it was pre-trained on.
OBJECTIVE = "objective.safetensors"
# Written last: a stage with it is done.
PROVENANCE = "provenance.json"


@dataclass(frozen=True, eq=False)
class Stage:
    """One pre-training of a chain.

    Args:
        name: Name, of letters, digits, `-` and `_`.
        cohort: Subjects of this stage; those of the chain when left out.
        objective: What to learn, with labels where it reads some; that of the chain when left out.
        epochs: Epochs; as the settings have it when left out. With 0 the weights are only taken over.
        initialisation: Where weights come from: `"previous"` (the stage before; random ones for the first), `"random"`, a model, a folder of a model,
            of a run of `graphssl pretrain` or of a stage, or a file of weights by name (`.safetensors`). Weights of a 2D network start a 3D one.
        keep_objective: Whether decoders and heads of the objective go on too. When left out they do where the objective is of the same kind and
            everything fits, and are new where not; True refuses what does not fit, False begins with new ones. Queues, memories and schedules always
            begin anew.
        learning_rate_scale: Factor of the learning rate.
        anchor: Weight of half the squared distance of the encoder's weights from those the stage starts with (`TrainingSettings.anchor`).
        encoder: The encoder, where it is another than that of the chain, such as one of volumes after one of images.
        builder: How the data are prepared, likewise.
        settings: How long and how fast, likewise.
        inflation: What kernels of images become in a network of volumes, see [`inflated_kernel`][graphssl.initializers.inflated_kernel].
        probe_every: Epochs from one probe to the next within the stage; none within when left out.

    Raises:
        ConfigError: If the name cannot be one of a folder, or a number is out of range.
    """

    name: str
    cohort: Cohort | None = None
    objective: AbstractObjective | None = None
    epochs: int | None = None
    initialisation: str | os.PathLike[str] | Model = "previous"
    keep_objective: bool | None = None
    learning_rate_scale: float = 1.0
    anchor: float = 0.0
    encoder: AbstractEncoder | None = None
    builder: AbstractBuilder | None = None
    settings: TrainingSettings | None = None
    inflation: Inflation = "mean"
    probe_every: int | None = None

    def __post_init__(self) -> None:
        check_stage(self.name, self.epochs, self.learning_rate_scale, self.anchor, self.probe_every)

    def described(self) -> list[Any]:
        """What it is told, in plain values that tell it from other stages."""
        cohort = None if self.cohort is None else (self.cohort.name, self.cohort.hash)
        given = self.initialisation
        start = weights_hash(given.encoder.state_dict()) if isinstance(given, Model) else str(given)
        encoder = None if self.encoder is None else (type(self.encoder).__name__, self.encoder.arguments())
        builder = None if self.builder is None else (type(self.builder).__name__, self.builder.get_params())
        settings = None if self.settings is None else {**asdict(self.settings), "progress": False, "accelerator": ""}
        told = [self.name, cohort, repr(self.objective), self.epochs, start, self.keep_objective, self.learning_rate_scale, self.anchor]
        return [*told, encoder, builder, settings, self.inflation, self.probe_every]

    def __deepcopy__(self, memo: object) -> "Stage":
        # scikit-learn copies the parameters of an estimator for every fit; nothing changes a stage, and its cohort may be large.
        return self


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
    done: list[_Done] = []
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
            start = _start(whole, done[-1] if done else None)
            done.append(_Run(whole, start, probe, validation_fraction, seed, place).result())
    return Chain(
        {stage.name: each.model for stage, each in zip(stages, done, strict=True)},
        pd.DataFrame([_row(each.record) for each in done]),
        pd.concat([each.model.history.assign(stage=stage.name) for stage, each in zip(stages, done, strict=True)], ignore_index=True),
    )


def save_objective(objective: ObjectiveWeights, path: Path) -> None:
    """Write weights of an objective, whole or not at all; no pickle."""
    with file_written_whole(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in objective.tensors.items()}, aside, metadata={"objective": objective.name})


def check_stage(name: str, epochs: int | None, learning_rate_scale: float, anchor: float, probe_every: int | None) -> None:
    """Check what a stage is told.

    Raises:
        ConfigError: If the name cannot be one of a folder, or a number is out of range.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"Expected a name of a stage of letters, digits, - and _, for a folder has it; found {name!r}.")
    if (epochs or 0) < 0 or learning_rate_scale <= 0 or anchor < 0 or (probe_every is not None and probe_every < 1):
        raise ConfigError(
            f"Expected epochs ≥ 0, learning_rate_scale > 0, anchor ≥ 0 and probe_every ≥ 1 of stage {name!r}, found "
            f"{epochs}, {learning_rate_scale}, {anchor} and {probe_every}."
        )


class _Done(NamedTuple):
    """A stage that is done: its model, what of its objective goes on, and its record."""

    model: Model
    objective: ObjectiveWeights | None
    record: dict[str, Any]


class _Start(NamedTuple):
    """Weights that a stage starts from: a model or a file of the encoder's, what of an objective goes on, and where they came from."""

    told: dict[str, Any]
    model: Model | None = None
    weights: Mapping[str, Tensor] | None = None
    objective: ObjectiveWeights | None = None
    records: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class _Run:
    """One stage with everything that it is told."""

    stage: Stage
    start: _Start
    probe: Probe | None
    validation_fraction: float
    seed: int
    place: Path | None

    @property
    def cohort(self) -> Cohort:
        assert self.stage.cohort is not None
        return self.stage.cohort

    @property
    def settings(self) -> TrainingSettings:
        assert self.stage.settings is not None
        return self.stage.settings

    def result(self) -> _Done:
        """The stage as it was done before, or done now."""
        split = held_out(self.cohort, self.validation_fraction, self.seed)
        fingerprint = self._fingerprint()
        found = None if self.place is None else _finished(self.place, fingerprint)
        return found or self._done(split, fingerprint)

    def _done(self, split: Split, fingerprint: str) -> _Done:
        model = self._ready(self.cohort.select(split.train))
        whose = self._whose(model.encoder)
        objective = self.stage.objective or default_objective(model.encoder)
        learned = prepared(objective, self.cohort, model.encoder, self.seed)
        kept = self._keep_objective(learned, model)
        record = {
            "stage": self.stage.name,
            "cohort": {"name": self.cohort.name, "hash": self.cohort.hash, "n_train": len(split.train), "n_validation": len(split.test)},
            "objective": repr(objective),
            "initialisation": self.start.told,
            "encoder_weights": whose,
            "objective_weights": kept,
            "epochs": 0,
            "learning_rate": self.settings.learning_rate,
            "anchor": self.settings.anchor,
            "seed": self.seed,
        }
        model, told = self._trained(model, learned, split)
        record |= {**told, "weights": weights_hash(model.encoder.state_dict()), "probe": self._probed(model)}
        record = json.loads(json.dumps(record))
        card = {
            "pre-trained on": f"{self.cohort.name}, {len(split.train)} subjects (cohort hash {self.cohort.hash})",
            "objective": f"{type(objective).__name__} {objective.arguments()}",
            **model.card,
            "stages": [*self.start.records, record],
        }
        done = _Done(replace(model, card=card), objective_weights(learned), record)
        if self.place is not None and is_first():
            _keep(done, self.place, fingerprint)
        return done

    def _ready(self, train: Cohort) -> Model:
        """The model with the weights it starts from, and a builder fitted on the training subjects."""
        stage, start = self.stage, self.start
        if start.model is None:
            model = untrained(train, encoder=stage.encoder, builder=stage.builder, seed=self.seed)
            if start.weights is not None:
                initialise_from_2d(model.encoder, start.weights, stage.inflation)
            return model
        return carried(start.model, train, encoder=stage.encoder, builder=stage.builder, inflation=stage.inflation, seed=self.seed)

    def _whose(self, encoder: AbstractEncoder) -> str:
        """Which of the encoder's tensors the weights that it starts from say nothing of."""
        given = self.start.weights if self.start.model is None else self.start.model.encoder.state_dict()
        if given is None:
            return "new"
        random = fresh(encoder, self.seed).state_dict()
        new = [name for name, value in encoder.state_dict().items() if value.equal(random[name]) and not _is_in(name, value, given)]
        return "kept" if not new else f"kept, but for {len(new)} new tensors: {', '.join(new)}"

    def _keep_objective(self, learned: AbstractObjective, model: Model) -> str:
        """Give the objective the weights it goes on with, and say whose they are."""
        wanted, given = self.stage.keep_objective, self.start.objective
        if wanted is False or (given is None and wanted is None):
            return "new"
        columns = self.start.model is None or same_columns(self.start.model, model)
        wrong = ["none"] if given is None else ["those of other columns, codes or categories"]
        if given is not None and columns:
            wrong = take_objective(learned, given)
        if wrong and wanted:
            raise CheckpointError(
                f"Expected weights of {type(learned).__name__} to go on with, found {'; '.join(wrong[:4])}. Leave keep_objective out to begin with "
                "new ones, or start from what was pre-trained on the same objective."
            )
        return f"new, for there were {'; '.join(wrong[:4])}" if wrong else "kept"

    def _trained(self, model: Model, learned: AbstractObjective, split: Split) -> tuple[Model, dict[str, Any]]:
        if self.stage.epochs == 0:
            return replace(model, history=pd.DataFrame({"epoch": pd.Series(dtype=int)}), card={"seed": self.seed}, objective=learned), {}
        batches = batches_of(model, learned, self.cohort, split)
        before = validation_loss(model.encoder, learned, batches[1], self.settings, seed=self.seed)
        found = trained(model, learned, batches, self.settings, seed=self.seed, folder=self.place, watch=self._watch(model))
        return found, {
            "epochs": len(found.history),
            "validation_loss_before": before,
            "validation_loss": validation_loss(found.encoder, learned, batches[1], self.settings, seed=self.seed),
            "epoch_kept": found.card["epoch kept"],
        }

    def _watch(self, model: Model) -> Watch | None:
        """The probe after every so many epochs."""
        every, probe = self.stage.probe_every, self.probe
        if every is None or probe is None:
            return None
        return lambda encoder, epoch: {"probe_auroc": probe.score(Model(model.builder, encoder))} if (epoch + 1) % every == 0 else {}

    def _probed(self, model: Model) -> dict[str, Any] | None:
        if self.probe is None:
            return None
        told = {"target": str(self.probe.cohort.target(self.probe.target).name), "cohort": self.probe.cohort.hash}
        try:
            return {"auroc": self.probe.score(model), **told}
        except InputError as error:  # a network of images does not read volumes, which the next stage does
            return {"auroc": None, **told, "why": str(error)}

    def _fingerprint(self) -> str:
        """Hash of what decides the stage's numbers."""
        start = self.start
        # The weights count, not the words for where they came from; a probe changes no number.
        parts = [replace(self.stage, initialisation="previous").described(), start.told["weights"], self.validation_fraction, self.seed]
        parts += [None if start.objective is None else weights_hash(start.objective.tensors)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


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


def _start(stage: Stage, previous: _Done | None) -> _Start:
    given = stage.initialisation
    if isinstance(given, Model):
        told = {"from": "a model", "weights": weights_hash(given.encoder.state_dict())}
        return _Start(told, given, objective=None if given.objective is None else objective_weights(given.objective), records=_records(given))
    if given == "previous" and previous is not None:
        told = {"from": f"stage {previous.record['stage']}", "weights": previous.record["weights"]}
        return _Start(told, previous.model, objective=previous.objective, records=_records(previous.model))
    if given in ("previous", "random"):
        return _Start({"from": "random weights", "weights": None})
    return _saved(Path(given))


def _saved(path: Path) -> _Start:
    """Weights on disk: a folder of a model, of a run or of a stage, or a file."""
    if path.is_file() and path.suffix == ".safetensors":
        weights = _read(path).tensors
        return _Start({"from": str(path), "weights": weights_hash(weights)}, weights=weights)
    if path.is_file():
        raise CheckpointError(
            f"Expected a folder of a model or of a run, or weights in .safetensors, found the file {path}. Convert it; pickles are not read."
        )
    inside = path / "encoder" if (path / "encoder" / "config.json").is_file() else path
    model = Model.from_pretrained(inside)
    objective = _read(path / OBJECTIVE) if (path / OBJECTIVE).is_file() else None
    told: dict[str, Any] = {"from": str(path), "weights": weights_hash(model.encoder.state_dict())}
    if not _records(model):
        told["card"] = model.card
    return _Start(told, model, objective=objective, records=_records(model))


def _read(path: Path) -> ObjectiveWeights:
    try:
        with safe_open(path, framework="pt") as content:
            names, told = content.keys(), content.metadata() or {}
            return ObjectiveWeights(told.get("objective", ""), {name: content.get_tensor(name) for name in names})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"Expected whole safetensors weights at {path}, found a truncated file or another format ({error}).") from error


def _keep(done: _Done, place: Path, fingerprint: str) -> None:
    """Write a stage, its record last."""
    done.model.save_pretrained(place / "encoder")
    if done.model.target_encoder is not None:
        done.model.with_target_encoder().save_pretrained(place / "target_encoder")
    assert done.objective is not None
    save_objective(done.objective, place / OBJECTIVE)
    with file_written_whole(place / "history.parquet") as aside:
        done.model.history.to_parquet(aside, index=False)
    with file_written_whole(place / PROVENANCE) as aside:
        aside.write_text(json.dumps({"fingerprint": fingerprint, **done.record}, indent=1), encoding="utf-8")


def _finished(place: Path, fingerprint: str) -> _Done | None:
    """A stage that was done before; None where it was not."""
    if not (place / PROVENANCE).is_file():
        return None
    record = json.loads((place / PROVENANCE).read_text(encoding="utf-8"))
    if record.pop("fingerprint") != fingerprint:
        raise RunFolderError(
            f"Expected the stage of this chain in {place}, found one of another (other data, settings, or weights to start from). "
            "Choose another run name, or remove the folder."
        )
    slow = place / "target_encoder"
    model = replace(
        Model.from_pretrained(place / "encoder"),
        history=pd.read_parquet(place / "history.parquet"),
        target_encoder=Model.from_pretrained(slow).encoder if slow.is_dir() else None,
    )
    return _Done(model, _read(place / OBJECTIVE), record)


def _records(model: Model) -> tuple[dict[str, Any], ...]:
    return tuple(model.card.get("stages", ()))


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


def _is_in(name: str, value: Tensor, given: Mapping[str, Tensor]) -> bool:
    return any(other.shape == value.shape and other.equal(value) for key, other in given.items() if name.endswith(key))
