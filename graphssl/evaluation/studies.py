"""Studies: a grid of cells, each pre-trained, fine-tuned and scored in its own way, on the same splits and seeds."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.cell import Cell
from graphssl.evaluation.cell_score import score
from graphssl.evaluation.cell_start import prepare_stage
from graphssl.evaluation.cell_unit import Unit, of_share, units_of
from graphssl.evaluation.parallel import with_bar
from graphssl.evaluation.protocol_splits import ProtocolName
from graphssl.evaluation.shares import Share
from graphssl.training.by_steps import SCORE

# Columns of a study's table beside its axes.
MEASURED = ("split", "seed", "metric", "value", "n_labelled", "n_rarest", "n_pretrained", "n_train", "n_test", "seconds")


@dataclass(frozen=True, eq=False)
class Study:
    """What `run_study` found.

    Attributes:
        table: One row a number: a column an axis, then those of `MEASURED`.
        curves: One row a check of a training: a column an axis, then `split`, `seed`, `step`, `train_loss` and the scores of validation subjects.
        left_out: Cells that the data do not allow, with the reason.
        resampled: Where there is one split, metrics on resamples of its test subjects (`with_resamples`): a row a cell, seed and metric; a column an
            axis, then `split`, `seed`, `metric`, `tested` (which subjects these are) and `resampled` (a number a resample). Else empty.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    left_out: pd.DataFrame
    resampled: pd.DataFrame


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
    units = [unit for cell in cells for unit in units_of(cell, protocol, n_splits, n_folds, seeds, Path(folder))]
    if share is not None:
        units = of_share(units, share)
    alone, parallel = n_jobs != 1, joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    for stage in range(max(len(cell.settings.pretrain_on) for cell in cells)):
        starts = list({unit.starts[stage]: unit for unit in units if len(unit.starts) > stage}.values())
        jobs = (joblib.delayed(prepare_stage)(unit, stage, alone) for unit in starts)
        for _ in with_bar(parallel(jobs), len(starts), "pre-training", progress):
            pass
    different = {unit.path: unit for unit in units}
    for _ in with_bar(parallel(joblib.delayed(score)(unit, alone) for unit in different.values()), len(different), "cells", progress):
        pass
    found = _gathered(units)
    if share is None and found.table.empty:
        raise DataError(f"Expected data that allow a cell of the study, found none that they do: {found.left_out['why'].iloc[0]}")
    return found


def _gathered(units: Sequence[Unit]) -> Study:
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    left_out: list[dict[str, Any]] = []
    resampled: list[dict[str, Any]] = []
    for unit in units:
        record = json.loads(unit.path.read_text(encoding="utf-8"))
        where = unit.where()
        if "left_out" in record:
            left_out.append({**where, "why": record["left_out"]})
            continue
        about = {name: record[name] for name in MEASURED if name in record}
        rows += [{**where, "metric": metric, "value": math.nan if v is None else v, **about} for metric, v in record["values"].items()]
        tested = {"tested": record.get("tested")}
        resampled += [{**where, "metric": metric, **tested, "resampled": draws} for metric, draws in record.get("resampled", {}).items()]
        if record["curve"]:
            curves.append(pd.DataFrame(record["curve"]).assign(**where))
    axes = list(dict.fromkeys(axis for unit in units for axis in unit.cell.levels))
    table = pd.DataFrame(rows, columns=[*axes, *MEASURED])
    joined = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["split", "seed", "step", SCORE])
    first = [name for name in (*axes, "split", "seed", "step") if name in joined]
    joined = joined[[*first, *[name for name in joined if name not in first]]]
    draws = pd.DataFrame(resampled, columns=[*axes, "split", "seed", "metric", "tested", "resampled"])
    return Study(table, joined, pd.DataFrame(left_out, columns=[*axes, "split", "seed", "why"]), draws)
