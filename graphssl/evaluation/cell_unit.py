"""A cell on one split with one seed, and where it and what it starts from are kept: named by a hash of what decides them."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import joblib

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.evaluation.cell import Cell, CellSettings, rare_class
from graphssl.evaluation.described import described
from graphssl.evaluation.protocol_splits import ProtocolName, make_splits
from graphssl.evaluation.shares import Share
from graphssl.evaluation.task import Task, without_labels
from graphssl.training.fit import TrainingSettings


class Unit(NamedTuple):
    """A cell on one split with one seed; where it is kept, where the stages of what it starts from are, and whether there is no other split."""

    cell: Cell
    task: Task
    split: Split
    seed: int
    path: Path
    starts: tuple[Path, ...]
    only_split: bool

    @property
    def train(self) -> Cohort:
        """All training subjects, without labels."""
        return without_labels(self.cell.cohort.select(self.split.train), self.task)

    def where(self) -> dict[str, Any]:
        """Levels, split and seed, for a row of a table."""
        return {**self.cell.levels, "split": self.split.name, "seed": self.seed}


def units_of(cell: Cell, protocol: ProtocolName, n_splits: int, n_folds: int | None, seeds: Sequence[int], folder: Path) -> list[Unit]:
    """A cell on all splits with all seeds.

    Args:
        cell: The cell.
        protocol: How subjects are split.
        n_splits: Folds of `k_fold`.
        n_folds: How many of the splits are used; all when left out.
        seeds: The seeds.
        folder: Folder of the study.

    Raises:
        ConfigError: If the cell has no class of the name that is to be rare.
    """
    task = cell.task
    rare_class(cell.settings, task.classes)
    splits = make_splits(cell.cohort, task, protocol, n_splits)[:n_folds]
    return [_unit(cell, task, split, seed, folder, len(splits) == 1) for split in splits for seed in seeds]


def of_share(units: Sequence[Unit], share: Share) -> list[Unit]:
    """Cells of a share: all that begin with the same pre-training are of one."""
    pieces: dict[str, set[Path]] = {}
    for unit in units:
        pieces.setdefault(_beginning(unit), set()).update([unit.path, *unit.starts])
    mine = share.take({name: len(paths) for name, paths in pieces.items()})
    return [unit for unit in units if _beginning(unit) in mine]


def stage_settings(cell: Cell, name: str) -> TrainingSettings:
    """How long and how fast a stage of the pre-training, `source` or `cohort`, is trained."""
    epochs = cell.settings.source_epochs if name == "source" else None
    return replace(cell.pretraining, progress=False, max_epochs=epochs or cell.pretraining.max_epochs)


def _beginning(unit: Unit) -> str:
    return unit.starts[0].name if unit.starts else unit.path.name


def _unit(cell: Cell, task: Task, split: Split, seed: int, folder: Path, only_split: bool) -> Unit:
    settings = cell.settings
    common = [seed, repr(described([cell.encoder, cell.builder]))]
    of_cohort = [cell.cohort.hash, repr(cell.cohort.schema), split.hash]
    starts: list[Path] = []
    for name in settings.pretrain_on:
        before = [path.name for path in starts[-1:]]
        learned = [*common, *before, name, repr(described([cell.objective, stage_settings(cell, name)])), *_of_whom(cell, name, of_cohort)]
        starts.append(folder / "starts" / joblib.hash(learned)[:16])
    # What only says how it starts is in the name of that.
    after = replace(settings, pretrain_on=(), source_size=None, source_epochs=None)
    after = after if starts else replace(after, transfer="encoder")  # there is no other
    rest = [asdict(task), cell.class_weight, repr(described([cell.segmentation, _plain(after)]))]
    key = joblib.hash([*common, *of_cohort, [path.name for path in starts], *rest])[:16]
    fold = re.sub(r"[^\w.-]+", "_", split.name)
    return Unit(cell, task, split, seed, folder / "cells" / f"{fold}-{seed}-{key}.json", tuple(starts), only_split)


def _of_whom(cell: Cell, name: str, of_cohort: list[Any]) -> list[Any]:
    """What tells the subjects of a stage from others: a source is the same on every split."""
    if name == "cohort" or cell.source is None:
        return of_cohort
    return [cell.source.hash, cell.settings.source_size, cell.cohort.hash if cell.source.name == cell.cohort.name else None]


def _plain(settings: CellSettings) -> dict[str, Any]:
    return {**vars(settings), "steps": vars(settings.steps)}
