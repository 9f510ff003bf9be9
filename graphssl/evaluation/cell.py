"""A cell of a study: the levels of its axes, and all that they decide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.evaluation.segmentation import SCORES
from graphssl.evaluation.task import Task, make_mask_task, make_task
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.restoration import Restoration
from graphssl.objectives.supervised import ClassWeight
from graphssl.statistics.metrics import METRICS
from graphssl.training.by_steps import STEPS, StepSettings
from graphssl.training.finetune import Mode
from graphssl.training.fit import TrainingSettings
from graphssl.training.segment import SegmentationSettings


@dataclass(frozen=True)
class CellSettings:
    """What is done in a cell, beside what is pre-trained and on whom.

    Args:
        pretrain_on: What the encoder learns from before, in this order: `source` (another cohort), `cohort` (all training subjects, without labels);
            nothing for random weights.
        source_size: Subjects of the source to learn from, nested for a seed; all when left out.
        source_epochs: Epochs on the source, where they differ from those on the cohort.
        transfer: What is taken over: the `encoder`, or `encoder_decoder`, where masks are learned after a `Restoration` with a `segmentation_width`.
        mode: `full` trains encoder and head for a number of steps, `probe` a logistic regression on the encoder's vectors.
        imbalance: How many labelled subjects each other class has for one of the rare one; as they are when left out.
        rare: The class that `imbalance` makes rare; the rarest in each split's training subjects when left out.
        shots: Labelled subjects of each class (of masks: with a mask), nested for a seed; all when left out.
        label_fraction: Share of the labels, nested for a seed; after `imbalance`, not beside `shots`.
        validation_fraction: Share of the labelled training subjects who are scored on the way, for curves and to choose the best check; they are the
            same whatever else is chosen, and never trained on. None of them where it is 0.
        steps: How to train in `full` mode.

    Raises:
        ConfigError: If shots and a label fraction are both chosen, or a stage is named twice.
    """

    pretrain_on: tuple[Literal["source", "cohort"], ...] = ("cohort",)
    source_size: int | None = None
    source_epochs: int | None = None
    transfer: Literal["encoder", "encoder_decoder"] = "encoder"
    mode: Mode = "full"
    imbalance: float | None = None
    rare: str | None = None
    shots: int | None = None
    label_fraction: float = 1.0
    validation_fraction: float = 0.0
    steps: StepSettings = STEPS

    def __post_init__(self) -> None:
        if self.shots is not None and self.label_fraction != 1.0:
            raise ConfigError(f"Expected shots or a label fraction, found both ({self.shots} and {self.label_fraction:g}). Leave one out.")
        if len(set(self.pretrain_on)) < len(self.pretrain_on):
            raise ConfigError(f"Expected each of source and cohort once in pretrain_on, found {', '.join(self.pretrain_on)}.")


CELL = CellSettings()


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of a study: levels of its axes, and all that they decide.

    Args:
        levels: Level of each axis, by name of the axis.
        cohort: Subjects who are split into training and test subjects.
        objective: What to pre-train on.
        encoder: The encoder.
        builder: How the data are prepared.
        settings: What is done.
        source: Another cohort to pre-train on. Whoever of it is also a subject of the cohort is left out.
        pretraining: How long and how fast to pre-train.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last.
        class_weight: Whether classes count alike (`"balanced"`) or subjects do (None).
        segmentation: What is learned from masks, where those are predicted and no column is.

    Raises:
        ConfigError: If a source is to be learned from and there is none, classes of masks are to be drawn or probed, or a decoder is to be taken over
            that no objective learns.
    """

    levels: Mapping[str, str]
    cohort: Cohort
    objective: AbstractObjective | None = None
    encoder: AbstractEncoder | None = None
    builder: AbstractBuilder | None = None
    settings: CellSettings = CELL
    source: Cohort | None = None
    pretraining: TrainingSettings = field(default_factory=TrainingSettings)
    target: str | None = None
    classes: Sequence[str] | None = None
    class_weight: ClassWeight = "balanced"
    segmentation: SegmentationSettings | None = None

    def __post_init__(self) -> None:
        where = ", ".join(f"{axis} {level}" for axis, level in self.levels.items()) or "a cell"
        if "source" in self.settings.pretrain_on and self.source is None:
            raise ConfigError(f"Expected a source to pre-train on in {where}, found none. Give one, or leave it out of pretrain_on.")
        if self.segmentation is not None and (self.settings.imbalance is not None or self.settings.mode == "probe"):
            raise ConfigError(f"Expected neither imbalance nor a probe where masks are predicted, found one in {where}. Leave it out.")
        if self.settings.transfer == "encoder_decoder" and self.settings.pretrain_on and not self._learns_decoder():
            raise ConfigError(
                f"Expected masks to be predicted after a Restoration with the segmentation_width of the decoder, to take that over in {where}; "
                f"found {self.objective!r} and the width {getattr(self.segmentation, 'width', None)}."
            )

    @property
    def task(self) -> Task:
        """What is predicted."""
        if self.segmentation is not None:
            return make_mask_task(self.cohort, "study", getattr(self.builder, "images", None))
        return make_task(self.cohort, self.target, self.classes, "study")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the numbers that the cell is measured by."""
        classes = self.task.classes
        if self.segmentation is not None:
            found = (*SCORES, *(f"dice: {name}" for name in classes if len(classes) > 1))
        else:
            found = (*METRICS, *(f"recall: {name}" for name in classes), "separation_before", "separation")
        has_curve = self.settings.validation_fraction > 0 and self.settings.mode == "full"
        return (*found, "curve_area", "late_spread") if has_curve else found

    def _learns_decoder(self) -> bool:
        width = getattr(self.objective, "segmentation_width", None)
        return isinstance(self.objective, Restoration) and self.segmentation is not None and width == self.segmentation.width


def rare_class(settings: CellSettings, classes: Sequence[str]) -> int | None:
    """Place of the class that an imbalance makes rare among the classes; None where it is the rarest.

    Args:
        settings: What is done in a cell.
        classes: Names of the classes.

    Raises:
        ConfigError: If there is no such class.
    """
    if settings.rare is None:
        return None
    if settings.rare not in classes:
        raise ConfigError(f"Expected the rare class to be one of {list(classes)}, found {settings.rare!r}. Name one of them.")
    return list(classes).index(settings.rare)
