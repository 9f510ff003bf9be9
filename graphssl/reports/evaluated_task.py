"""The question a run answers, and the comparisons that answer it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from graphssl.errors import DataError
from graphssl.reports.names import AUDIT, SITE_PROBE, Role, role
from graphssl.reports.run_folder import EvaluationRun
from graphssl.statistics.compare import paired_comparison, paired_delong
from graphssl.statistics.difference import Comparison
from graphssl.statistics.metrics import LOWER_IS_BETTER, METRICS, Interval, kept_within
from graphssl.statistics.permutation import permutation_over_splits
from graphssl.statistics.predictions import bootstrap_over_splits, probability_columns, scored_splits
from graphssl.statistics.summary import summarise

Verdict = Literal["better", "worse", "open", "unknown"]

_ORDER: tuple[Role, ...] = ("pretrained", "scratch", "control", "linear", "confounds", "majority")
_PERMUTATIONS = 999
_PREFERRED_METRICS = ("auroc", "balanced_accuracy", "dice")
_BASELINE_ROLES: tuple[tuple[Role, ...], ...] = (("linear",), ("confounds", "majority"))


@dataclass(frozen=True)
class Score:
    """What one method scored in one metric at one label fraction; a row of `graphssl.statistics.summarise`.

    Attributes:
        method: Name of the method.
        label_fraction: Share of the training labels.
        metric: Name of the metric.
        mean: Mean over splits after averaging seeds.
        sd: Standard deviation over splits.
        low: Lower end of the 95% interval of the mean.
        high: Upper end.
        min: Lowest split.
        min_split: Its name.
        max: Highest split.
        max_split: Its name.
        n_splits: Splits with a value.
        n_undefined: Splits without one.
        n_seeds: Number of seeds.
        n_test: Subjects scored in all splits together.
        interval_over: What the interval speaks of; empty where there is none.
    """

    method: str
    label_fraction: float
    metric: str
    mean: float
    sd: float
    low: float
    high: float
    min: float
    min_split: str
    max: float
    max_split: str
    n_splits: int
    n_undefined: int
    n_seeds: int
    n_test: int
    interval_over: Literal["splits", "subjects", ""]


_SCORE_FIELDS = [field.name for field in fields(Score)]


@dataclass(frozen=True, eq=False)
class EvaluatedTask:
    """One task under one protocol.

    Attributes:
        run: The run folder.
        task: What was predicted.
        protocol: How subjects were split.
        results: Its results, audits left out.
        metric: The metric that decides.
    """

    run: EvaluationRun
    task: str
    protocol: str
    results: pd.DataFrame
    metric: str

    @cached_property
    def scores(self) -> list[Score]:
        """One a method, label fraction and metric. A single split has no spread: there the interval is a bootstrap over its subjects."""
        found = [self._with_bootstrap(score) if score.n_splits == 1 else score for score in _scores(self.results)]
        return [self._bounded(score) for score in found]

    @cached_property
    def fractions(self) -> tuple[float, ...]:
        """Label fractions with the deciding metric, largest first."""
        return tuple(sorted(self.results.loc[self.results["metric"] == self.metric, "label_fraction"].unique().tolist(), reverse=True))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics, the deciding one first."""
        found = self.results["metric"].unique().tolist()
        return tuple(sorted(found, key=lambda name: (name != self.metric, list(METRICS).index(name) if name in METRICS else len(METRICS))))

    @cached_property
    def _parts(self) -> dict[tuple[float, str], pd.DataFrame]:
        """Results by label fraction and metric."""
        table = self.results
        return {(f, m): table[(table["label_fraction"] == f) & (table["metric"] == m)] for f in self.fractions for m in self.metrics}

    @cached_property
    def n_classes(self) -> int:
        """Number of classes, from the predictions, else from the manifest; two where it was not recorded."""
        if self.run.predictions is not None:
            return len(probability_columns(self.run.predictions))
        classes = self.run.part("task").get("classes")
        return len(classes) if isinstance(classes, list) and classes else 2

    @cached_property
    def ours(self) -> str | None:
        """The method the run is about: the fine-tuned pre-trained encoder, or what comes nearest to it."""
        return self._first("pretrained", self.fractions[0])

    def methods(self, fraction: float) -> list[str]:
        """Methods with results at a label fraction: ours, random weights, controls, then baselines, each by their score."""
        flip = 1 if self.metric in LOWER_IS_BETTER else -1
        found = self.rows(fraction, self.metric)
        return [
            score.method for score in sorted(found, key=lambda score: (_ORDER.index(role(score.method)), _nan_last(flip * score.mean), score.method))
        ]

    def rows(self, fraction: float, metric: str) -> list[Score]:
        """Scores of all methods at one label fraction, in one metric."""
        return [score for score in self.scores if score.label_fraction == fraction and score.metric == metric]

    def score(self, method: str | None, fraction: float, metric: str | None = None) -> Score | None:
        """Score of one method, or None where it has none."""
        return next((score for score in self.rows(fraction, metric or self.metric) if score.method == method), None)

    def best_baseline(self, fraction: float, metric: str | None = None) -> str | None:
        """The baseline with the best mean on these very test folds (which favours it), linear ones before trivial ones."""
        metric = metric or self.metric
        scored = [score for score in self.rows(fraction, metric) if not math.isnan(score.mean)]
        for roles in _BASELINE_ROLES:
            baselines = [score for score in scored if role(score.method) in roles]
            if baselines:
                pick = min if metric in LOWER_IS_BETTER else max
                return pick(baselines, key=lambda score: score.mean).method
        return None

    def scratch(self, fraction: float) -> str | None:
        """The encoder without pre-training, where it was scored."""
        return self._first("scratch", fraction)

    def compare(self, method: str, other: str | None, fraction: float, metric: str | None = None) -> Comparison | None:
        """Paired difference of two methods over splits; over subjects where there is one split. None where it cannot be computed."""
        metric = metric or self.metric
        if other is None or method == other:
            return None
        if (fraction, metric) not in self._parts:
            return None
        try:
            found = paired_comparison(self._parts[fraction, metric], method, other, metric, label_fraction=fraction)
        except DataError:  # not scored on common splits
            return None
        if found.n == 1 and metric == "auroc":
            found = self.delong(method, other, fraction) or found
        largest = self._largest(metric)
        return kept_within(found, -largest, largest)

    def delong(self, method: str, other: str | None, fraction: float) -> Comparison | None:
        """AUROC difference over subjects, or None where predictions do not allow it."""
        if self.run.predictions is None or other is None or method == other or self.n_classes != 2:
            return None
        try:
            found = paired_delong(self.run.predictions, method, other, task=self.task, protocol=self.protocol, label_fraction=fraction)
        except DataError:  # no predictions of one of them, or of other subjects
            return None
        return found if found.n else None

    def chance_p_value(self, method: str, fraction: float) -> float:
        """How often permuted labels (within test set and site) score as well, as a p value; NaN where predictions do not allow it."""
        frame = self.predictions(method, fraction)
        if frame.empty or self.metric not in METRICS:
            return math.nan
        return permutation_over_splits(scored_splits(frame, method, label_fraction=fraction), self.metric, n_permutations=_PERMUTATIONS).p_value

    def verdict(self, comparison: Comparison | None, metric: str | None = None) -> Verdict:
        """What a difference says: better or worse where its interval excludes zero, else open; unknown without an interval."""
        if comparison is None or math.isnan(comparison.low):
            return "unknown"
        flip = -1 if (metric or self.metric) in LOWER_IS_BETTER else 1
        low, high = sorted((flip * comparison.low, flip * comparison.high))
        return "better" if low > 0 else "worse" if high < 0 else "open"

    @property
    def chance(self) -> float:
        """What the deciding metric gives without any information; NaN where that depends on the data."""
        return {"auroc": 0.5, "balanced_accuracy": 1 / self.n_classes}.get(self.metric, math.nan)

    def interval_by_split(self, method: str, fraction: float) -> dict[str, Interval]:
        """Score of each test set with a bootstrap interval over its subjects; empty without predictions."""
        frame = self.predictions(method, fraction)
        if frame.empty or self.metric not in METRICS:
            return {}
        parts = scored_splits(frame, method, label_fraction=fraction)
        return {split: bootstrap_over_splits({split: part}, self.metric) for split, part in parts.items()}

    def predictions(self, method: str, fraction: float) -> pd.DataFrame:
        """Rows of the predictions of one method; empty where there are none."""
        frame = self.run.predictions
        if frame is None:
            return pd.DataFrame()
        chosen = (frame["task"] == self.task) & (frame["protocol"] == self.protocol) & (frame["method"] == method)
        return frame[chosen & np.isclose(frame["label_fraction"].astype(float), fraction)]

    def _first(self, wanted: Role, fraction: float) -> str | None:
        rows = self.results[self.results["label_fraction"] == fraction]
        names = [str(method) for method in rows["method"].unique() if role(str(method)) == wanted]
        return min(names, key=lambda name: (name != wanted, names.index(name))) if names else None

    def _bounded(self, score: Score) -> Score:
        largest = self._largest(score.metric)
        return score if math.isinf(largest) else kept_within(score, 0.0, largest)

    def _largest(self, metric: str) -> float:
        """What a metric cannot exceed, so that an interval over few splits does not either; infinite where that is not known."""
        if metric not in METRICS:
            return math.inf
        return 2.0 if metric == "brier" and self.n_classes > 2 else 1.0

    def _with_bootstrap(self, score: Score) -> Score:
        frame = self.predictions(score.method, score.label_fraction)
        if frame.empty or score.metric not in METRICS:
            return score
        found = bootstrap_over_splits(scored_splits(frame, score.method, label_fraction=score.label_fraction), score.metric)
        return replace(score, low=found.low, high=found.high, interval_over="subjects")


def read_evaluated(run: EvaluationRun) -> EvaluatedTask:
    """The main question of a run: the task and protocol of its manifest, else the first in its results.

    Raises:
        DataError: If the results hold nothing but audits and probes.
    """
    results = run.results
    plain = results[~results["method"].str.contains("|", regex=False) & (results["task"] != SITE_PROBE)]
    if plain.empty:
        raise DataError(f"Expected results of a task in {run.folder / 'results.jsonl'}, found audits only. Run `graphssl evaluate` again.")
    wanted_values = {"task": ("task", "target"), "protocol": ("protocol", "name"), "cohort": ("cohort", "name")}
    for column, (section, entry) in wanted_values.items():
        wanted = run.part(section).get(entry)
        values = plain[column].unique().tolist()
        plain = plain[plain[column] == (wanted if wanted in values else values[0])]
    first = plain.iloc[0]
    return EvaluatedTask(run, str(first["task"]), str(first["protocol"]), plain, _deciding(plain["metric"].unique().tolist()))


def audits(evaluated: EvaluatedTask) -> list[Score]:
    """Scores of the methods trained on shuffled labels, deciding metric only."""
    rows = evaluated.run.results
    return _scores(rows[(rows["task"] == evaluated.task) & rows["method"].str.endswith(f"|{AUDIT}") & (rows["metric"] == evaluated.metric)])


def site_probes(evaluated: EvaluatedTask) -> list[Score]:
    """How well the site can be read from what, balanced accuracy only."""
    rows = evaluated.run.results
    return _scores(rows[(rows["task"] == SITE_PROBE) & (rows["metric"] == "balanced_accuracy")])


def n_sites(run: EvaluationRun) -> int:
    """Number of sites of the cohort; zero where it was not recorded."""
    sites = run.part("cohort").get("sites")
    return len(sites) if isinstance(sites, dict) else 0


def _scores(results: pd.DataFrame) -> list[Score]:
    table = summarise(results)
    table["interval_over"] = np.where(table["n_splits"] > 1, "splits", "")
    return [Score(**{str(name): value for name, value in row.items()}) for row in table[_SCORE_FIELDS].to_dict("records")]


def _deciding(metrics: Iterable[str]) -> str:
    names = list(metrics)
    return next((name for name in _PREFERRED_METRICS if name in names), names[0])


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
