"""An experiment of a configuration: what to load, what to train, how to evaluate. Constructors are its schema."""

import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from graphssl.data.event_tokens import EventTokenizer
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.mixed_images import MixedImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.table import ColumnTokenizer
from graphssl.data.timeline import TimelineTokenizer
from graphssl.encoders.base import AbstractEncoder, subclasses
from graphssl.encoders.fusion import AbstractFusion
from graphssl.errors import ConfigError
from graphssl.experiment.builders import one_builder
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.parser import Parser, instantiated, resolved
from graphssl.experiment.pool_settings import PoolSettings
from graphssl.experiment.stage_source import StageSource
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.supervised import ClassWeight
from graphssl.training.finetune import FINETUNING
from graphssl.training.fit import TrainingSettings
from graphssl.training.segment import SegmentationSettings
from graphssl.training.stage import Stage
from graphssl.views.base import AbstractView

PRETRAINING = TrainingSettings()
EVALUATION = EvaluationSettings()


class Experiment:
    """Everything one run needs.

    Args:
        name: Name of the run and of its folder.
        cohort: Where the cohort comes from: a path, or an adapter, and the arguments.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last.
        encoder: The encoder.
        objective: What to pre-train on.
        builder: How connectomes are made.
        columns: How tables are made, in place of `builder` where patients and not brains are embedded.
        timeline: How events become bins of time, in place of `columns` where an encoder reads them.
        events: How events become tokens one by one, likewise.
        population: How patients are placed in a population, in place of `columns` where they learn from one another.
        images: How images, volumes and clips are prepared, where an encoder reads them; several kinds by `MixedImageBuilder`.
        modalities: How each kind of data is made, by name, where patients have several of them and may lack some; the encoder is then a
            `MultimodalEncoder` with the same names.
        stages: Stages of pre-training, each from the weights of the one before; one training on the cohort when left out.
        pretraining: How long and how fast to pre-train.
        finetuning: How long and how fast to fine-tune.
        selection: Other subjects to pre-train on, chosen of a pool by how much they are like those of the cohort.
        segmentation: What fine-tuning and evaluation learn from masks, where images have some; the target is then not read. Methods are `pretrained`
            and `scratch`, and with `_probe` those that leave the encoder as it is; the one baseline is the mean mask.
        class_weight: `balanced` lets the classes count alike, in fine-tuning and in the baselines that offer the choice (logistic regression and
            boosting); null lets every subject count alike.
        evaluation: How to evaluate.
        seed: Seed of the encoder that is kept.
        output: Folder of the run folders.

    Raises:
        ConfigError: If more than one of connectomes, tables, timelines, events, populations, images and several modalities is asked for.
    """

    def __init__(
        self,
        name: str,
        cohort: CohortSource,
        target: str | None = None,
        classes: list[str] | None = None,
        encoder: AbstractEncoder | None = None,
        objective: AbstractObjective | None = None,
        builder: ConnectomeBuilder | None = None,
        columns: ColumnTokenizer | None = None,
        timeline: TimelineTokenizer | None = None,
        events: EventTokenizer | None = None,
        population: PopulationBuilder | None = None,
        images: ImageBuilder | MixedImageBuilder | None = None,
        modalities: MultimodalBuilder | None = None,
        pretraining: TrainingSettings = PRETRAINING,
        finetuning: TrainingSettings = FINETUNING,
        selection: PoolSettings | None = None,
        segmentation: SegmentationSettings | None = None,
        class_weight: ClassWeight = "balanced",
        evaluation: EvaluationSettings = EVALUATION,
        seed: int = 0,
        output: str = "runs",
        stages: list[StageSource] | None = None,
    ) -> None:
        self.name, self.cohort, self.target, self.classes = name, cohort, target, classes
        self.encoder, self.objective = encoder, objective
        readers = {"columns": columns, "timeline": timeline, "events": events, "population": population, "images": images}
        self.builder = one_builder(builder=builder, **readers, modalities=modalities)
        self.pretraining, self.finetuning, self.evaluation = pretraining, finetuning, evaluation
        self.segmentation, self.class_weight, self.seed, self.output = segmentation, class_weight, seed, output
        self.stages = stages or []
        self.taken_up: tuple[Stage, ...] | None = None
        self.selection = selection
        if selection is not None and stages:
            raise ConfigError("Expected stages or a selection, found both. Pre-train on what is chosen first, and start a stage from its encoder.")

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.output) / self.name

    @cached_property
    def chain(self) -> tuple[Stage, ...]:
        """The stages with their cohorts; none where pre-training is one training.

        Raises:
            InputError: If a cohort cannot be read.
        """
        return tuple(source.load() for source in self.stages)


def experiment_parser() -> Parser:
    """The parser of an experiment: `--config file`, and `--key.sub value` on top."""
    parser = Parser(allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of the experiment")
    parser.add_class_arguments(Experiment, None)
    parser.more_keys = known_keys()
    return parser


def read_experiment(arguments: Sequence[str]) -> tuple[Experiment, str]:
    """The experiment of a command line, and its resolved configuration as YAML.

    Raises:
        ConfigError: If a key is unknown (names the nearest known one), a value does not fit, or the file is missing.
    """
    parser = experiment_parser()
    parsed = parser.parse_args(list(arguments))
    return instantiate(parser, parsed)


def instantiate(parser: ArgumentParser, parsed: Namespace) -> tuple[Experiment, str]:
    """Make the objects of a parsed configuration.

    Raises:
        ConfigError: If a class refuses its arguments.
    """
    known = inspect.signature(Experiment).parameters
    settings = {key: value for key, value in parsed.as_dict().items() if key in known}
    # Of a path and an adapter one is given; the other is not written, nor does it count in the hash of the run.
    settings["cohort"] = {key: value for key, value in settings["cohort"].items() if value is not None}
    # Nor do stages, several modalities and a selection where there are none.
    settings = {key: value for key, value in settings.items() if key not in ("stages", "modalities", "selection") or value}
    settings["evaluation"] = {key: value for key, value in settings["evaluation"].items() if key != "missing" or value}
    text = resolved(settings)
    made = instantiated(parser, parsed)
    return Experiment(**{key: made[key] for key in known}), text


def known_keys() -> list[str]:
    """Keys that a configuration may hold, for the nearest one to an unknown one."""
    kinds: list[Any] = [
        Experiment,
        EvaluationSettings,
        TrainingSettings,
        ConnectomeBuilder,
        TimelineTokenizer,
        EventTokenizer,
        PopulationBuilder,
        FeatureGroup,
        ImageBuilder,
        MixedImageBuilder,
        MultimodalBuilder,
        SegmentationSettings,
        PoolSettings,
    ]
    for base in (AbstractEncoder, AbstractFusion, AbstractObjective, AbstractView):
        kinds += subclasses(base)
    return sorted({name for kind in kinds for name in inspect.signature(kind).parameters})
