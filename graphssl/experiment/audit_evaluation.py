"""Checks of an evaluation: splits, predictions and results against one another, the cohort and the protocol; and shuffled labels."""

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.overlap import contents
from graphssl.data.splits import Split
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.evaluation.baselines import BASELINES, make_baseline
from graphssl.evaluation.challenges import CHALLENGE_SCORES
from graphssl.evaluation.fit_and_score import fit_and_score
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.protocols import SHUFFLED
from graphssl.evaluation.segmentation import mean_scores
from graphssl.evaluation.task import Task, make_mask_task, make_task, shuffle_labels
from graphssl.experiment.audit_check import FoundError, NotCheckedError, expect_none
from graphssl.experiment.audit_configuration import check_readable
from graphssl.experiment.config import Experiment, read_experiment
from graphssl.experiment.runs import joint_hash
from graphssl.experiment.stages import check_stages_apart
from graphssl.folders import ordinary
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.progress import tracked
from graphssl.results import Result, read_results
from graphssl.statistics.metrics import score_all
from graphssl.statistics.permutation import shuffled_error
from graphssl.statistics.predictions import probability_columns
from graphssl.training.model import Model

# Both numbers were computed from the same doubles in another order.
_ROUNDING = 1e-9
# A mean of shuffled labels that is further from chance than this many standard errors, and than the margin, is a finding.
_ERRORS, _MARGIN = 3.0, 0.05
_N_SHUFFLES = 5
# One row a subject, method, split, seed and label fraction.
_CELL = ["method", "split", "seed", "label_fraction"]


class EvaluationAudit:
    """The parts of a run folder that say something of one another."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.experiment: Experiment | None = None
        self.cohort: Cohort | None = None

    def checks(self) -> dict[str, Callable[[], str]]:
        """The checks of an evaluation, by what they are about."""
        return {
            "splits: as recorded": self.recorded_splits,
            "splits: no subject, family or site on two sides": self.apart,
            "splits: those of the protocol": self.protocol_splits,
            "leakage: no scan on two sides under another id": self.copies,
            "leakage: nobody of the cohort in a stage with another": self.stages,
            "leakage: nobody but the cohort in saved models": self.populations,
            "predictions: of the test subjects, with their labels": self.predicted,
            "results: follow from the predictions": self.recomputed,
            "results: of the numbers of subjects in the splits": self.counted,
            "results: those of the finished parts": self.units,
            "shuffled labels: score chance": self.shuffled,
        }

    def read_data(self, cohort: str | os.PathLike[str] | None) -> str:
        """Load the cohort and compare its hash."""
        check_readable(self.folder, adapter=cohort is None)
        experiment, _ = read_experiment(["--config", str(self.folder / "config.yaml")])
        if cohort is None and experiment.cohort.absent():
            raise NotCheckedError(f"there is nothing at {', '.join(experiment.cohort.absent())}; --cohort gives the data")
        loaded = experiment.cohort.open() if cohort is None else Cohort.load(cohort)
        before = self.manifest["cohort"]["hash"]
        if loaded.hash != before:
            raise FoundError([f"the data have the hash {loaded.hash}, the manifest says {before}"])
        if isinstance(loaded, StreamedCohort):
            loaded.check()
        self.experiment, self.cohort = experiment, loaded if isinstance(loaded, Cohort) else loaded.known
        return f"{len(loaded)} subjects, hash {before}"

    def recorded_splits(self) -> str:
        """Hash of each split, and of all of them."""
        splits, told = self.splits(), json.loads((self.folder / "splits.json").read_text(encoding="utf-8"))
        pairs = [(split, one["hash"]) for split, one in zip(splits, told, strict=True)]
        expect_none([f"{split.name!r} has the hash {split.hash}, {hash_} is recorded" for split, hash_ in pairs if split.hash != hash_])
        joint, recorded = joint_hash([split.hash for split in splits]), self.manifest["protocol"]["splits_hash"]
        if joint != recorded:
            raise FoundError([f"the splits have the hash {joint}, the manifest says {recorded}"])
        return f"{len(splits)} splits, hash {joint}"

    def splits(self) -> list[Split]:
        """The recorded splits; a subject on both sides cannot be one."""
        told = json.loads((self.folder / "splits.json").read_text(encoding="utf-8"))
        return [Split(one["name"], tuple(one["train"]), tuple(one["test"])) for one in told]

    def apart(self) -> str:
        """No subject, family or site on two sides."""
        splits = self.splits()
        if self.cohort is None:
            raise NotCheckedError("no subject is on two sides; families and sites are not known without the data")
        known = set(self.cohort.ids)
        members = [(split.name, subject) for split in splits for subject in (*split.train, *split.test)]
        expect_none([f"{subject!r} of {name!r} is not in the cohort" for name, subject in members if subject not in known])
        groups, sites = dict(self.cohort.groups), self.cohort.sites
        for split in splits:
            split.check(groups)
            if self.manifest["protocol"]["name"] == "leave_one_site_out" and sites is not None:
                split.check(dict(sites), "site")
        return f"{len(splits)} splits, {len(set(groups.values()))} families or single subjects"

    def protocol_splits(self) -> str:
        """The splits made anew."""
        cohort, experiment, task = self._loaded()
        settings = experiment.evaluation
        wanted = {split.name: split.hash for split in make_splits(cohort, task, settings.protocol, settings.n_splits)}
        found = {split.name: split.hash for split in self.splits()}
        differing = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
        expect_none([f"{name!r} is {found.get(name, 'absent')}, the protocol makes {wanted.get(name, 'none')}" for name in differing])
        return f"{settings.protocol} makes the same {len(wanted)}"

    def copies(self) -> str:
        """The same arrays or images under two ids."""
        known = contents(self._loaded()[0])
        if known.empty:
            raise NotCheckedError("of tables alike rows are no copies: two people may have the same values")
        for split in self.splits():
            train, test = (known[known["subject_id"].isin(side)] for side in (split.train, split.test))
            shared = test.merge(train, on="content", suffixes=("", "_train"))
            pairs = shared[["subject_id", "subject_id_train"]].drop_duplicates().itertuples(index=False)
            expect_none([f"{one!r} in the test set of {split.name!r} has the data of {other!r}, who trained" for one, other in pairs])
        return f"{len(known)} scans, images or streams of events, none on two sides"

    def stages(self) -> str:
        """Who of the cohort a stage with a cohort of its own learned from."""
        cohort, experiment, _ = self._loaded()
        own = [stage for stage in experiment.chain if stage.cohort is not None]
        check_stages_apart(own, cohort)
        return f"{len(own)} stages with cohorts of their own" if own else "no stage has a cohort of its own"

    def populations(self) -> str:
        """Patients that a saved model holds."""
        told = []
        for name in ("encoder", "model"):
            if not (self.folder / name).is_dir():
                continue
            builder = Model.from_pretrained(self.folder / name).builder
            if not isinstance(builder, PopulationBuilder):
                continue
            held = [str(subject) for subject in builder.index_.ids_]
            in_splits = {subject for split in self.splits() for subject in (*split.train, *split.test)}
            known = in_splits if self.cohort is None else set(self.cohort.ids)
            expect_none([f"{name}/ holds the patient {subject!r}, who is not in the cohort" for subject in held if subject not in known])
            told.append(f"{name}/ holds {len(held)} patients")
        held_by = f"{' and '.join(told)}; " if told else "no patient is held; "
        return held_by + "saved models are of the whole cohort, and no score here is theirs: each split fits its own"

    def predicted(self) -> str:
        """Who was predicted, and with what label."""
        table = self._predictions()
        probability = table[probability_columns(table)].to_numpy()
        if not ((probability >= 0) & (probability <= 1)).all() or np.abs(probability.sum(axis=1) - 1).max() > 1e-4:
            raise FoundError(["probabilities are not between 0 and 1, or do not sum to 1"])
        tests = {split.name: sorted(split.test) for split in self.splits()}
        cells = table.groupby(_CELL, sort=False)["subject_id"]
        there = set(table[["method", "split"]].itertuples(index=False, name=None))
        pairs = itertools.product(map(str, table["method"].unique()), tests)
        expect_none([f"{_named(cell)} predicts other subjects than the test set" for cell, ids in cells if sorted(ids) != tests.get(str(cell[1]))])
        expect_none([f"{method!r} predicts nothing of {name!r}" for method, name in pairs if (method, name) not in there])
        labels = table[["subject_id", "y_true"]].drop_duplicates()
        expect_none([f"{subject!r} has several labels" for subject in labels.loc[labels["subject_id"].duplicated(), "subject_id"]])
        if self.cohort is None:
            return f"{len(table)} rows; each subject has one label, which is not compared without the data"
        known = self._loaded()[2].labels
        wrong = [(subject, label) for subject, label in labels.itertuples(index=False) if known.get(subject) != label]
        expect_none([f"{subject!r} has label {label}, the cohort says {known.get(subject)}" for subject, label in wrong])
        return f"{len(table)} rows of {len(labels)} subjects"

    def recomputed(self) -> str:
        """The metrics, from predictions or segmentations."""
        results, found = self._results(), self._scores()
        wrong, n, n_other = [], 0, 0
        for row in _rows(results):
            cell = tuple(row[name] for name in _CELL)
            if row["metric"] in CHALLENGE_SCORES or row["method"].endswith(SHUFFLED):
                n_other += 1
                continue
            value = found.get(cell, {}).get(row["metric"])
            n += 1
            if value is None or not np.isclose(value, row["value"], rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True):
                wrong.append(f"{row['metric']} of {_named(cell)} is {row['value']}, the predictions give {value}")
        expect_none(wrong)
        have = set(results[_CELL].itertuples(index=False, name=None))
        expect_none([f"{_named(cell)} has predictions and no result" for cell in found if cell not in have])
        return f"{n} numbers computed anew, all equal" + (f"; {n_other} of shuffled labels or challenges have no predictions" if n_other else "")

    def counted(self) -> str:
        """Numbers of subjects in results."""
        splits = {split.name: split for split in self.splits()}
        labels = None if self.cohort is None else self._loaded()[2].labels
        wrong = []
        for row in _rows(self._results().drop_duplicates([*_CELL, "n_train", "n_test"])):
            split = splits.get(row["split"])
            if split is None:
                wrong.append(f"{row['split']!r} of {row['method']!r} is no split")
                continue
            most = len(split.train) if labels is None else sum(subject in labels for subject in split.train)
            has_all = row["label_fraction"] == 1 and labels is not None
            if row["n_test"] != len(split.test) or not (most if has_all else 1) <= row["n_train"] <= most:
                found = f"{row['n_train']} + {row['n_test']} subjects, the split {most} + {len(split.test)}"
                wrong.append(f"{row['method']!r} in {row['split']!r} has {found}")
        expect_none(wrong)
        return "training and test subjects as many as in the splits"

    def units(self) -> str:
        """Results kept of finished splits."""
        paths = sorted((self.folder / "units").glob("*.json"))
        if not paths:
            raise NotCheckedError("no finished parts are kept")
        where = ["task", "method", "split", "seed", "label_fraction", "metric"]
        entries = [entry for path in paths for entry in json.loads(ordinary(path).read_text(encoding="utf-8"))["results"]]
        kept = {tuple(entry[name] for name in where): entry["value"] for entry in entries}
        results = self._results()
        values = {tuple(row[name] for name in where): float(row["value"]) for row in _rows(results)}
        wrong = [(key, value) for key, value in kept.items() if key in values and not _same(value, values[key])]
        expect_none([f"{key[-1]} of {_named(key[1:-1])} is {values[key]}, its part says {value}" for key, value in wrong])
        return f"{sum(key in values for key in kept)} numbers in {len(paths)} parts"

    def shuffled(self) -> str:
        """The control that is in the results."""
        results = self._results()
        rows = results[results["method"].str.endswith(SHUFFLED) & (results["metric"] == "auroc")]
        if rows.empty:
            raise NotCheckedError("the run has no method fitted on shuffled labels; --shuffle fits one now")
        return "; ".join(_chance(str(name), part, self._test_labels()) for name, part in rows.groupby("method"))

    def shuffled_now(self) -> str:
        """The cheapest baseline of the run on labels shuffled now."""
        cohort, experiment, task = self._loaded()
        if task.masks is not None:
            raise NotCheckedError("masks of images are not shuffled")
        seconds = self._results().groupby("method")["seconds"].mean().sort_values()
        names = [name for name in seconds.index if name in BASELINES and name != "majority"]
        if not names:
            raise NotCheckedError("the run has no baseline to fit")
        atlases = experiment.builder.atlases if isinstance(experiment.builder, ConnectomeBuilder) else None
        found: list[Result] = []
        fits = list(itertools.product(self.splits(), range(_N_SHUFFLES)))
        for split, seed in tracked(fits, "Fitting on shuffled labels"):
            method = make_baseline(names[0], None if atlases is None else list(atlases), experiment.class_weight)
            found += fit_and_score(method, cohort, shuffle_labels(cohort, task, seed + 1), split, seed, 1.0, names[0] + SHUFFLED)[0]
        rows = pd.DataFrame([asdict(one) for one in found if one.metric == "auroc"])
        return _chance(names[0] + SHUFFLED, rows, self._test_labels())

    def _loaded(self) -> tuple[Cohort, Experiment, Task]:
        if self.cohort is None or self.experiment is None:
            raise NotCheckedError("the data are not here")
        settings, experiment = self.experiment.evaluation, self.experiment
        if experiment.segmentation is not None:
            return self.cohort, experiment, make_mask_task(self.cohort, settings.protocol)
        return self.cohort, experiment, make_task(self.cohort, experiment.target, experiment.classes, settings.protocol)

    def _results(self) -> pd.DataFrame:
        results = read_results(self.folder / "results.jsonl")
        return results[results["task"] == self.manifest["task"]["target"]]

    def _predictions(self) -> pd.DataFrame:
        if not (self.folder / "predictions.parquet").is_file():
            raise NotCheckedError("there are no predictions of subjects")
        return pd.read_parquet(self.folder / "predictions.parquet")

    def _scores(self) -> dict[tuple[Any, ...], dict[str, float]]:
        """Metrics by method, split, seed and label fraction."""
        if (self.folder / "segmentations.parquet").is_file():
            table = pd.read_parquet(self.folder / "segmentations.parquet")
            classes = self.manifest["task"]["classes"]
            return {cell: mean_scores(rows, classes) for cell, rows in table.groupby(_CELL, sort=False)}
        table = self._predictions()
        columns = probability_columns(table)
        scored = {}
        for cell, rows in table.groupby(_CELL, sort=False):
            probability = rows[columns].to_numpy()
            scored[cell] = score_all(rows["y_true"].to_numpy(), probability[:, 1] if len(columns) == 2 else probability)
        return scored

    def _test_labels(self) -> pd.DataFrame:
        """Test subjects by split: `n`, and how many of the first class, `n_first`; labels are shuffled within sites, so that only numbers count."""
        table = self._predictions().drop_duplicates(["split", "subject_id"])
        return pd.DataFrame({"n": table.groupby("split").size(), "n_first": (table["y_true"] == 0).groupby(table["split"]).sum()})


def _chance(name: str, rows: pd.DataFrame, tests: pd.DataFrame) -> str:
    """How far a mean AUROC is from chance."""
    kept = rows.dropna(subset="value")
    n, n_first = (tests.loc[kept["split"].unique(), column] for column in ("n", "n_first"))
    if kept.empty or bool((n_first * (n - n_first) == 0).any()):
        raise NotCheckedError("a test set has one class")
    mean, error = float(kept.groupby("seed")["value"].mean().mean()), shuffled_error(n, n_first, kept["seed"].nunique())
    said = f"{name.removesuffix(SHUFFLED)} has a mean AUROC of {mean:.3f} in {len(rows)} fits (standard error of chance {error:.3f})"
    if abs(mean - 0.5) > max(_MARGIN, _ERRORS * error):
        raise FoundError([f"{said}: something leaks from training to test, or a site stands for a class"])
    return said


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _same(kept: float | None, value: float) -> bool:
    return math.isnan(value) if kept is None else kept == value


def _named(cell: Sequence[Any]) -> str:
    method, split, seed, fraction = cell
    return f"{method!r} in {split!r}, seed {seed}, {fraction:.0%} of the labels"
