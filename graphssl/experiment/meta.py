"""Meta-training from a configuration: sources and a target become models, an adaptation curve, similarities and a report."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from graphssl.data.builder import AbstractBuilder
from graphssl.data.event_tokens import EventTokenizer
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.overlap import certain_overlap
from graphssl.data.table import ColumnTokenizer
from graphssl.data.timeline import TimelineTokenizer
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, LeakageError
from graphssl.evaluation import BASELINES, few_shot_baselines
from graphssl.experiment.builders import one_builder
from graphssl.experiment.cohort_source import CohortSource, of_sites
from graphssl.experiment.config import known_keys
from graphssl.experiment.parser import Parser, instantiated, nearest, resolved
from graphssl.experiment.runs import RunFolder, describe
from graphssl.experiment.smoke import simulated_in_place
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.objectives.base import AbstractObjective
from graphssl.reports import write_meta_report
from graphssl.training.launch import as_started, is_first
from graphssl.training.meta import (
    STRATEGIES,
    AdaptiveStep,
    MetaLearning,
    MetaSettings,
    Similarity,
    SingleSource,
    Source,
    Strategy,
    adaptation_curve,
    gradient_cosine,
    meta_train,
    rates_by_source,
    representation_similarity,
    sources_by_site,
    task_gradients,
    transfer_matrix,
)
from graphssl.training.meta.similarity import embedded
from graphssl.training.model import Model

_RATES = ("loss", "weight", "learning_rate", "weight_decay")
_N_SITES, _N_SUBJECTS = 3, 50  # of a simulated cohort in the place of an absent one; subjects a site
_SIMULATED = {
    "simulate": ("n_subjects", "sites", "site", "diagnosis"),
    "simulate_table": ("n_subjects", "sites", "site", "died"),
    "simulate_stays": ("n_patients", "n_sites", "unit", "died"),
    "simulate_images": ("n_subjects", "n_sites", "site", "diagnosis"),
}
_SMALL = 8  # subjects of a class in a smoke run


@dataclass(frozen=True)
class Dataset:
    """A cohort of which sources, or the target, are made.

    Args:
        cohort: Where it comes from: a path, or an adapter, and the arguments.
        target: Column to predict; no labels are read when left out.
        classes: Names of the classes in order, the positive one last.
        sites: Sites to take; all when left out.
        without_sites: Sites to leave out.
        by_site: Whether each site is a source; the whole cohort is one when false.
        name: Name of the source where the cohort is one; the cohort's when left out. Before the site where a name is given and there are several.
        min_subjects: Sites with fewer subjects of a class are left out.
    """

    cohort: CohortSource
    target: str | None = None
    classes: tuple[str, ...] | None = None
    sites: tuple[str, ...] | None = None
    without_sites: tuple[str, ...] = ()
    by_site: bool = True
    name: str | None = None
    min_subjects: int = 1

    def load(self) -> list[Source]:
        """The sources.

        Raises:
            ConfigError: If a site is named that the cohort does not have.
            InputError: If the cohort cannot be read, or has no such target.
        """
        cohort = of_sites(self.cohort.load()[0], self.sites, self.without_sites)
        if not self.by_site or cohort.sites is None:
            return [Source(self.name or cohort.name, cohort, self.target, self.classes)]
        found = sources_by_site(cohort, target=self.target, classes=self.classes, min_subjects=self.min_subjects)
        return found if self.name is None else [replace(source, name=f"{self.name} {source.name}") for source in found]


@dataclass(frozen=True)
class Adaptation:
    """How the target's few labelled subjects are used, and how often they are drawn.

    Args:
        n_support: Numbers of labelled subjects of each class; those the target is too small for are left out.
        n_draws: Draws of them.
        n_steps: Gradient steps.
        learning_rate: Of these steps.
        learned: Whether models that learned what a step does (generated rates, Meta-SGD) take such steps instead.
    """

    n_support: tuple[int, ...] = (5, 10, 20)
    n_draws: int = 10
    n_steps: int = 10
    learning_rate: float = 0.05
    learned: bool = False


# Baselines that read one dataset; harmonisation of sites needs several.
FEW_SHOT = tuple(name for name in BASELINES if "combat" not in name)
META = MetaLearning()
SETTINGS = MetaSettings()
ADAPTATION = Adaptation()


class MetaExperiment:
    """Everything one meta-training needs.

    Args:
        name: Name of the run and of its folder.
        sources: Datasets to learn from.
        target: Dataset to adapt to; each of several sites in turn. Without one nothing is adapted.
        strategy: Strategy whose model is kept: `direct`, `single_source`, `joint`, `meta` or `meta_reweighted`.
        compare: Strategies to adapt beside it, on the same draws of the target's labelled subjects.
        baselines: Baselines beside them, trained on these labelled subjects, and on all sources (see `graphssl.evaluation.BASELINES`); a ridge on
            correlations, or logistic regression on the table, when left out.
        meta: Algorithm, inner steps and weights of sources of the last two.
        single_source: Name of the source of `single_source`; the largest when left out.
        encoder: The encoder.
        objective: What to learn without labels; the sources' labels are learned when left out.
        builder: How connectomes are made.
        columns: How tables are made, in place of `builder` where patients and not brains are embedded.
        timeline: How events become bins of time, in place of `columns` where an encoder reads them.
        events: How events become tokens one by one, likewise.
        population: How patients are placed in a population, in place of `columns` where they learn from those of the other sources.
        images: How images, volumes and clips are prepared, where an encoder reads them.
        settings: How long, how fast and on what tasks to meta-train.
        adaptation: How the target's labelled subjects are used.
        similarity: Whether to measure how alike the sources are; takes a training a source.
        seed: Seed of everything.
        output: Folder of the run folders.

    Raises:
        ConfigError: If there is no source, a strategy is unknown, or more than one of connectomes, tables, timelines, events, populations and
            images is asked for.
    """

    def __init__(
        self,
        name: str,
        sources: list[Dataset],
        target: Dataset | None = None,
        strategy: str = "meta_reweighted",
        compare: tuple[str, ...] = (),
        baselines: tuple[str, ...] | None = None,
        meta: MetaLearning = META,
        single_source: str | None = None,
        encoder: AbstractEncoder | None = None,
        objective: AbstractObjective | None = None,
        builder: ConnectomeBuilder | None = None,
        columns: ColumnTokenizer | None = None,
        timeline: TimelineTokenizer | None = None,
        events: EventTokenizer | None = None,
        population: PopulationBuilder | None = None,
        images: ImageBuilder | None = None,
        settings: MetaSettings = SETTINGS,
        adaptation: Adaptation = ADAPTATION,
        similarity: bool = True,
        seed: int = 0,
        output: str = "runs",
    ) -> None:
        if not sources:
            raise ConfigError("Expected at least one dataset among the sources, found none.")
        for wanted in (strategy, *compare):
            if wanted not in STRATEGIES:
                raise ConfigError(f"Expected strategies among {', '.join(STRATEGIES)}; found {wanted!r}.{nearest(wanted, list(STRATEGIES))}")
        self.name, self.sources, self.target, self.strategy, self.compare = name, sources, target, strategy, compare
        self.meta, self.single_source, self.encoder, self.objective = meta, single_source, encoder, objective
        for wanted in baselines or ():
            if wanted not in FEW_SHOT:
                raise ConfigError(f"Expected baselines among {', '.join(FEW_SHOT)}; found {wanted!r}.{nearest(wanted, list(FEW_SHOT))}")
        self.builder = one_builder(builder=builder, columns=columns, timeline=timeline, events=events, population=population, images=images)
        self.settings, self.adaptation, self.similarity, self.seed, self.output = settings, adaptation, similarity, seed, output
        reader = self.builder or (None if encoder is None else encoder.default_builder())
        self.baselines = _default_baselines(reader) if baselines is None else baselines
        self.n_smoke: int | None = None

    @property
    def strategies(self) -> dict[str, Strategy]:
        """The strategies to run by name, the one that is kept first."""
        made: dict[str, Strategy] = {
            **STRATEGIES,
            "single_source": SingleSource(self.single_source),
            "meta": self.meta,
            "meta_reweighted": replace(self.meta, adaptive=True),
        }
        return {name: made[name] for name in dict.fromkeys((self.strategy, *self.compare))}

    def load_sources(self) -> list[Source]:
        """All sources.

        Raises:
            InputError: If a cohort cannot be read, or has no such target or site.
        """
        return self._small([source for dataset in self.sources for source in dataset.load()])

    def load_targets(self) -> list[Source]:
        """The targets, each to adapt to in turn; none where none was given.

        Raises:
            ConfigError: If there are several, and sources are weighted by their agreement with one.
            InputError: If the cohort cannot be read, or has no such target or site.
        """
        found = [] if self.target is None else self._small(self.target.load())
        if len(found) > 1 and self.meta.weighting is not None and self.meta.weighting.needs_target:
            raise ConfigError(
                f"Expected one target for {type(self.meta.weighting).__name__}, found {len(found)} sites: "
                f"{', '.join(source.name for source in found[:5])}. Name one with target.sites, or set target.by_site to false."
            )
        return found

    def _small(self, sources: list[Source]) -> list[Source]:
        """In a smoke run, three sources at most, of a few subjects of each class."""
        if self.n_smoke is None:
            return sources
        return [_first_subjects(source, self.n_smoke) for source in sources[:3]]


def shared_with(target: Source, source: Source) -> list[str]:
    """Subjects of a target who are in a source too, or somebody of whose family is.

    Args:
        target: The target.
        source: A source.
    """
    one, other = (each.cohort.select(list(each.labels)) for each in (target, source))
    return sorted(certain_overlap(one, other).index)


def meta_parser() -> Parser:
    """The parser of a meta-training: `--config file`, twice where sources and target are in two, and `--key.sub value` on top."""
    parser = Parser(allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file; give it twice where sources and target are in two files")
    parser.add_class_arguments(MetaExperiment, None)
    kinds: list[Any] = [MetaExperiment, Dataset, CohortSource, Adaptation, MetaSettings, MetaLearning]
    parser.more_keys = sorted({*known_keys(), *(name for kind in kinds for name in inspect.signature(kind).parameters)})
    return parser


def instantiate_meta(parser: ArgumentParser, parsed: Namespace, *, smoke: bool = False) -> tuple[MetaExperiment, str]:
    """Make the objects of a parsed configuration, and the resolved configuration as YAML.

    Args:
        parser: The parser.
        parsed: What it made of the command line.
        smoke: Whether to do one step of everything on a few subjects, simulated ones where the data are absent.

    Raises:
        ConfigError: If a class refuses its arguments.
    """
    known = inspect.signature(MetaExperiment).parameters
    if smoke:
        _stand_in(parsed)
    text = resolved({key: value for key, value in parsed.as_dict().items() if key in known})
    made = instantiated(parser, parsed)
    experiment = MetaExperiment(**{key: made[key] for key in known})
    if not smoke:
        return experiment, text
    experiment.name, experiment.n_smoke = f"{experiment.name}-smoke", _SMALL
    experiment.settings = replace(experiment.settings, max_epochs=1, steps_per_epoch=1, n_support=2, n_query=2)
    experiment.adaptation = replace(experiment.adaptation, n_support=(2,), n_draws=2, n_steps=1)
    return experiment, f"# one step of a run, by --smoke\n{text}"


def run_meta_train(experiment: MetaExperiment, configuration: str, *, progress: bool = False) -> dict[str, Any]:
    """Meta-train by each strategy, adapt to the target, measure similarities, keep the model and write the report.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        progress: Whether to show progress on stderr.

    Returns:
        Where model and report are, and the AUROC on the targets by strategy, or baseline, and number of labelled subjects; nothing in those processes
        of torchrun or SLURM that only take part in training.

    Raises:
        InputError: If the data cannot be read, or do not fit one another.
    """
    devices, nodes = as_started(experiment.settings.devices, experiment.settings.nodes)
    experiment.settings = replace(experiment.settings, devices=devices, nodes=nodes)
    sources, targets = experiment.load_sources(), experiment.load_targets()
    for target in targets:
        _check_apart(sources, target)
    place, wanted = Path(experiment.output) / experiment.name, experiment.strategies
    if not is_first():
        for name, strategy in wanted.items():
            _trained(experiment, name, strategy, sources, targets, place, progress=False)
        return {}
    folder = RunFolder(place, "meta-train", configuration)
    details = {"seeds": [experiment.seed], "sources": [_told(source) for source in sources], "targets": [_told(target) for target in targets]}
    with folder.opened((targets or sources)[0].cohort, details):
        baselines = _baselines(experiment, sources, targets)  # first, for data that a baseline cannot read should not cost a training
        models = {name: _trained(experiment, name, strategy, sources, targets, place, progress) for name, strategy in wanted.items()}
        models[experiment.strategy].save_pretrained(folder.path / "encoder")
        folder.write_text("sources.csv", pd.concat([_by_source(name, model, sources) for name, model in models.items()]).to_csv(index=False))
        generated = [(name, model) for name, model in models.items() if isinstance(model.update, AdaptiveStep) and model.head is not None]
        rates = [_rates(name, model, experiment, sources) for name, model in generated]
        if rates:
            folder.write_text("rates.csv", pd.concat(rates).to_csv(index=False))
        curves = _adapted(experiment, models, targets)
        for name, table in (("adaptation", curves), ("baselines", baselines)):
            if len(table):
                folder.write_text(f"{name}.csv", table.to_csv(index=False))
        if experiment.similarity and len(sources) > 1:
            folder.write_json("similarity.json", [found.to_dict() for found in _similarities(experiment, models[experiment.strategy], sources)])
        report = write_meta_report(folder.path)
    return {
        "encoder": str(folder.path / "encoder"),
        "report": str(report),
        "sources": [source.name for source in sources],
        **_scores(curves, baselines),
    }


def _trained(
    experiment: MetaExperiment, name: str, strategy: Strategy, sources: Sequence[Source], targets: Sequence[Source], place: Path, progress: bool
) -> Model:
    return meta_train(
        sources,
        encoder=experiment.encoder,
        objective=experiment.objective,
        strategy=strategy,
        builder=experiment.builder,
        settings=replace(experiment.settings, progress=progress),
        target=targets[0].cohort if targets else None,
        seed=experiment.seed,
        folder=place / "checkpoints" / name,
    )


def _adapted(experiment: MetaExperiment, models: Mapping[str, Model], targets: Sequence[Source]) -> pd.DataFrame:
    """Every model adapted to every target that has labels, and subjects enough."""
    adaptation, curves = experiment.adaptation, []
    for target in targets:
        how = {**_draws(experiment, target), "n_steps": adaptation.n_steps, "learning_rate": adaptation.learning_rate}
        how["learned"] = adaptation.learned
        for name, model in models.items() if how["n_support"] else ():
            curves.append(adaptation_curve(model, target, **how).assign(strategy=name, target=target.name))
    return pd.concat(curves) if curves else pd.DataFrame()


def _baselines(experiment: MetaExperiment, sources: Sequence[Source], targets: Sequence[Source]) -> pd.DataFrame:
    """Baselines on the same draws."""
    atlases = experiment.builder.atlases if isinstance(experiment.builder, ConnectomeBuilder) else None
    drawn = [(target, _draws(experiment, target)) for target in targets]
    found = [
        few_shot_baselines(experiment.baselines, target, sources, **how, atlases=atlases).assign(target=target.name)
        for target, how in drawn
        if how["n_support"]
    ]
    return pd.concat(found) if found else pd.DataFrame()


def _draws(experiment: MetaExperiment, target: Source) -> dict[str, Any]:
    adaptation = experiment.adaptation
    return {"n_support": _feasible(adaptation.n_support, target), "n_draws": adaptation.n_draws, "seed": experiment.seed}


def _rates(name: str, model: Model, experiment: MetaExperiment, sources: Sequence[Source]) -> pd.DataFrame:
    return rates_by_source(model, sources, n_support=experiment.settings.n_support, seed=experiment.seed).assign(strategy=name)


def _default_baselines(builder: AbstractBuilder | None) -> tuple[str, ...]:
    if builder is None or isinstance(builder, ConnectomeBuilder):
        return ("ridge_correlation",)
    return ("logistic_pixels",) if isinstance(builder, ImageBuilder) else ("logistic_table",)


def _similarities(experiment: MetaExperiment, model: Model, sources: Sequence[Source]) -> list[Similarity]:
    """By gradients at the model, by transfer, and by what models of single sources make of the first source's subjects."""
    if sources[0].classes is None or experiment.objective is not None:
        return []
    names, settings, seed = [source.name for source in sources], experiment.settings, experiment.seed
    n_support = min(experiment.adaptation.n_support[0], min(min(source.counts) for source in sources) // 2 - 1)
    if n_support < 1:
        return []
    n_half = min(min(source.counts) for source in sources) // 2
    n_task = max(1, min(settings.n_support, n_half // 2))
    transfer, models = transfer_matrix(
        sources,
        encoder=experiment.encoder,
        builder=experiment.builder,
        settings=replace(settings, n_support=n_task, n_query=n_task, progress=False),
        n_support=n_support,
        n_draws=experiment.adaptation.n_draws,
        n_steps=experiment.adaptation.n_steps,
        learning_rate=experiment.adaptation.learning_rate,
        seed=seed,
    )
    found = [transfer, representation_similarity([embedded(one, sources[0].cohort) for one in models], names, seed=seed)]
    if model.head is None:
        return found
    gradients = task_gradients(model, sources, n_support=settings.n_support, n_draws=max(10, experiment.adaptation.n_draws), seed=seed)
    return [gradient_cosine(gradients, names, seed=seed), *found]


def _by_source(strategy: str, model: Model, sources: Sequence[Source]) -> pd.DataFrame:
    """A row an epoch and source, of a history with a column a source."""
    names = [source.name for source in sources if f"loss {source.name}" in model.history]
    rows = [
        {"strategy": strategy, "epoch": int(row["epoch"]), "source": name, **{what: row.get(f"{what} {name}") for what in _RATES}}
        for _, row in model.history.iterrows()
        for name in names
    ]
    return pd.DataFrame(rows, columns=["strategy", "epoch", "source", *_RATES])


def _check_apart(sources: Sequence[Source], target: Source) -> None:
    """The target's subjects must be in no source.

    Raises:
        LeakageError: If one is, or one of the family; names them.
    """
    for source in sources:
        shared = shared_with(target, source)
        if shared:
            raise LeakageError(
                f"Expected the target's subjects in no source, found {len(shared)} of {source.name!r}: {shared[:3]}. Leave its sites out of the "
                "sources with without_sites."
            )


def _feasible(n_support: Sequence[int], target: Source) -> list[int]:
    """Numbers of labelled subjects that leave at least as many of each class to be scored, up to five."""
    room = 0 if target.classes is None else min(target.counts)
    return [k for k in n_support if k + min(k, 5) <= room]


def _scores(curves: pd.DataFrame, baselines: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Mean AUROC over targets and draws, by name and number of labelled subjects."""
    if not len(curves):
        return {"auroc": {}, "baselines": {}}
    last = curves[curves["step"] == curves["step"].max()].rename(columns={"strategy": "name"})
    named = baselines.assign(name=baselines["method"] + " on the " + baselines["trained_on"]) if len(baselines) else baselines
    return {"auroc": _means(last), "baselines": _means(named) if len(named) else {}}


def _means(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    means = scores.groupby(["name", "n_support", "target"])["auroc"].mean().groupby(level=[0, 1]).mean()
    return {str(name): {str(k): float(value) for k, value in part.droplevel(0).items()} for name, part in means.groupby(level=0)}


def _told(source: Source) -> dict[str, Any]:
    return {"source": source.name, "classes": list(source.classes or ()), "counts": source.counts, "target": source.target, **describe(source.cohort)}


def _first_subjects(source: Source, n_each: int) -> Source:
    taken: dict[int, list[str]] = {}
    for subject, label in source.labels.items():
        taken.setdefault(label, []).append(subject)
    few = [subject for members in taken.values() for subject in members[:n_each]]
    return Source(source.name, source.cohort.select(few), source.target, source.classes)


def _stand_in(parsed: Namespace) -> None:
    """Put simulated cohorts in place of those that are absent: of connectomes each another one, of records all of one, of other sites."""
    datasets = [*parsed.sources, *([parsed.target] if parsed.target is not None else [])]
    absent = [place for place, dataset in enumerate(datasets) if _source(dataset.cohort).absent()]
    if not absent:
        return
    made = simulated_in_place(parsed, has_summary=any(dataset.cohort.get("summary") is not None for dataset in datasets))
    n_sites = _N_SITES * len(datasets)
    for place in absent:
        dataset, of_target = datasets[place], place == len(parsed.sources)
        sites = range(_N_SITES * place, _N_SITES * place + (1 if of_target else _N_SITES))
        # Name of the number of subjects and of sites, how a site is called, and the target.
        subjects, n_called, site, label = _SIMULATED[made["adapter"]]
        arguments = {**made["arguments"], subjects: _N_SUBJECTS * n_sites, n_called: n_sites}
        dataset.sites = [f"{site}-{k}" for k in sites]
        if made["adapter"] == "simulate":
            arguments |= {subjects: 48, n_called: len(sites), "seed": place, "name": f"simulated {place}"}
            dataset.sites = None
        dataset.cohort = Namespace({"adapter": made["adapter"], "arguments": arguments, "path": None, "summary": dataset.cohort.get("summary")})
        dataset.without_sites, dataset.classes, dataset.min_subjects = (), None, 1
        dataset.name = "target" if of_target else f"cohort {place}"
        dataset.target = None if dataset.target is None else label


def _source(told: Namespace) -> CohortSource:
    return CohortSource(told.get("adapter"), dict(told.get("arguments") or {}), told.get("path"))
