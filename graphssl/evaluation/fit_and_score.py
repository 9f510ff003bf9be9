"""One method on one split: fitted on its training side, scored once on its test subjects."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, label_fraction
from graphssl.estimators import WITHHELD
from graphssl.evaluation.challenges import challenge_scores
from graphssl.evaluation.segmentation import mean_scores
from graphssl.evaluation.task import Task, without_labels
from graphssl.results import Result
from graphssl.statistics.metrics import score_all


def fit_and_score(
    method: Any, cohort: Cohort, task: Task, split: Split, seed: int, fraction: float, name: str, extra: Sequence[str] = ()
) -> tuple[list[Result], pd.DataFrame]:
    """Fit one method on one split and score its test subjects; the cohorts it sees have no labels in their tables. `extra` names challenge scores."""
    train, y_train = training_side(cohort, task, split, seed, fraction)
    test = without_labels(cohort.select(split.test), task)
    n_train = int((y_train != WITHHELD).sum())
    started = time.perf_counter()
    method.fit(train, y_train, train.groups.to_numpy())
    seconds = time.perf_counter() - started
    if task.masks is not None:
        table = method.score_masks(test)
        where = (task.cohort, task.target, task.protocol, name, split.name, seed, fraction)
        named = {"split": split.name, "seed": seed, "method": name, "label_fraction": fraction}
        found = mean_scores(table, task.classes)
        return [Result(*where, metric, value, n_train, len(split.test), seconds) for metric, value in found.items()], table.assign(**named)
    y_test = np.asarray([task.labels[s] for s in split.test])
    probability = _in_all_classes(np.asarray(method.predict_proba(test)), getattr(method, "classes_", None), len(task.classes))
    scores = score_all(y_test, probability[:, 1] if len(task.classes) == 2 else probability)
    scores |= challenge_scores(extra, method, train, y_train, test, y_test, probability[:, 1], seed=seed)
    results = [
        Result(task.cohort, task.target, task.protocol, name, split.name, seed, fraction, metric, value, n_train, len(split.test), seconds)
        for metric, value in scores.items()
    ]
    rows = _prediction_rows(task, split, seed, fraction, name, y_test, probability)
    sites = test.sites
    return results, rows if sites is None else rows.assign(site=sites.to_numpy())


def training_side(cohort: Cohort, task: Task, split: Split, seed: int = 0, fraction: float = 1.0) -> tuple[Cohort, npt.NDArray[np.int64]]:
    """The training subjects of a split, without labels in their table, and their class indices `[n]`, `-1` where a label is withheld.

    Args:
        cohort: The cohort.
        task: What to predict.
        split: The split.
        seed: Seed of the draw of labels.
        fraction: Share of the labels to use.
    """
    labelled = [subject for subject in split.train if subject in task.labels]
    kept = set(label_fraction(labelled, [task.labels[s] for s in labelled], fraction, seed=seed))
    y = np.asarray([task.labels[s] if s in kept else WITHHELD for s in split.train])
    return without_labels(cohort.select(split.train), task), y


def _in_all_classes(probability: np.ndarray, known: Sequence[int] | None, n_classes: int) -> np.ndarray:
    """Columns for all classes of the task; one that no training subject had gets probability zero."""
    if known is None or len(known) == n_classes:
        return probability
    spread = np.zeros((len(probability), n_classes))
    spread[:, np.asarray(known)] = probability
    return spread


def _prediction_rows(task: Task, split: Split, seed: int, fraction: float, name: str, y_test: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"subject_id": list(split.test), "split": split.name, "seed": seed, "method": name, "label_fraction": fraction})
    table["y_true"] = y_test
    for k in range(probability.shape[1]):
        table[f"p_{k}"] = probability[:, k]
    return table.assign(task=task.target, protocol=task.protocol)
