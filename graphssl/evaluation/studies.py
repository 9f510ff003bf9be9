"""Studies: a grid of cells, each pre-trained, fine-tuned and scored in its own way, on the same splits and seeds."""

import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib
import numpy as np
import pandas as pd
from safetensors.torch import load_file

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, hold_out, label_fraction, label_imbalance, label_shots
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.segmentation import SegmentationDecoder
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.protocols import ProtocolName, Task, described, make_mask_task, make_splits, make_task, one_thread, shown, without_labels
from graphssl.evaluation.segmentation import SCORES, evaluate_segmentation, mean_scores
from graphssl.evaluation.shares import Share
from graphssl.folders import file_written_whole
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.restoration import Restoration
from graphssl.objectives.supervised import ClassWeight
from graphssl.statistics import bhattacharyya, late_spread, mean_height, recall_by_class
from graphssl.statistics.metrics import METRICS, score_all
from graphssl.training.by_steps import SCORE, STEPS, StepSettings, finetune_by_steps, segment_by_steps
from graphssl.training.carry import carried
from graphssl.training.finetune import Mode, finetune
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model
from graphssl.training.pretrain import untrained
from graphssl.training.segment import SegmentationSettings
from graphssl.training.stages import OBJECTIVE, Stage, pretrain_stages

# Columns of a study's table beside its axes.
MEASURED = ("split", "seed", "metric", "value", "n_labelled", "n_rarest", "n_pretrained", "n_train", "n_test", "seconds")


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


@dataclass(frozen=True, eq=False)
class Study:
    """What `run_study` found.

    Attributes:
        table: One row a number: a column an axis, then those of `MEASURED`.
        curves: One row a check of a training: a column an axis, then `split`, `seed`, `step`, `train_loss` and the scores of validation subjects.
        left_out: Cells that the data do not allow, with the reason.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    left_out: pd.DataFrame


def run_study(
    cells: Sequence[Cell],
    *,
    folder: str | os.PathLike[str],
    protocol: ProtocolName = "k_fold",
    n_splits: int = 3,
    n_folds: int | None = None,
    seeds: Sequence[int] = (0,),
    n_jobs: int = 1,
    share: Share | None = None,
    progress: bool = False,
) -> Study:
    """Pre-train, fine-tune and score every cell on the same splits and seeds.

    Cells that begin alike share a pre-training, and cells that differ in nothing but their names are computed once. Every pre-training and every cell
    is kept in the folder when it is done, whole; the same call after a kill goes on from there.

    Args:
        cells: The cells.
        folder: Where they are kept.
        protocol: How subjects are split; see `evaluate`.
        n_splits: Folds of `k_fold`.
        n_folds: How many of the splits are used; all when left out.
        seeds: Seeds of weights, draws and order.
        n_jobs: Processes; each uses one thread when there are several.
        share: The part of the cells that this call computes, while others compute theirs in the same folder; what begins with the same pre-training
            is of one share. All of them when left out.
        progress: Whether to show progress on stderr.

    Returns:
        What was found; of a share, in its cells alone.

    Raises:
        ConfigError: If there are no cells or seeds.
        DataError: If the data allow none of the cells.
    """
    if not cells or not seeds:
        raise ConfigError(f"Expected cells and seeds to study, found {len(cells)} and {len(seeds)}.")
    units = [unit for cell in cells for unit in _units(cell, protocol, n_splits, n_folds, seeds, Path(folder))]
    if share is not None:
        units = _of_share(units, share)
    alone, parallel = n_jobs != 1, joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    for stage in range(max(len(cell.settings.pretrain_on) for cell in cells)):
        starts = list({unit.starts[stage]: unit for unit in units if len(unit.starts) > stage}.values())
        jobs = (joblib.delayed(_prepare_stage)(unit, stage, alone) for unit in starts)
        for _ in shown(parallel(jobs), len(starts), "pre-training", progress):
            pass
    different = {unit.path: unit for unit in units}
    for _ in shown(parallel(joblib.delayed(_score)(unit, alone) for unit in different.values()), len(different), "cells", progress):
        pass
    found = _gathered(units)
    if share is None and found.table.empty:
        raise DataError(f"Expected data that allow a cell of the study, found none that they do: {found.left_out['why'].iloc[0]}")
    return found


class _Unit(NamedTuple):
    """A cell on one split with one seed; where it is kept, and where the stages of what it starts from are."""

    cell: Cell
    task: Task
    split: Split
    seed: int
    path: Path
    starts: tuple[Path, ...]

    @property
    def train(self) -> Cohort:
        """All training subjects, without labels."""
        return without_labels(self.cell.cohort.select(self.split.train), self.task)

    def where(self) -> dict[str, Any]:
        """Levels, split and seed, for a row of a table."""
        return {**self.cell.levels, "split": self.split.name, "seed": self.seed}


def _units(cell: Cell, protocol: ProtocolName, n_splits: int, n_folds: int | None, seeds: Sequence[int], folder: Path) -> list[_Unit]:
    task = cell.task
    _number_of(cell.settings.rare, task.classes)
    splits = make_splits(cell.cohort, task, protocol, n_splits)[:n_folds]
    return [_unit(cell, task, split, seed, folder) for split in splits for seed in seeds]


def _of_share(units: Sequence[_Unit], share: Share) -> list[_Unit]:
    """Cells of a share: all that begin with the same pre-training are of one."""
    pieces: dict[str, set[Path]] = {}
    for unit in units:
        pieces.setdefault(_beginning(unit), set()).update([unit.path, *unit.starts])
    mine = share.take({name: len(paths) for name, paths in pieces.items()})
    return [unit for unit in units if _beginning(unit) in mine]


def _beginning(unit: _Unit) -> str:
    return unit.starts[0].name if unit.starts else unit.path.name


def _unit(cell: Cell, task: Task, split: Split, seed: int, folder: Path) -> _Unit:
    settings = cell.settings
    common = [seed, repr(described([cell.encoder, cell.builder]))]
    of_cohort = [cell.cohort.hash, repr(cell.cohort.schema), split.hash]
    starts: list[Path] = []
    for name in settings.pretrain_on:
        before = [path.name for path in starts[-1:]]
        learned = [*common, *before, name, repr(described([cell.objective, _of_stage(cell, name)])), *_of_whom(cell, name, of_cohort)]
        starts.append(folder / "starts" / joblib.hash(learned)[:16])
    # What only says how it starts is in the name of that.
    after = replace(settings, pretrain_on=(), source_size=None, source_epochs=None)
    after = after if starts else replace(after, transfer="encoder")  # there is no other
    rest = [asdict(task), cell.class_weight, repr(described([cell.segmentation, _plain(after)]))]
    key = joblib.hash([*common, *of_cohort, [path.name for path in starts], *rest])[:16]
    fold = re.sub(r"[^\w.-]+", "_", split.name)
    return _Unit(cell, task, split, seed, folder / "cells" / f"{fold}-{seed}-{key}.json", tuple(starts))


def _of_stage(cell: Cell, name: str) -> TrainingSettings:
    """How long and how fast a stage is trained."""
    epochs = cell.settings.source_epochs if name == "source" else None
    return replace(cell.pretraining, progress=False, max_epochs=epochs or cell.pretraining.max_epochs)


def _of_whom(cell: Cell, name: str, of_cohort: list[Any]) -> list[Any]:
    """What tells the subjects of a stage from others: a source is the same on every split."""
    if name == "cohort" or cell.source is None:
        return of_cohort
    return [cell.source.hash, cell.settings.source_size, cell.cohort.hash if cell.source.name == cell.cohort.name else None]


def _plain(settings: CellSettings) -> dict[str, Any]:
    return {**vars(settings), "steps": vars(settings.steps)}


def _prepare_stage(unit: _Unit, stage: int, alone: bool) -> None:
    """Pre-train a stage of what a cell starts from, unless that or the cell was done before."""
    if not unit.path.is_file():
        with one_thread(alone):
            _stage(unit, stage)


def _start(unit: _Unit) -> Model:
    """The pre-trained encoder, ready for the training subjects; random weights where it learned from nothing."""
    cell = unit.cell
    if not unit.starts:
        return untrained(unit.train, encoder=cell.encoder, builder=cell.builder, seed=unit.seed)
    model = _stage(unit, len(unit.starts) - 1)
    if cell.settings.pretrain_on[-1] == "cohort":
        return model
    return carried(model, unit.train, encoder=cell.encoder, builder=cell.builder, seed=unit.seed)


def _stage(unit: _Unit, stage: int) -> Model:
    """The encoder after a stage, trained from where the one before is kept, or read back."""
    cell, names = unit.cell, unit.cell.settings.pretrain_on
    before = "random" if stage == 0 else unit.starts[stage - 1] / f"1-{names[stage - 1]}"
    cohort = unit.train if names[stage] == "cohort" else _of_source(cell, unit.seed)
    return pretrain_stages(
        [Stage(names[stage], cohort, initialisation=before)],
        objective=cell.objective,
        encoder=cell.encoder,
        builder=cell.builder,
        settings=_of_stage(cell, names[stage]),
        seed=unit.seed,
        folder=unit.starts[stage],
    ).model


def _of_source(cell: Cell, seed: int) -> Cohort:
    """The subjects of the source to learn from, none of whom is one of the cohort."""
    assert cell.source is not None
    source, size = others(cell.source, cell.cohort), cell.settings.source_size
    if size is None:
        return source
    if size > len(source):
        raise ConfigError(f"Expected at most the {len(source)} subjects of the source to pre-train on, found source_size={size}. Ask for fewer.")
    order = np.random.default_rng(seed).permutation(len(source))[:size]
    return source.select([source.ids[k] for k in sorted(order.tolist())])


def _score(unit: _Unit, alone: bool) -> None:
    """Compute a cell, unless an earlier run did, and keep it."""
    if unit.path.is_file():
        return
    try:
        labelled, validation = _labelled(unit)
    except DataError as error:  # of too few subjects for what is asked of them
        record: dict[str, Any] = {"left_out": str(error)}
    else:
        with one_thread(alone):
            record = _computed(unit, labelled, validation)
    with file_written_whole(unit.path) as aside:
        aside.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def _computed(unit: _Unit, labelled: Sequence[str], validation: Sequence[str]) -> dict[str, Any]:
    cell, task = unit.cell, unit.task
    start = _start(unit)
    started = time.perf_counter()
    tuned = _tuned(unit, start, cell.cohort.select(labelled), cell.cohort.select(validation) if validation else None)
    seconds = time.perf_counter() - started
    test = without_labels(cell.cohort.select(unit.split.test), task)
    values = _of_masks(unit, tuned, test) if task.masks else _of_classes(unit, start, tuned, test)
    curve = tuned.history if SCORE in tuned.history else pd.DataFrame()
    if len(curve):
        values["curve_area"] = mean_height(curve["step"], curve[SCORE])
        values["late_spread"] = late_spread(curve[SCORE].to_numpy())
    counts = pd.Series([task.labels[subject] for subject in labelled]).value_counts()
    return {
        "values": {name: None if math.isnan(value) else value for name, value in values.items()},
        "n_labelled": len(labelled),
        "n_rarest": int(counts.min()),
        "n_pretrained": _n_pretrained(unit),
        "n_train": len(unit.split.train),
        "n_test": len(unit.split.test),
        "seconds": seconds,
        "curve": curve.replace({np.nan: None}).to_dict("list"),
    }


def _labelled(unit: _Unit) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who is trained on with a label, and who is scored on the way."""
    task, settings, seed = unit.task, unit.cell.settings, unit.seed
    known = tuple(subject for subject in unit.split.train if subject in task.labels)
    validation: tuple[str, ...] = ()
    if settings.validation_fraction:
        labels = [task.labels[subject] for subject in known]
        groups = unit.cell.cohort.groups[list(known)].tolist()
        held = hold_out(known, labels, groups=groups, test_fraction=settings.validation_fraction, seed=seed)
        known, validation = held.train, held.test

    def labels_of(ids: Sequence[str]) -> list[int]:
        return [task.labels[subject] for subject in ids]

    if settings.imbalance is not None:
        rare = _number_of(settings.rare, task.classes)
        known = label_imbalance(known, labels_of(known), settings.imbalance, rare=rare, seed=seed)
    if settings.shots is not None:
        known = label_shots(known, labels_of(known), settings.shots, seed=seed)
    return label_fraction(known, labels_of(known), settings.label_fraction, seed=seed), validation


def _number_of(name: str | None, classes: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in classes:
        raise ConfigError(f"Expected the rare class to be one of {list(classes)}, found {name!r}. Name one of them.")
    return list(classes).index(name)


def _tuned(unit: _Unit, start: Model, labelled: Cohort, validation: Cohort | None) -> Model:
    cell, settings = unit.cell, unit.cell.settings
    if cell.segmentation is not None:
        decoder = _decoder(unit, start) if settings.transfer == "encoder_decoder" and unit.starts else None
        return segment_by_steps(
            start, labelled, segmentation=cell.segmentation, settings=settings.steps, validation=validation, decoder=decoder, seed=unit.seed
        )
    of_labels: dict[str, Any] = {"target": unit.task.target, "classes": unit.task.classes, "class_weight": cell.class_weight, "seed": unit.seed}
    if settings.mode == "probe":
        return finetune(start, labelled, mode="probe", **of_labels)
    return finetune_by_steps(start, labelled, settings=settings.steps, validation=validation, **of_labels)


def _decoder(unit: _Unit, start: Model) -> SegmentationDecoder:
    """The decoder that pre-training learned, from where its objective is kept."""
    assert unit.cell.segmentation is not None
    last = unit.starts[-1] / f"1-{unit.cell.settings.pretrain_on[-1]}"
    weights = {name.removeprefix("decoder."): value for name, value in load_file(last / OBJECTIVE).items() if name.startswith("decoder.")}
    channels = weights["heads.0.bias"].shape[0]
    decoder = SegmentationDecoder.for_encoder(start.encoder, channels, width=unit.cell.segmentation.width, deep_supervision=False)
    decoder.load_state_dict(weights)
    return decoder


def _of_classes(unit: _Unit, start: Model, tuned: Model, test: Cohort) -> dict[str, float]:
    """Scores of the test subjects, recall class by class, and how far classes lie apart before and after fine-tuning."""
    y = np.asarray([unit.task.labels[subject] for subject in test.ids])
    batch = tuned.builder.transform(test)
    pooled, probability = tuned.answers(batch, test.ids)
    assert probability is not None
    p = probability[:, 1] if len(unit.task.classes) == 2 else probability
    recalls = dict(zip([f"recall: {name}" for name in unit.task.classes], recall_by_class(y, p), strict=True))
    before = start.answers(batch, test.ids).pooled.numpy()
    apart = {"separation_before": bhattacharyya(before, y), "separation": bhattacharyya(pooled.numpy(), y)}
    return {**score_all(y, p), **recalls, **apart}


def _of_masks(unit: _Unit, tuned: Model, test: Cohort) -> dict[str, float]:
    assert unit.cell.segmentation is not None
    return mean_scores(evaluate_segmentation(tuned, test, window=unit.cell.segmentation.window), unit.task.classes)


def _n_pretrained(unit: _Unit) -> int:
    """Subjects that any stage of the pre-training had."""
    sizes = {"cohort": len(unit.split.train), "source": 0 if unit.cell.source is None else len(_of_source(unit.cell, unit.seed))}
    return sum(sizes[name] for name in unit.cell.settings.pretrain_on)


def _gathered(units: Sequence[_Unit]) -> Study:
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    left_out: list[dict[str, Any]] = []
    for unit in units:
        record = json.loads(unit.path.read_text(encoding="utf-8"))
        where = unit.where()
        if "left_out" in record:
            left_out.append({**where, "why": record["left_out"]})
            continue
        about = {name: record[name] for name in MEASURED if name in record}
        rows += [{**where, "metric": metric, "value": math.nan if v is None else v, **about} for metric, v in record["values"].items()]
        if record["curve"]:
            curves.append(pd.DataFrame(record["curve"]).assign(**where))
    axes = list(dict.fromkeys(axis for unit in units for axis in unit.cell.levels))
    table = pd.DataFrame(rows, columns=[*axes, *MEASURED])
    joined = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["split", "seed", "step", SCORE])
    first = [name for name in (*axes, "split", "seed", "step") if name in joined]
    joined = joined[[*first, *[name for name in joined if name not in first]]]
    return Study(table, joined, pd.DataFrame(left_out, columns=[*axes, "split", "seed", "why"]))


def others(source: Cohort, cohort: Cohort) -> Cohort:
    """A source without the subjects of a cohort; only a source of the cohort's name holds any, since ids of other cohorts name other people.

    Args:
        source: Subjects to pre-train on.
        cohort: Those who are split into training and test subjects.

    Raises:
        DataError: If nobody is left.
    """
    if source.name != cohort.name:
        return source
    own = set(cohort.ids)
    return source.select([subject for subject in source.ids if subject not in own])


def grid(axes: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    """All combinations of levels, the last axis changing first.

    Args:
        axes: Levels by axis.
    """
    found: list[dict[str, str]] = [{}]
    for axis, levels in axes.items():
        found = [{**one, axis: level} for one in found for level in levels]
    return found


def merged(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with others laid over it: mappings join, all else is replaced, and so is a class with its arguments by another class.

    Args:
        base: The configuration.
        changes: What is laid over it, one after another.
    """
    found = dict(base)
    for change in changes:
        for key, value in change.items():
            before = found.get(key)
            joins = isinstance(value, Mapping) and isinstance(before, Mapping) and not {"class_path", "adapter", "path"} & set(value)
            found[key] = merged(before, value) if joins else value  # type: ignore[arg-type]
    return found
