"""A stage that is done, and its folder: the model, the weights of its objective, and last its record."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from graphssl.errors import CheckpointError, RunFolderError
from graphssl.folders import file_written_whole
from graphssl.training.carry import ObjectiveWeights
from graphssl.training.model import Model

# Beside a saved encoder: weights of the objective that it was pre-trained on.
OBJECTIVE = "objective.safetensors"
# Written last: a stage with it is done.
PROVENANCE = "provenance.json"


class DoneStage(NamedTuple):
    """A stage that is done: its model, what of its objective goes on, and its record."""

    model: Model
    objective: ObjectiveWeights | None
    record: dict[str, Any]


def keep_stage(done: DoneStage, place: Path, fingerprint: str) -> None:
    """Write a stage that is done, its record last."""
    done.model.save_pretrained(place / "encoder")
    if done.model.target_encoder is not None:
        done.model.with_target_encoder().save_pretrained(place / "target_encoder")
    assert done.objective is not None
    save_objective(done.objective, place / OBJECTIVE)
    with file_written_whole(place / "history.parquet") as aside:
        done.model.history.to_parquet(aside, index=False)
    with file_written_whole(place / PROVENANCE) as aside:
        aside.write_text(json.dumps({"fingerprint": fingerprint, **done.record}, indent=1), encoding="utf-8")


def finished_stage(place: Path, fingerprint: str) -> DoneStage | None:
    """A stage that was done before; None where it was not.

    Raises:
        RunFolderError: If what is there is a stage of another chain; the fingerprint tells.
        CheckpointError: If its files are damaged.
    """
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
    return DoneStage(model, read_objective(place / OBJECTIVE), record)


def save_objective(objective: ObjectiveWeights, path: Path) -> None:
    """Write weights of an objective, whole or not at all; no pickle."""
    with file_written_whole(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in objective.tensors.items()}, aside, metadata={"objective": objective.name})


def read_objective(path: Path) -> ObjectiveWeights:
    """Weights of an objective, or of anything else, from a file of tensors by name.

    Raises:
        CheckpointError: If the file is damaged, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as content:
            names, told = content.keys(), content.metadata() or {}
            return ObjectiveWeights(told.get("objective", ""), {name: content.get_tensor(name) for name in names})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"Expected whole safetensors weights at {path}, found a truncated file or another format ({error}).") from error
