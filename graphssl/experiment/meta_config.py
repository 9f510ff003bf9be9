"""A meta-training of a configuration: sources, target, strategies, and how the target's few labelled subjects are used."""

import inspect
from dataclasses import dataclass, replace
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from graphssl.data.builder import AbstractBuilder
from graphssl.data.event_tokens import EventTokenizer
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.table import ColumnTokenizer
from graphssl.data.timeline import TimelineTokenizer
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.evaluation import BASELINES
from graphssl.experiment.builders import one_builder
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import known_keys
from graphssl.experiment.meta_dataset import Dataset
from graphssl.experiment.meta_smoke import N_SMALL, first_subjects, stand_in_for_absent
from graphssl.experiment.parser import Parser, instantiated, nearest, resolved
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.objectives.base import AbstractObjective
from graphssl.training.meta import STRATEGIES, MetaLearning, MetaSettings, SingleSource, Source, Strategy


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
        return [first_subjects(source, self.n_smoke) for source in sources[:3]]


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
    note = stand_in_for_absent(parsed) if smoke else ""
    text = resolved({key: value for key, value in parsed.as_dict().items() if key in known})
    made = instantiated(parser, parsed)
    experiment = MetaExperiment(**{key: made[key] for key in known})
    if not smoke:
        return experiment, text
    experiment.name, experiment.n_smoke = f"{experiment.name}-smoke", N_SMALL
    experiment.settings = replace(experiment.settings, max_epochs=1, steps_per_epoch=1, n_support=2, n_query=2)
    experiment.adaptation = replace(experiment.adaptation, n_support=(2,), n_draws=2, n_steps=1)
    return experiment, f"# one step of a run, by --smoke\n{note}{text}"


def _default_baselines(builder: AbstractBuilder | None) -> tuple[str, ...]:
    if builder is None or isinstance(builder, ConnectomeBuilder):
        return ("ridge_correlation",)
    return ("logistic_pixels",) if isinstance(builder, ImageBuilder) else ("logistic_table",)
