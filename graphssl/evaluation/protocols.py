"""Protocols: split, fit, score once, and write down every number."""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, k_fold, label_fraction, leave_one_site_out, stratum
from graphssl.errors import ConfigError, DataError
from graphssl.estimators import WITHHELD
from graphssl.results import Result
from graphssl.statistics.metrics import score_all

ProtocolName = Literal["leave_one_site_out", "k_fold"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a protocol found.

    Attributes:
        results: One record a number.
        predictions: One row a scored subject, method, split, seed and label fraction, with the probability of each class.
        splits: The splits, the same for every method.
    """

    results: list[Result]
    predictions: pd.DataFrame
    splits: list[Split]


@dataclass(frozen=True)
class Task:
    """What to predict, and under which names it is written down.

    Attributes:
        cohort: Name of the cohort.
        target: Name of the task in the results.
        protocol: Name of the protocol in the results.
        labels: Class index by subject id.
        n_classes: Number of classes.
    """

    cohort: str
    target: str
    protocol: str
    labels: Mapping[str, int]
    n_classes: int


def evaluate(
    cohort: Cohort,
    methods: Mapping[str, Any],
    *,
    protocol: ProtocolName = "leave_one_site_out",
    target: str | None = None,
    classes: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    label_fractions: Sequence[float] = (1.0,),
    n_splits: int = 5,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Fit and score every method on the same splits, seeds and label sets.

    The test subjects of a split are scored once, after everything was chosen on training subjects. Subjects without a label train without it and are never scored.

    Args:
        cohort: The cohort.
        methods: Estimators by name, each with `fit(cohort, y, groups)` and `predict_proba(cohort)`; those with a `seed` get each seed in turn.
        protocol: `"leave_one_site_out"`, or `"k_fold"` stratified by target and site.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last; sorted when left out.
        seeds: Seeds of methods and label draws; splits are the same for all.
        label_fractions: Shares of the training labels to use.
        n_splits: Folds of `k_fold`.
        folder: Where finished parts are kept, so that a run that was killed goes on from there.
        n_jobs: Processes; each uses one thread when there are several.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: If there is one class, one site, or a site too small to score.
        LeakageError: If a family or repeated scans would stand on two sides of a split.
    """
    task = make_task(cohort, target, classes, protocol)
    splits = make_splits(cohort, task, protocol, n_splits)
    units = [(split, seed) for split in splits for seed in seeds]
    store = None if folder is None else Path(folder)
    jobs = (joblib.delayed(_unit)(cohort, methods, task, split, seed, label_fractions, store, n_jobs > 1) for split, seed in units)
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    parts = list(_shown(parallel(jobs), len(units), f"{protocol}, {len(methods)} methods", progress))
    results = [result for part in parts for result in part[0]]
    return Evaluation(results, pd.concat([part[1] for part in parts], ignore_index=True), splits)


def make_task(cohort: Cohort, target: str | None, classes: Sequence[str] | None, protocol: str) -> Task:
    """The task of predicting a column.

    Raises:
        DataError: If a label is not among the classes, or there is one class.
    """
    column = cohort.target(target)
    labels = column.dropna().astype(str)
    names = list(classes) if classes is not None else sorted(labels.unique())
    strange = sorted(set(labels) - set(names))
    if strange:
        raise DataError(f"Expected {column.name!r} to hold the classes {names}, found {strange[:3]} too. Name every class.")
    index = {str(subject): names.index(label) for subject, label in labels.items()}
    return Task(cohort.name, str(column.name), protocol, index, len(names))


def make_splits(cohort: Cohort, task: Task, protocol: str, n_splits: int = 5) -> list[Split]:
    """Splits of the labelled subjects; unlabelled ones join the training side of each, unless their site or family is held out.

    Raises:
        ConfigError: If the protocol is unknown.
        DataError: If the cohort has no sites to leave out.
        LeakageError: If a family spans two sides.
    """
    labelled = cohort.select([subject for subject in cohort.ids if subject in task.labels])
    groups, sites = labelled.groups.tolist(), labelled.sites
    if protocol == "leave_one_site_out":
        if sites is None:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site', found none. Use k-fold cross-validation.")
        splits = leave_one_site_out(labelled.ids, sites.tolist(), groups=groups)
    elif protocol == "k_fold":
        strata = [str(task.labels[subject]) for subject in labelled.ids]
        both = strata if sites is None else stratum(strata, sites.tolist())
        enough = pd.Series(both).value_counts().min() >= n_splits
        splits = k_fold(labelled.ids, both if enough else strata, groups=groups, n_splits=n_splits)
    else:
        raise ConfigError(f"Expected the protocol 'leave_one_site_out' or 'k_fold', found {protocol!r}.")
    return [_with_unlabelled(cohort, task, split, protocol) for split in splits]


def fit_and_score(
    method: Any, cohort: Cohort, task: Task, split: Split, seed: int, fraction: float, name: str
) -> tuple[list[Result], pd.DataFrame]:
    """Fit one method on one split and score its test subjects."""
    train, test = cohort.select(split.train), cohort.select(split.test)
    labelled = [subject for subject in split.train if subject in task.labels]
    kept = set(label_fraction(labelled, [task.labels[s] for s in labelled], fraction, seed=seed))
    y_train = np.asarray([task.labels[s] if s in kept else WITHHELD for s in split.train])
    y_test = np.asarray([task.labels[s] for s in split.test])
    started = time.perf_counter()
    method.fit(train, y_train, train.groups.to_numpy())
    seconds = time.perf_counter() - started
    probability = np.asarray(method.predict_proba(test))
    scores = score_all(y_test, probability[:, 1] if task.n_classes == 2 else probability)
    results = [
        Result(task.cohort, task.target, task.protocol, name, split.name, seed, fraction, metric, value, len(kept), len(split.test), seconds)
        for metric, value in scores.items()
    ]
    return results, _prediction_rows(task, split, seed, fraction, name, y_test, probability)


@contextmanager
def one_thread(active: bool = True) -> Any:
    """One torch thread inside, so that processes side by side do not fight for cores."""
    before = torch.get_num_threads()
    if active:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _unit(
    cohort: Cohort,
    methods: Mapping[str, Any],
    task: Task,
    split: Split,
    seed: int,
    fractions: Sequence[float],
    store: Path | None,
    alone: bool,
) -> tuple[list[Result], pd.DataFrame]:
    """All methods on one split and seed; read back if an earlier run finished it."""
    key = joblib.hash([cohort.hash, asdict(task), split.hash, seed, list(fractions), {n: repr(_settings(m)) for n, m in methods.items()}])
    path = None if store is None else store / f"{split.name}-{seed}-{key[:12]}.json"
    if path is not None and path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        return [Result(**{**r, "value": float("nan") if r["value"] is None else r["value"]}) for r in record["results"]], pd.DataFrame(record["predictions"])
    results: list[Result] = []
    tables = []
    with one_thread(alone):
        for name, method in methods.items():
            estimator = clone(method)
            if "seed" in estimator.get_params():
                estimator.set_params(seed=seed)
            for fraction in fractions:
                found, table = fit_and_score(estimator, cohort, task, split, seed, fraction, name)
                results += found
                tables.append(table)
    predictions = pd.concat(tables, ignore_index=True)
    if path is not None:
        _write_unit(path, results, predictions)
    return results, predictions


def _write_unit(path: Path, results: list[Result], predictions: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = [{**asdict(r), "value": None if np.isnan(r.value) else r.value} for r in results]
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps({"results": plain, "predictions": predictions.to_dict("list")}, allow_nan=False), encoding="utf-8")
    os.replace(aside, path)


def _settings(method: Any) -> list[Any]:
    """What decides a method's numbers, as plain values in a fixed order."""
    params = method.get_params(deep=False)
    plain = []
    for name in sorted(params):
        value = params[name]
        if hasattr(value, "arguments"):
            value = (type(value).__name__, value.arguments())
        elif hasattr(value, "get_params"):
            value = (type(value).__name__, _settings(value))
        plain.append((name, value))
    return [type(method).__name__, plain]


def _with_unlabelled(cohort: Cohort, task: Task, split: Split, protocol: str) -> Split:
    groups, sites = cohort.groups, cohort.sites
    held_groups = set(groups[list(split.test)])
    extra = [s for s in cohort.ids if s not in task.labels and groups[s] not in held_groups]
    if protocol == "leave_one_site_out" and sites is not None:
        extra = [s for s in extra if sites[s] != split.name]
    return Split(split.name, (*split.train, *extra), split.test)


def _prediction_rows(
    task: Task, split: Split, seed: int, fraction: float, name: str, y_test: np.ndarray, probability: np.ndarray
) -> pd.DataFrame:
    table = pd.DataFrame({"subject_id": list(split.test), "split": split.name, "seed": seed, "method": name, "label_fraction": fraction})
    table["y_true"] = y_test
    for k in range(probability.shape[1]):
        table[f"p_{k}"] = probability[:, k]
    return table.assign(task=task.target, protocol=task.protocol)


def _shown(parts: Iterable[Any], total: int, label: str, progress: bool) -> Iterable[Any]:
    if not progress:
        return parts
    from rich.console import Console
    from rich.progress import track

    return track(parts, description=label, total=total, console=Console(stderr=True))
