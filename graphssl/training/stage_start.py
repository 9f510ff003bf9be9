"""The weights that a stage starts from, wherever they lie, and where they came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from graphssl.errors import CheckpointError
from graphssl.training.carry import ObjectiveWeights, objective_weights, weights_hash
from graphssl.training.model import Model
from graphssl.training.stage import Stage
from graphssl.training.stage_folder import OBJECTIVE, DoneStage, read_objective


class StageStart(NamedTuple):
    """Weights that a stage starts from: a model or a file of the encoder's, what of an objective goes on, and where they came from."""

    told: dict[str, Any]
    model: Model | None = None
    weights: Mapping[str, Tensor] | None = None
    objective: ObjectiveWeights | None = None
    records: tuple[dict[str, Any], ...] = ()


def start_of(stage: Stage, previous: DoneStage | None) -> StageStart:
    """What a stage starts from.

    Args:
        stage: The stage.
        previous: The one before, where there is one.

    Raises:
        CheckpointError: If there are no such weights, or they are damaged.
    """
    given = stage.initialisation
    if isinstance(given, Model):
        told = {"from": "a model", "weights": weights_hash(given.encoder.state_dict())}
        return StageStart(told, given, objective=None if given.objective is None else objective_weights(given.objective), records=_records(given))
    if given == "previous" and previous is not None:
        told = {"from": f"stage {previous.record['stage']}", "weights": previous.record["weights"]}
        return StageStart(told, previous.model, objective=previous.objective, records=_records(previous.model))
    if given in ("previous", "random"):
        return StageStart({"from": "random weights", "weights": None})
    return _saved(Path(given))


def _saved(path: Path) -> StageStart:
    """Weights on disk: a folder of a model, of a run or of a stage, or a file."""
    if path.is_file() and path.suffix == ".safetensors":
        weights = read_objective(path).tensors
        return StageStart({"from": str(path), "weights": weights_hash(weights)}, weights=weights)
    if path.is_file():
        raise CheckpointError(
            f"Expected a folder of a model or of a run, or weights in .safetensors, found the file {path}. Convert it; pickles are not read."
        )
    inside = path / "encoder" if (path / "encoder" / "config.json").is_file() else path
    model = Model.from_pretrained(inside)
    objective = read_objective(path / OBJECTIVE) if (path / OBJECTIVE).is_file() else None
    told: dict[str, Any] = {"from": str(path), "weights": weights_hash(model.encoder.state_dict())}
    if not _records(model):
        told["card"] = model.card
    return StageStart(told, model, objective=objective, records=_records(model))


def _records(model: Model) -> tuple[dict[str, Any], ...]:
    """Records of the stages that a model went through."""
    return tuple(model.card.get("stages", ()))
