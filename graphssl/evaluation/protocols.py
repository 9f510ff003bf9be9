"""Protocols: split, fit, score once, and write down every number."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.errors import ConfigError
from graphssl.evaluation.challenges import check_scores_fit
from graphssl.evaluation.described import described
from graphssl.evaluation.ensemble import check_members, ensemble
from graphssl.evaluation.fit_and_score import fit_and_score
from graphssl.evaluation.parallel import one_thread, with_bar
from graphssl.evaluation.protocol_splits import ProtocolName, make_splits
from graphssl.evaluation.task import Task, make_mask_task, make_task, shuffle_labels
from graphssl.folders import file_written_whole
from graphssl.results import Result

SHUFFLED = "|shuffled_labels"
CHOICES = ("method", "split", "seed", "label_fraction", "parameter", "value", "inner_score")


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
    parts = list(with_bar(parallel(jobs), len(units), f"{protocol}, {len(methods)} methods", progress))
    results = [result for part in parts for result in part.results]
    predictions = pd.concat([part.predictions for part in parts], ignore_index=True)
    joint = [ensemble(name, members, results, predictions) for name, members in (ensembles or {}).items()]
    results += [result for records, _ in joint for result in records]
    predictions = pd.concat([predictions, *(rows for _, rows in joint)], ignore_index=True)
    choices = pd.DataFrame([choice for part in parts for choice in part.choices], columns=list(CHOICES))
    return Evaluation(results, predictions, splits, choices)


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


def _check_arguments(methods: Mapping[str, Any], seeds: Sequence[int], label_fractions: Sequence[float], audited: Sequence[str]) -> None:
    empty = [what for what, values in (("method", methods), ("seed", seeds), ("label fraction", label_fractions)) if len(values) == 0]
    if empty:
        raise ConfigError(f"Expected at least one {empty[0]} to evaluate, found none.")
    absent = sorted(set(audited) - set(methods))
    if absent:
        raise ConfigError(f"Expected audited methods among {', '.join(methods)}; found {absent}. Add them to the methods, or audit others.")
