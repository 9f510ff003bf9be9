"""Protocols: split, fit, score once, and write down every number."""

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import clone

from graphssl.data.classes import classes_of
from graphssl.data.cohort import Cohort, check_before_outcome
from graphssl.data.splits import Split, k_fold, label_fraction, leave_one_site_out, published, stratum, time_ordered
from graphssl.errors import ConfigError, DataError
from graphssl.estimators import WITHHELD
from graphssl.evaluation.challenges import challenge_scores, check_scores_fit
from graphssl.evaluation.ensemble import check_members, ensemble
from graphssl.evaluation.segmentation import mean_scores
from graphssl.folders import file_written_whole
from graphssl.progress import progress_shown
from graphssl.results import Result
from graphssl.statistics.metrics import score_all
from graphssl.training.segment import subjects_with_masks

SHUFFLED = "|shuffled_labels"
CHOICES = ("method", "split", "seed", "label_fraction", "parameter", "value", "inner_score")

ProtocolName = Literal["leave_one_site_out", "k_fold", "published", "time_ordered"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a protocol found.

    Attributes:
        results: One record a number.
        predictions: One row a scored subject, method, split, seed and label fraction, with the probability of each class.
        splits: The splits, the same for every method.
        choices: What tuned methods chose on inner folds: one row a method, split, seed, label fraction and parameter.
    """

    results: list[Result]
    predictions: pd.DataFrame
    splits: list[Split]
    choices: pd.DataFrame

    def _repr_html_(self) -> str:
        """What a notebook shows: scores by method with intervals."""
        from graphssl.reports.notebook import results_card

        return results_card(pd.DataFrame([asdict(result) for result in self.results]))


@dataclass(frozen=True)
class Task:
    """What to predict, and under which names it is written down.

    Attributes:
        cohort: Name of the cohort.
        target: Name of the task in the results.
        protocol: Name of the protocol in the results.
        labels: Class index by subject id.
        classes: Names of the classes, in order of their index.
        masks: Name of the images whose masks are predicted, voxel by voxel; labels are then 0 for all who have some. None for classes of subjects.
    """

    cohort: str
    target: str
    protocol: str
    labels: Mapping[str, int]
    classes: tuple[str, ...]
    masks: str | None = None


def evaluate(
    cohort: Cohort,
    methods: Mapping[str, Any],
    *,
    protocol: ProtocolName = "leave_one_site_out",
    target: str | None = None,
    classes: Sequence[str] | None = None,
    masks: str | None = None,
    seeds: Sequence[int] = (0,),
    label_fractions: Sequence[float] = (1.0,),
    n_splits: int = 5,
    audited: Sequence[str] = (),
    scores: Sequence[str] = (),
    ensembles: Mapping[str, Sequence[str]] | None = None,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Fit and score every method on the same splits, seeds and label sets.

    The test subjects of a split are scored once, after everything was chosen on training subjects. Subjects without a label train without it and
    are never scored.

    Args:
        cohort: The cohort.
        methods: Estimators by name, each with `fit(cohort, y, groups)` and `predict_proba(cohort)`; those with a parameter `seed`, at any depth,
            get each seed in turn, others are fitted once a label set.
        protocol: `"leave_one_site_out"`, `"k_fold"` stratified by target and site, `"published"`, one split a column with the role `split`, or
            `"time_ordered"`, which trains on the past by prediction time and tests on what came next.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last; sorted when left out.
        masks: Name of the images whose masks are predicted, in place of a target. Methods then have `fit(cohort, y, groups)`, where `y` is -1 for
            subjects whose masks are withheld, and `score_masks(cohort)`; the predictions are its rows.
        seeds: Seeds of methods and label draws; splits are the same for all.
        label_fractions: Shares of the training labels to use.
        n_splits: Folds of `k_fold`, periods of `time_ordered`.
        audited: Methods to fit once more, for the first seed, on labels shuffled within each site: anything but chance then means a leak.
            Their records end in `|shuffled_labels`.
        scores: Scores of challenges beside the metrics, by their names in `CHALLENGE_SCORES`. Where one needs a threshold, every method is fitted
            once more, on four fifths of its labelled training subjects, to choose it on the others.
        ensembles: Methods that also predict together, by the name of the ensemble; see `graphssl.evaluation.ensemble`. They have metrics only.
        folder: Where finished parts are kept, so that a run that was killed goes on from there.
        n_jobs: Processes; each uses one thread when there are several.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ConfigError: If there are no methods, seeds or label fractions, what is to be audited is not among the methods, a score is unknown, or an
            ensemble has not two methods.
        DataError: If there is one class (in the cohort or beside a split's test set), one site, or a site too small to score.
        LeakageError: If a family or repeated scans would stand on two sides of a split.
    """
    _check_arguments(methods, seeds, label_fractions, audited)
    check_members(ensembles or {}, list(methods))
    if masks is not None and (audited or scores or ensembles):
        raise ConfigError("Expected neither audits, scores of challenges nor ensembles where masks are predicted, found some. Leave them out.")
    task = make_mask_task(cohort, protocol, masks) if masks is not None else make_task(cohort, target, classes, protocol)
    check_scores_fit(scores, cohort, len(task.classes))
    splits = make_splits(cohort, task, protocol, n_splits)
    units = [(split, seed) for split in splits for seed in seeds]
    store = None if folder is None else Path(folder)
    plan = _Plan(dict(methods), task, tuple(label_fractions), tuple(audited), tuple(scores), seeds[0], store, n_jobs != 1)
    jobs = (joblib.delayed(_unit)(cohort, plan, split, seed) for split, seed in units)
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    parts = list(shown(parallel(jobs), len(units), f"{protocol}, {len(methods)} methods", progress))
    results = [result for part in parts for result in part.results]
    predictions = pd.concat([part.predictions for part in parts], ignore_index=True)
    joint = [ensemble(name, members, results, predictions) for name, members in (ensembles or {}).items()]
    results += [result for records, _ in joint for result in records]
    predictions = pd.concat([predictions, *(rows for _, rows in joint)], ignore_index=True)
    choices = pd.DataFrame([choice for part in parts for choice in part.choices], columns=list(CHOICES))
    return Evaluation(results, predictions, splits, choices)


def make_task(cohort: Cohort, target: str | None, classes: Sequence[str] | None, protocol: str) -> Task:
    """The task of predicting a column.

    Raises:
        DataError: If a label is not among the classes, or there is one class.
        LeakageError: If the cohort has events with a time, and no prediction times that keep them from the outcome.
    """
    check_before_outcome(cohort)
    names, numbers = classes_of(cohort, target, classes)
    return Task(cohort.name, str(cohort.target(target).name), protocol, numbers, names)


def make_mask_task(cohort: Cohort, protocol: str, images: str | None = None) -> Task:
    """The task of predicting the masks of images.

    Args:
        cohort: The cohort.
        protocol: Name of the protocol.
        images: Name of the images; the only ones with masks when left out.

    Raises:
        DataError: If there are no images with masks, or several kinds and none is named.
    """
    known = {name: data for name, data in cohort.images.items() if data.has_masks and images in (None, name)}
    if len(known) != 1:
        raise DataError(f"Expected one kind of images with segmentation masks in {cohort.name!r}, found {list(known) or 'none'}.")
    ((name, data),) = known.items()
    return Task(cohort.name, f"masks of {name}", protocol, dict.fromkeys(subjects_with_masks(cohort, name), 0), data.classes[1:], name)


def make_splits(cohort: Cohort, task: Task, protocol: str, n_splits: int = 5) -> list[Split]:
    """Splits of the labelled subjects; unlabelled ones join the training side of each, unless their site or family is held out.

    Raises:
        ConfigError: If the protocol is unknown.
        DataError: If the cohort has no sites to leave out or no times to order by, or a training side holds one class only.
        LeakageError: If a family spans two sides.
    """
    labelled = cohort.select([subject for subject in cohort.ids if subject in task.labels])
    # Two labelled subjects may be linked through one without a label.
    groups, sites = cohort.groups[labelled.ids].tolist(), labelled.sites
    if protocol == "leave_one_site_out":
        if sites is None:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site', found none. Use k-fold cross-validation.")
        splits = leave_one_site_out(labelled.ids, sites.tolist(), groups=groups)
    elif protocol == "k_fold":
        strata = [str(task.labels[subject]) for subject in labelled.ids]
        both = strata if sites is None else stratum(strata, sites.tolist())
        enough = pd.Series(both).value_counts().min() >= n_splits
        splits = k_fold(labelled.ids, both if enough else strata, groups=groups, n_splits=n_splits)
    elif protocol == "published":
        names = cohort.schema.named("split")
        if not names:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'split', found none. Use k-fold cross-validation.")
        splits = [published(labelled.ids, labelled.subjects[name].tolist(), name=name, groups=groups) for name in names]
    elif protocol == "time_ordered":
        times = labelled.prediction_times
        if times is None:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'prediction_time', found none. Use k-fold cross-validation.")
        splits = time_ordered(labelled.ids, times.tolist(), groups=groups, n_splits=n_splits)
    else:
        raise ConfigError(f"Expected the protocol to be one of {', '.join(map(repr, get_args(ProtocolName)))}; found {protocol!r}.")
    if task.masks is None:
        _check_training_classes(task, splits)
    return [_with_unlabelled(cohort, task, split, protocol) for split in splits]


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


def shuffle_labels(cohort: Cohort, task: Task, seed: int) -> Task:
    """The task with labels shuffled within each site, so that nothing but their meaning is lost."""
    ids = pd.Series(list(task.labels), dtype="str")
    sites = cohort.sites
    members_of = pd.Series("all", index=ids.index) if sites is None else pd.Series([sites[i] for i in ids])
    generator = np.random.default_rng(seed)
    shuffled: dict[str, int] = {}
    for _, members in ids.groupby(members_of.to_numpy()):
        values = generator.permutation([task.labels[subject] for subject in members])
        shuffled.update(zip(members, values.tolist(), strict=True))
    return replace(task, labels=shuffled)


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


@dataclass(frozen=True)
class _Plan:
    """What every unit of work shares."""

    methods: dict[str, Any]
    task: Task
    fractions: tuple[float, ...]
    audited: tuple[str, ...]
    scores: tuple[str, ...]
    first_seed: int
    store: Path | None
    alone: bool

    def path(self, cohort: Cohort, split: Split, seed: int) -> Path | None:
        """Where a unit is kept; the name holds a hash of all that decides its numbers."""
        settings = {name: repr(described(method)) for name, method in self.methods.items()}
        key = joblib.hash([cohort.hash, asdict(self.task), split.hash, seed, self.fractions, self.audited, self.scores, self.first_seed, settings])
        if self.store is None:
            return None
        # Sites are called what people call them; a slash is no part of a file's name.
        name = re.sub(r"[^\w.-]+", "_", split.name)
        return self.store / f"{name}-{seed}-{key[:12]}.json"


class _Part(NamedTuple):
    """What one unit of work found."""

    results: list[Result]
    predictions: pd.DataFrame
    choices: list[dict[str, Any]]


def _unit(cohort: Cohort, plan: _Plan, split: Split, seed: int) -> _Part:
    """All methods on one split and seed; read back if an earlier run finished it."""
    path = plan.path(cohort, split, seed)
    if path is not None and path.is_file():
        return _read_unit(path)
    results: list[Result] = []
    tables: list[pd.DataFrame] = []
    choices: list[dict[str, Any]] = []
    shuffled = shuffle_labels(cohort, plan.task, seed)
    with one_thread(plan.alone):
        for name, method in plan.methods.items():
            estimator = clone(method)
            fractions = plan.fractions
            seeded = [key for key in estimator.get_params() if key == "seed" or key.endswith("__seed")]
            if seeded:
                estimator.set_params(**dict.fromkeys(seeded, seed))
            elif seed != plan.first_seed:  # with all labels nothing about it is random: once is enough
                fractions = tuple(fraction for fraction in fractions if fraction < 1)
            for fraction in fractions:
                found, table = fit_and_score(estimator, cohort, plan.task, split, seed, fraction, name, plan.scores)
                results += found
                tables.append(table)
                choices += _choices(estimator, name, split, seed, fraction)
            if name in plan.audited and seed == plan.first_seed:
                results += fit_and_score(estimator, cohort, shuffled, split, seed, 1.0, name + SHUFFLED)[0]
    predictions = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    part = _Part(results, predictions, choices)
    if path is not None:
        _write_unit(path, part)
    return part


def _choices(estimator: Any, name: str, split: Split, seed: int, fraction: float) -> list[dict[str, Any]]:
    """What a tuned estimator chose, in the columns `CHOICES`."""
    score = getattr(estimator, "best_score_", math.nan)
    where = (name, split.name, seed, fraction)
    chosen = getattr(estimator, "best_params_", {}).items()
    return [dict(zip(CHOICES, (*where, key, str(described(value)), None if math.isnan(score) else score), strict=True)) for key, value in chosen]


def _read_unit(path: Path) -> _Part:
    record = json.loads(path.read_text(encoding="utf-8"))
    results = [Result(**{**entry, "value": float("nan") if entry["value"] is None else entry["value"]}) for entry in record["results"]]
    return _Part(results, pd.DataFrame(record["predictions"]), record["choices"])


def _write_unit(path: Path, part: _Part) -> None:
    record = {
        "results": [{**asdict(r), "value": None if np.isnan(r.value) else r.value} for r in part.results],
        "predictions": {name: [None if value != value else value for value in column] for name, column in part.predictions.to_dict("list").items()},
        "choices": part.choices,
    }
    with file_written_whole(path) as aside:
        aside.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def described(value: Any) -> Any:
    """What decides a method's numbers, as plain values in a fixed order: estimators, encoders and objectives by name and arguments."""
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "arguments"):
        return [type(value).__name__, described(value.arguments())]
    if hasattr(value, "get_params"):
        return [type(value).__name__, described(value.get_params(deep=False))]
    if isinstance(value, Mapping):
        return [(str(name), described(value[name])) for name in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return [described(entry) for entry in value]
    return value


def without_labels(cohort: Cohort, task: Task) -> Cohort:
    """The cohort with its target column emptied: a method gets labels as `y`, or not at all."""
    if task.target not in cohort.schema:
        return cohort
    return cohort.with_column(cohort.schema[task.target], pd.Series(np.nan, index=cohort.subjects.index))


def _check_arguments(methods: Mapping[str, Any], seeds: Sequence[int], label_fractions: Sequence[float], audited: Sequence[str]) -> None:
    empty = [what for what, values in (("method", methods), ("seed", seeds), ("label fraction", label_fractions)) if len(values) == 0]
    if empty:
        raise ConfigError(f"Expected at least one {empty[0]} to evaluate, found none.")
    absent = sorted(set(audited) - set(methods))
    if absent:
        raise ConfigError(f"Expected audited methods among {', '.join(methods)}; found {absent}. Add them to the methods, or audit others.")


def _check_training_classes(task: Task, splits: Sequence[Split]) -> None:
    for split in splits:
        found = sorted({task.labels[subject] for subject in split.train})
        if len(found) < 2:
            raise DataError(
                f"Expected at least two classes among the training subjects of split {split.name!r}, found only {task.classes[found[0]]!r}: "
                f"every other class is in its test set. Use k-fold cross-validation, or leave subjects of {split.name!r} out."
            )


def _in_all_classes(probability: np.ndarray, known: Sequence[int] | None, n_classes: int) -> np.ndarray:
    """Columns for all classes of the task; one that no training subject had gets probability zero."""
    if known is None or len(known) == n_classes:
        return probability
    spread = np.zeros((len(probability), n_classes))
    spread[:, np.asarray(known)] = probability
    return spread


def _with_unlabelled(cohort: Cohort, task: Task, split: Split, protocol: str) -> Split:
    groups, sites = cohort.groups, cohort.sites
    held_groups = set(groups[list(split.test)])
    extra = [s for s in cohort.ids if s not in task.labels and groups[s] not in held_groups]
    if protocol == "leave_one_site_out" and sites is not None:
        extra = [s for s in extra if sites[s] != split.name]
    times = cohort.prediction_times
    if protocol == "time_ordered" and times is not None:
        extra = [s for s in extra if times[s] < times[list(split.test)].min()]
    return Split(split.name, (*split.train, *extra), split.test)


def _prediction_rows(task: Task, split: Split, seed: int, fraction: float, name: str, y_test: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"subject_id": list(split.test), "split": split.name, "seed": seed, "method": name, "label_fraction": fraction})
    table["y_true"] = y_test
    for k in range(probability.shape[1]):
        table[f"p_{k}"] = probability[:, k]
    return table.assign(task=task.target, protocol=task.protocol)


def shown(parts: Iterable[Any], total: int, label: str, progress: bool) -> Iterator[Any]:
    """Parts of a work as they come, with a bar on stderr where progress is to be shown; loops within them then show none of their own."""
    if not progress:
        yield from parts
        return
    from rich.console import Console
    from rich.progress import track

    with progress_shown(False):
        yield from track(parts, description=label, total=total, console=Console(stderr=True))
