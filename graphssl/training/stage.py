"""A stage of pre-training: what it is trained on, on what, how long, and from which weights."""

import os
import re
from dataclasses import asdict, dataclass
from typing import Any

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.initializers.dimension import Inflation
from graphssl.objectives.base import AbstractObjective
from graphssl.training.carry import weights_hash
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model


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
