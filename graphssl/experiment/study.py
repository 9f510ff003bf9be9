"""Studies from a configuration: a base, axes of named changes to it, and questions that say which cells there are and what is compared."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from jsonargparse import Namespace

from graphssl.data.cohort import Cohort
from graphssl.data.union import union_of_labels
from graphssl.errors import ConfigError
from graphssl.evaluation.cell import Cell, CellSettings
from graphssl.evaluation.cell_start import without_subjects
from graphssl.evaluation.shares import Share
from graphssl.evaluation.studies import Study, run_study
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import Experiment, experiment_parser, instantiate, known_keys
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.methods import objective_of
from graphssl.experiment.parser import Parser, instantiated, nearest, resolved
from graphssl.experiment.runs import RunFolder
from graphssl.experiment.smoke import instantiate_small
from graphssl.experiment.study_axes import grid, merged
from graphssl.folders import file_written_whole
from graphssl.reports import write_study_report
from graphssl.statistics.grid import axes_of
from graphssl.training.by_steps import StepSettings

# Of every cell that --smoke runs.
_SMOKE_STEPS = 2


@dataclass(frozen=True)
class Question:
    """What a part of the grid is run for.

    Args:
        title: The question, for the report.
        axes: Levels of the axes that vary, by axis; all of an axis whose levels are left out. Others stay at their first level.
        compare: An axis, and the level that its others are compared with.
        along: Axis that is drawn along the abscissa; the first other one when left out.
        metrics: What is shown; the study's when left out.
        law: Column of subjects, `n_labelled` or `n_pretrained`, by which a power law is fitted along the axis.
        curves: Whether the convergence of trainings is shown.
    """

    title: str
    axes: dict[str, list[str] | None]
    compare: dict[str, str]
    along: str | None = None
    metrics: tuple[str, ...] | None = None
    law: Literal["n_labelled", "n_pretrained"] | None = None
    curves: bool = False


@dataclass(frozen=True)
class Part:
    """A study of one kind of data.

    Args:
        base: What is laid over the study's base.
        axes: Axes of its own, in place of the study's of the same name; nothing in place of one that it has no use for.
        metrics: Metrics of its own.
    """

    base: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, dict[str, dict[str, Any] | None] | None] = field(default_factory=dict)
    metrics: tuple[str, ...] | None = None


class StudyExperiment:
    """Everything a study needs.

    Args:
        name: Name of the run and of its folder.
        questions: What is asked; together they say which cells there are.
        parts: Kinds of data that the study is run on, by name.
        base: Configuration that all cells share: keys of an experiment (`cohort`, `encoder`, `evaluation`, …), `cell` (what is done, `CellSettings`)
            and `source` (cohorts to pre-train on).
        axes: Changes to it, by axis and name of the level; the first level of an axis is its default.
        metrics: Metrics that the report shows, the first one in the figures.
        only: Parts to run; all when left out.
        n_folds: How many of the splits are used; all when left out.
        seeds: Seeds in place of those of base and parts.
        n_jobs: Processes side by side.
        output: Folder of the run folders.

    Raises:
        ConfigError: If there is no part or question, or a question names an axis or a level that there is not.
    """

    def __init__(
        self,
        name: str,
        questions: list[Question],
        parts: dict[str, Part],
        base: dict[str, Any] | None = None,
        axes: dict[str, dict[str, dict[str, Any] | None]] | None = None,
        metrics: tuple[str, ...] = ("auroc",),
        only: list[str] | None = None,
        n_folds: int | None = None,
        seeds: list[int] | None = None,
        n_jobs: int = 1,
        output: str = "runs",
    ) -> None:
        if not questions or not parts:
            raise ConfigError(f"Expected questions and parts of a study, found {len(questions)} and {len(parts)}.")
        for wanted in only or ():
            if wanted not in parts:
                raise ConfigError(f"Expected parts among {', '.join(parts)}; found {wanted!r}.{nearest(wanted, list(parts))}")
        self.name, self.questions, self.base, self.axes, self.metrics = name, questions, base or {}, axes or {}, metrics
        self.parts = {key: part for key, part in parts.items() if only is None or key in only}
        self.n_folds, self.seeds, self.n_jobs, self.output = n_folds, seeds, n_jobs, output
        for question in questions:
            _check_question(question, [self.axes_of(part) for part in parts.values()])

    def axes_of(self, part: Part) -> dict[str, dict[str, dict[str, Any] | None]]:
        """The axes of a part."""
        return {axis: levels for axis, levels in {**self.axes, **part.axes}.items() if levels is not None}

    def questions_of(self, part: Part) -> list[Question]:
        """The questions that a part can answer: it has the axes that they compare."""
        return [question for question in self.questions if set(question.axes) <= set(self.axes_of(part))]

    def metrics_of(self, part: Part) -> list[str]:
        """Every metric that the report of a part is to show."""
        shown = part.metrics or self.metrics
        return list(dict.fromkeys(metric for question in self.questions_of(part) for metric in question.metrics or shown))

    def levels_of(self, part: Part) -> list[dict[str, str]]:
        """Levels of every cell of a part."""
        axes = self.axes_of(part)
        defaults = {axis: next(iter(levels)) for axis, levels in axes.items()}
        found = [
            {**defaults, **one}
            for question in self.questions_of(part)
            for one in grid({axis: _chosen(axes[axis], levels) for axis, levels in question.axes.items()})
        ]
        return list({tuple(one.items()): one for one in found}.values())

    def each_level(self, part: Part) -> list[dict[str, str]]:
        """As few cells as have every level: the first of all axes, the second of all, and so on."""
        levels = {axis: list(levels) for axis, levels in self.axes_of(part).items()}
        return [{axis: known[min(k, len(known) - 1)] for axis, known in levels.items()} for k in range(max(map(len, levels.values()), default=0))]

    def configuration(self, part: Part, levels: Mapping[str, str]) -> dict[str, Any]:
        """The configuration of a cell."""
        axes, seeds = self.axes_of(part), {} if self.seeds is None else {"evaluation": {"seeds": self.seeds}}
        return merged({"name": self.name}, self.base, part.base, *(axes[axis][level] or {} for axis, level in levels.items()), seeds)


def is_study(words: Sequence[str]) -> bool:
    """Whether the configuration that a command line names is one of a study: it has parts.

    Args:
        words: Words after the verb.
    """
    for word, following in itertools.pairwise([*words, ""]):
        path = following if word == "--config" else word.partition("=")[2] if word.startswith("--config=") else None
        if path and Path(path).is_file():
            try:
                content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError):
                return False  # the parser of experiments says what is wrong
            return isinstance(content, dict) and "parts" in content
    return False


def study_parser() -> Parser:
    """The parser of a study: `--config file`, and `--key value` on top."""
    parser = Parser(allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of the study")
    parser.add_class_arguments(StudyExperiment, None)
    return parser


def instantiate_study(parsed: Namespace) -> tuple[StudyExperiment, str]:
    """A study of a parsed configuration, and the resolved configuration as YAML.

    Raises:
        ConfigError: If something is wrong with it.
    """
    settings = {key: value for key, value in parsed.as_dict().items() if key in _KEYS}
    text = resolved(settings)
    # Base, axes and parts stay as they are written: their classes are made cell by cell, after changes were laid over them.
    questions = [Question(**question) for question in settings["questions"]]
    parts = {name: Part(**part) for name, part in settings["parts"].items()}
    return StudyExperiment(**{**settings, "questions": questions, "parts": parts}), text


_KEYS = ("name", "questions", "parts", "base", "axes", "metrics", "only", "n_folds", "seeds", "n_jobs", "output")


def run_study_of(
    study: StudyExperiment, configuration: str, *, smoke: bool = False, share: Share | None = None, progress: bool = False
) -> dict[str, Any]:
    """Run all cells of a study and write table, curves and report; goes on where a killed run stopped, or several shares did.

    Args:
        study: The study.
        configuration: Its resolved configuration.
        smoke: Whether to run a few steps of every level, on the smallest data, simulated ones where they are absent.
        share: A share of the cells, to compute alone while other processes compute theirs in the same folder; no table is written.
        progress: Whether to show progress on stderr.

    Returns:
        Where table and report are, and how many cells there are; of a share, how many it computed, by split and seed.

    Raises:
        InputError: If the configuration is wrong, or the data cannot be read or allow no cell.
    """
    reader = _CellReader(smoke)
    planned = {name: reader.cells(study, name) for name in study.parts}
    name = f"{study.name}-smoke" if smoke else study.name
    folder = RunFolder(Path(study.output) / name, "evaluate", ("# one step of a run, by --smoke\n" if smoke else "") + configuration)
    first, evaluation = next(iter(planned.values()))
    details = {"seeds": list(evaluation.seeds), "parts": {name: _told(cells) for name, (cells, _) in planned.items()}}
    cohort = first[0].cohort
    with folder.opened(cohort, details) if share is None else folder.opened_in_part(cohort, details, f"share-{share.number}-of-{share.of}"):
        found = {
            name: run_study(
                cells,
                folder=folder.path,
                protocol=settings.protocol,
                n_splits=settings.n_splits,
                n_folds=1 if smoke else study.n_folds,
                seeds=settings.seeds,
                n_jobs=study.n_jobs,
                share=share,
                progress=progress,
            )
            for name, (cells, settings) in planned.items()
        }
        if share is not None:
            return {"run": str(folder.path), "share": str(share), "cells": {name: _n_computed(each) for name, each in found.items()}}
        _write(folder, study, found)
        report = write_study_report(folder.path)
    counts = {name: len(cells) for name, (cells, _) in planned.items()}
    return {"run": str(folder.path), "table": str(folder.path / "study.csv"), "report": str(report), "cells": counts}


class _CellReader:
    """Makes cells of configurations; experiments and cohorts that several of them share are made once."""

    def __init__(self, smoke: bool) -> None:
        self.smoke, self.experiments, self.cohorts = smoke, dict[str, Experiment](), dict[str, Cohort]()
        self.parser, self.cell_parser = experiment_parser(), Parser(allow_abbrev=False)
        self.cell_parser.add_class_arguments(CellSettings, "cell")
        self.cell_parser.add_argument("--source", type=list[CohortSource], default=[], help="cohorts to pre-train on")
        own = (CellSettings, StepSettings, CohortSource)
        self.cell_parser.more_keys = sorted({*known_keys(), *(name for kind in own for name in kind.__dataclass_fields__), "cell", "source"})

    def cells(self, study: StudyExperiment, name: str) -> tuple[list[Cell], EvaluationSettings]:
        """All cells of a part, and how they are evaluated."""
        part = study.parts[name]
        levels = study.each_level(part) if self.smoke else study.levels_of(part)
        if not levels:
            raise ConfigError(f"Expected a question that the part {name!r} can answer, found none: it lacks the axes they compare.")
        configurations = [study.configuration(part, one) for one in levels]
        made = [self._cell({"part": name, **one}, configuration) for one, configuration in zip(levels, configurations, strict=True)]
        known = list(dict.fromkeys(metric for cell in made for metric in cell.metrics))
        # Of what stands in for absent data classes have other names.
        _check_metrics(name, [metric for metric in study.metrics_of(part) if not (self.smoke and ": " in metric)], known)
        return made, self._experiment(configurations[0]).evaluation

    def _cell(self, levels: dict[str, str], configuration: dict[str, Any]) -> Cell:
        experiment = self._experiment(configuration)
        settings, sources = self._of_cell(configuration)
        return Cell(
            levels,
            self._cohort(experiment.cohort),
            objective_of(experiment),
            experiment.encoder,
            experiment.builder,
            settings,
            self._source(experiment.cohort, sources),
            experiment.pretraining,
            experiment.target,
            experiment.classes,
            experiment.class_weight,
            experiment.segmentation,
        )

    def _experiment(self, configuration: dict[str, Any]) -> Experiment:
        shared = {key: value for key, value in configuration.items() if key not in _OF_CELL}
        key = json.dumps(shared, sort_keys=True, default=str)
        if key not in self.experiments:
            parsed = self.parser.parse_object(shared)
            self.experiments[key] = (instantiate_small if self.smoke else instantiate)(self.parser, parsed)[0]
        return self.experiments[key]

    def _of_cell(self, configuration: dict[str, Any]) -> tuple[CellSettings, list[CohortSource]]:
        parsed = self.cell_parser.parse_object({key: value for key, value in configuration.items() if key in _OF_CELL})
        made = instantiated(self.cell_parser, parsed)
        settings: CellSettings = made["cell"]
        if self.smoke:
            steps = replace(settings.steps, n_steps=_SMOKE_STEPS, rule=None, n_checks=2)
            # What stands in for data that are absent has other classes.
            settings = replace(settings, source_size=None, source_epochs=None, rare=None, steps=steps)
        return settings, made["source"]

    def _cohort(self, source: CohortSource) -> Cohort:
        key = repr(source)
        if key not in self.cohorts:
            self.cohorts[key] = source.load()[0]
        return self.cohorts[key]

    def _source(self, own: CohortSource, sources: Sequence[CohortSource]) -> Cohort | None:
        """Cohorts to pre-train on as one, without subjects of the cohort; in a smoke run without their files the cohort itself under another name."""
        if self.smoke and any(source.absent() for source in sources):
            cohort = self._cohort(own)
            return replace(cohort, name=f"{cohort.name} in place of the source")
        target = self._cohort(own)
        return union_of_labels([without_subjects(self._cohort(source), target) for source in sources]) if sources else None


# Keys of a cell's configuration that are none of an experiment.
_OF_CELL = ("cell", "source")


def _chosen(known: Mapping[str, Any], levels: Sequence[str] | None) -> list[str]:
    return list(known) if levels is None else [level for level in map(str, levels) if level in known]


def _check_question(question: Question, parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
    known = {axis: {level for axes in parts for level in axes.get(axis, {})} for axes in parts for axis in axes}
    wanted = [*((axis, level) for axis, levels in question.axes.items() for level in levels or ()), *question.compare.items()]
    for axis in (*question.axes, *question.compare, *filter(None, [question.along])):
        if axis not in known:
            near = nearest(axis, list(known))
            raise ConfigError(f"Expected axes among {', '.join(known)} in the question {question.title!r}, found {axis!r}.{near}")
    for axis, level in wanted:
        if str(level) not in known[axis]:
            near = nearest(str(level), list(known[axis]))
            raise ConfigError(f"Expected levels of {axis} among {', '.join(sorted(known[axis]))}; found {level!r}.{near}")
    if len(question.compare) != 1:
        raise ConfigError(f"Expected one axis to compare along in the question {question.title!r}, found {len(question.compare)}.")


def _check_metrics(part: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for metric in wanted:
        if metric not in known:
            raise ConfigError(f"Expected metrics of the part {part!r} among {', '.join(known)}; found {metric!r}.{nearest(metric, list(known))}")


def _told(cells: Sequence[Cell]) -> dict[str, Any]:
    cohorts = {cell.cohort.name: {"n_subjects": len(cell.cohort), "hash": cell.cohort.hash} for cell in cells}
    return {"n_cells": len(cells), "cohorts": cohorts}


def _n_computed(found: Study) -> int:
    """Cells by split and seed, those that the data do not allow among them."""
    each = [*axes_of(found.table), "split", "seed"]
    return len(found.table[each].drop_duplicates()) + len(found.left_out)


def _whole(parts: Sequence[pd.DataFrame], axes: Sequence[str]) -> pd.DataFrame:
    """Rows of all parts, the axes first and empty where a part has not that axis."""
    whole = pd.concat(parts, ignore_index=True)
    present = [axis for axis in axes if axis in whole]
    whole = whole[[*present, *[column for column in whole if column not in present]]]
    whole[present] = whole[present].fillna("")
    return whole


def _write(folder: RunFolder, study: StudyExperiment, found: Mapping[str, Study]) -> None:
    """Table and curves of all parts, what was left out, and what the report is to show."""
    axes = list(dict.fromkeys(axis for each in found.values() for axis in axes_of(each.table)))
    table, curves, left_out, resampled = (
        _whole([getattr(each, name) for each in found.values()], axes) for name in ("table", "curves", "left_out", "resampled")
    )
    for stem, rows in {"study": table, "curves": curves, "left_out": left_out}.items():
        folder.write_text(f"{stem}.csv", rows.to_csv(index=False))
    for stem, rows in {"study": table, "resampled": resampled}.items():
        if len(rows):
            with file_written_whole(folder.path / f"{stem}.parquet") as aside:
                rows.to_parquet(aside, index=False)
    shown = {
        name: {
            "metrics": list(part.metrics or study.metrics),
            "axes": {axis: list(levels) for axis, levels in study.axes_of(part).items()},
            "questions": [asdict(question) for question in study.questions_of(part)],
        }
        for name, part in study.parts.items()
    }
    folder.write_json("study.json", {"name": study.name, "parts": shown})
