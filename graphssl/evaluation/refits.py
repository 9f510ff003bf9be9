"""The same explanation from models fitted again: on the training side of every fold, with every seed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation.described import described
from graphssl.evaluation.explain import saliency
from graphssl.evaluation.fit_and_score import training_side
from graphssl.evaluation.parallel import one_thread
from graphssl.evaluation.task import Task
from graphssl.folders import file_written_whole
from graphssl.progress import tracked


def refit_saliencies(
    cohort: Cohort,
    method: ConnectomeClassifier,
    task: Task,
    units: Sequence[tuple[Split, int]],
    *,
    atlas: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
) -> npt.NDArray[np.float32]:
    """Effects of connections `[M, R, R]` in models fitted on the training subjects of splits, which are also the subjects explained.

    Training sides share most of their subjects, so that agreement between these maps is an upper bound of agreement between new cohorts.

    Args:
        cohort: The cohort.
        method: The classifier to fit again.
        task: What to predict.
        units: Splits and seeds, one fit each.
        atlas: Atlas to explain; the model's first when left out.
        folder: Where finished maps are kept, so that a run that was killed goes on from there.
        n_jobs: Processes; each uses one thread when there are several.
    """
    store = None if folder is None else Path(folder)
    jobs = (joblib.delayed(_map)(cohort, method, task, split, seed, atlas, store, n_jobs != 1) for split, seed in units)
    return np.stack(list(tracked(joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs), "Fitting again", len(units))))


def _map(
    cohort: Cohort, method: Any, task: Task, split: Split, seed: int, atlas: str | None, store: Path | None, alone: bool
) -> npt.NDArray[np.float32]:
    key = joblib.hash([cohort.hash, task, split.hash, seed, atlas, repr(described(method))])
    path = None if store is None else store / f"saliency-{key[:16]}.npy"
    if path is not None and path.is_file():
        return np.asarray(np.load(path, allow_pickle=False))
    train, y = training_side(cohort, task, split, seed)
    with one_thread(alone):
        fitted = clone(method).set_params(seed=seed).fit(train, y)
        found = saliency(fitted.model_, train, atlas=atlas).connections
    if path is not None:
        with file_written_whole(path) as aside, aside.open("wb") as file:  # NumPy would add its ending to a name
            np.save(file, found)
    return found
