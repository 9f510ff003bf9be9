"""One stage, done now or before: its weights, its training, its probe and its record."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import CheckpointError, InputError
from graphssl.initializers.dimension import initialise_from_2d
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.default import default_objective
from graphssl.training.carry import carried, objective_weights, same_columns, take_objective, weights_hash
from graphssl.training.fit import TrainingSettings, validation_loss
from graphssl.training.launch import is_first
from graphssl.training.learner import Watch
from graphssl.training.model import Model, fresh
from graphssl.training.pretrain import batches_of, held_out, prepared, trained, untrained
from graphssl.training.probe import Probe
from graphssl.training.stage import Stage
from graphssl.training.stage_folder import DoneStage, finished_stage, keep_stage
from graphssl.training.stage_start import StageStart


@dataclass(frozen=True, eq=False)
class StageRun:
    """One stage with everything that it is told."""

    stage: Stage
    start: StageStart
    probe: Probe | None
    validation_fraction: float
    seed: int
    place: Path | None

    @property
    def cohort(self) -> Cohort:
        """Subjects of the stage."""
        assert self.stage.cohort is not None
        return self.stage.cohort

    @property
    def settings(self) -> TrainingSettings:
        """How long and how fast."""
        assert self.stage.settings is not None
        return self.stage.settings

    def result(self) -> DoneStage:
        """The stage as it was done before, or done now."""
        split = held_out(self.cohort, self.validation_fraction, self.seed)
        fingerprint = self._fingerprint()
        found = None if self.place is None else finished_stage(self.place, fingerprint)
        return found or self._done(split, fingerprint)

    def _done(self, split: Split, fingerprint: str) -> DoneStage:
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
        done = DoneStage(replace(model, card=card), objective_weights(learned), record)
        if self.place is not None and is_first():
            keep_stage(done, self.place, fingerprint)
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


def _is_in(name: str, value: Tensor, given: Mapping[str, Tensor]) -> bool:
    return any(other.shape == value.shape and other.equal(value) for key, other in given.items() if name.endswith(key))
