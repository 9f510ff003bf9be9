"""A configuration: what to load, what to train, how to evaluate. Constructors are its schema."""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from graphssl import datasets
from graphssl.atlases import load_atlas
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.event_tokens import EventTokenizer
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.mixed_images import MixedImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.side_by_side import side_by_side
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.data.summaries import EventSummary
from graphssl.data.table import ColumnTokenizer
from graphssl.data.timeline import TimelineTokenizer
from graphssl.datasets.postgres import has_password, is_postgres
from graphssl.datasets.simulate import GroundTruth, Simulation
from graphssl.datasets.simulate_table import TableSimulation
from graphssl.encoders.base import AbstractEncoder, subclasses
from graphssl.encoders.fusion import AbstractFusion
from graphssl.errors import ConfigError, InputError
from graphssl.evaluation.baselines import BASELINES
from graphssl.evaluation.challenges import CHALLENGE_SCORES
from graphssl.evaluation.ensemble import check_members
from graphssl.evaluation.protocols import ProtocolName
from graphssl.experiment.parser import Parser, nearest, reason
from graphssl.experiment.sources import Source, open_source, several
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.neighbors import Search
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.initializers.dimension import Inflation
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.supervised import ClassWeight
from graphssl.training.finetune import FINETUNING
from graphssl.training.fit import TrainingSettings
from graphssl.training.segment import SegmentationSettings
from graphssl.training.selection import Leaks, SelectionSettings
from graphssl.training.selection_order import Rule
from graphssl.training.stages import Stage, check_stage
from graphssl.views.base import AbstractView

# What a tuned parameter may be: a class with its arguments, or a plain value.
Choice = AbstractObjective | AbstractEncoder | bool | int | float | str | None
# What reads the same data in other ways; see `make_method`.
COMPARISONS = ("gcn", "gat", "gin", "sage", "brain_network_transformer", "mlp")
# What fusion of several modalities is compared with; `only_<name>` beside them is one modality alone.
OF_MODALITIES = ("late_average", "concatenated_boosting")
ONLY = "only_"
OURS = (
    "pretrained",
    "pretrained_probe",
    "pretrained_linear",
    "scratch",
    "scratch_probe",
    "pretrained_knn",
    "scratch_knn",
    "no_edges",
    *OF_MODALITIES,
    *COMPARISONS,
)


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Args:
        protocol: `leave_one_site_out`, `k_fold`, `published` (columns of the table with the role `split`), or `time_ordered` (trained on the past, by
            prediction time).
        methods: Methods of ours: `pretrained` and `scratch` (encoder and head trained), `pretrained_probe` and `scratch_probe` (head only),
            `pretrained_knn` and `scratch_knn` (votes of the nearest training subjects),
            `pretrained_linear` (a ridge on what `ScanContrast` learned from all training scans, which must be time series),
            of several modalities `only_<name>` (one alone, on those who have it), `late_average` (the mean of these) and `concatenated_boosting`
            (gradient boosting on embeddings side by side, see `EmbeddingBoosting`),
            `no_edges` (pre-trained with every edge cut), and the comparison encoders `gcn`, `gat`, `gin`, `mlp`,
            `brain_network_transformer` (of connectomes) and `sage` (of patients in a population), pre-trained alike.
        baselines: Baselines beside them; see `graphssl.evaluation.BASELINES`.
        tuned: Methods and baselines to score once more, as `<name>_tuned`, with settings chosen on inner folds of the training subjects: values to
            choose from, by parameter, by name (see `graphssl.evaluation.Tuned`). A value may be a class with its `init_args`.
        n_inner: Inner folds; they hold out sites under `leave_one_site_out`, else subjects.
        audited: Methods that are also fitted on shuffled labels.
        scores: Scores of challenges beside the metrics: `physionet2012_event1` (its threshold chosen on training subjects, by one more fit),
            `physionet2012_event1_best_threshold` (chosen on the test subjects: an upper bound), `physionet2012_event2`, `physionet2019_utility`.
        ensembles: Methods and baselines that also predict together, each counting alike, by the name of the ensemble; a name that begins with
            `pretrained` counts as pre-trained in the report.
        missing: Shares of the test subjects with a modality who lose it before our methods are asked, by name of the modality, such as
            `{image: [0.3, 0.5, 0.7, 1.0]}`: what is left when it is missing.
        seeds: Seeds of methods and label draws.
        label_fractions: Shares of the training labels.
        n_splits: Folds of `k_fold`.
        n_jobs: Processes side by side.
    """

    protocol: ProtocolName = "leave_one_site_out"
    methods: tuple[str, ...] = ("pretrained", "pretrained_probe", "scratch", "no_edges")
    baselines: tuple[str, ...] = ("logistic_correlation", "ridge_correlation", "logistic_tangent", "ridge_tangent", "covariates", "majority")
    audited: tuple[str, ...] = ("pretrained_probe", "logistic_correlation")
    seeds: tuple[int, ...] = (0, 1, 2)
    label_fractions: tuple[float, ...] = (1.0,)
    n_splits: int = 5
    n_jobs: int = 1
    tuned: dict[str, dict[str, list[Choice]]] = field(default_factory=dict)
    n_inner: int = 3
    scores: tuple[str, ...] = ()
    ensembles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(name for name in set(self.methods) - set(OURS) if not name.startswith(ONLY))
        if unknown:
            raise ConfigError(f"Expected methods among {', '.join(OURS)}; found {unknown[0]!r}.{nearest(unknown[0], OURS)}")
        strange = sorted(set(self.baselines) - set(BASELINES))
        if strange:
            raise ConfigError(f"Expected baselines among {', '.join(BASELINES)}; found {strange[0]!r}.{nearest(strange[0], BASELINES)}")
        odd = sorted(set(self.scores) - set(CHALLENGE_SCORES))
        if odd:
            raise ConfigError(f"Expected scores among {', '.join(CHALLENGE_SCORES)}; found {odd[0]!r}.{nearest(odd[0], list(CHALLENGE_SCORES))}")
        foreign = sorted(set(self.tuned) - {*OURS, *BASELINES})
        if foreign:
            raise ConfigError(f"Expected methods or baselines to tune, found {foreign[0]!r}.{nearest(foreign[0], [*OURS, *BASELINES])}")
        check_members(self.ensembles, [*self.methods, *self.baselines, *(f"{name}_tuned" for name in self.tuned)])
        missing = sorted(set(self.audited) - set(self.methods) - set(self.baselines))
        if missing:
            raise ConfigError(f"Expected audited methods to be among the methods and baselines, found {missing}. Add them there, or audit others.")


PRETRAINING = TrainingSettings()
EVALUATION = EvaluationSettings()


@dataclass(frozen=True)
class CohortSource:
    """A path that holds a cohort, or a function that gives one.

    Args:
        adapter: Name of a function of `graphssl.datasets`, such as `load_timeseries`, or the dotted name of any other.
        arguments: Its arguments, or the options of `graphssl build` for the path. Atlases are given as names, files or `NAME=FILE`; paths count from
            the folder in which the command is run.
        path: What `graphssl validate` recognises: a saved cohort, a folder of files or one file; instead of an adapter.
        summary: How the events before the prediction time become columns, where the cohort has events.
        beside: More sources of the same subjects, each a path or an adapter with its arguments: a table beside images, say; found by their ids.
        sites: Sites to take; all when left out.
        without_sites: Sites to leave out.
        licence: What the licence of the data asks of those who pass a model on; the card of a pre-trained model says it.
        window: Shards in memory at once, where the path is a cohort in shards that `graphssl pretrain` is to stream; all of it when left out.

    Raises:
        ConfigError: If neither of the two is given, or both, a window stands beside anything but a path, or the address of a database carries a
            password, which would be copied into run folders.
    """

    adapter: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    summary: EventSummary | None = None
    beside: list[dict[str, Any]] | None = None
    sites: list[str] | None = None
    without_sites: list[str] | None = None
    licence: str | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        if (self.adapter is None) == (self.path is None):
            raise ConfigError(f"Expected the cohort to have a path or an adapter, found {'neither' if self.path is None else 'both'}.")
        others = [name for name in ("adapter", "arguments", "summary", "beside", "sites", "without_sites") if getattr(self, name)]
        if self.window is not None and others:
            raise ConfigError(f"Expected a window beside the path of a cohort in shards alone, found {', '.join(others)} too. Leave them out.")
        if any(is_postgres(value) and has_password(value) for value in self.arguments.values()):
            raise ConfigError(
                "Expected the address of a database without a password, since configurations are copied into run folders; found one with it. "
                "Put it into the variable PGPASSWORD, or into ~/.pgpass."
            )

    def open(self) -> Cohort | StreamedCohort:
        """The cohort, streamed where there is a window.

        Raises:
            InputError: If the data cannot be read.
        """
        return self.load()[0] if self.window is None else StreamedCohort(str(self.path), self.window)

    def load(self) -> tuple[Cohort, GroundTruth | None]:
        """The cohort, and what was put into it if it is simulated.

        Raises:
            ConfigError: If there is no such function, an argument of it is unknown or missing, the cohort has no site of that name, or it is to be
                streamed.
            InputError: If the data cannot be read.
        """
        if self.window is not None:
            raise ConfigError(
                f"Expected a cohort in memory, found window={self.window}: `graphssl pretrain` alone streams, in one training on one cohort. "
                "Leave the window out where the cohort fits into memory, or name a smaller cohort."
            )
        cohort, truth = self._read()
        cohort = of_sites(cohort, self.sites, self.without_sites or ())
        for source in self._others():
            cohort = side_by_side(cohort, source.load()[0])
        return (cohort if self.summary is None else self.summary.apply(cohort)), truth

    def _read(self) -> tuple[Cohort, GroundTruth | None]:
        if self.path is not None:
            return open_source(self._source(self.path)), None
        function = self._function()
        name, signature = function.__name__, inspect.signature(function)
        arguments = dict(self.arguments)
        if "atlas" in arguments:
            arguments["atlas"] = load_atlas(arguments["atlas"])
        if "atlases" in arguments:
            arguments["atlases"] = [load_atlas(entry) for entry in arguments["atlases"]]
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ConfigError(f"Expected the arguments that {name} needs, found none for one of them: {error}.") from error
        made = function(**arguments)
        if isinstance(made, TableSimulation):
            return made.cohort, None  # its truth has no regions to explain
        return (made.cohort, made.truth) if isinstance(made, Simulation) else (made, None)

    def absent(self) -> list[str]:
        """Files and folders that are named and at which there is nothing.

        Raises:
            ConfigError: If there is no such function, or an argument of it is unknown.
        """
        atlases: list[Any]
        if self.path is not None:
            source = self._source(self.path)
            places, atlases = [source.path, *filter(None, [source.participants])], [*several(source.atlas)]
        else:
            parameters = inspect.signature(self._function()).parameters
            places = [str(value) for key, value in self.arguments.items() if "PathLike" in str(parameters[key].annotation) and isinstance(value, str)]
            places = [place for place in places if not is_postgres(place)]  # whether it answers is seen when it is read
            atlases = [self.arguments.get("atlas"), *(self.arguments.get("atlases") or [])]
        places += [entry.rpartition("=")[2] for entry in atlases if isinstance(entry, str) and "/" in entry]
        return [place for place in places if not Path(place).exists()] + [place for source in self._others() for place in source.absent()]

    def _others(self) -> list["CohortSource"]:
        known = [entry.name for entry in fields(CohortSource)]
        for key in (key for entry in self.beside or [] for key in entry if key not in known):
            raise ConfigError(f"Expected sources beside the first with {', '.join(known)}, found {key!r}.{nearest(key, known)}")
        return [CohortSource(**entry) for entry in self.beside or []]

    def _source(self, path: str) -> Source:
        known = [entry.name for entry in fields(Source) if entry.name != "path"]
        for key in self.arguments:
            if key not in known:
                raise ConfigError(f"Expected arguments that graphssl build has as options, found {key!r}.{nearest(key, known)}")
        return Source(path, **self.arguments)

    def _function(self) -> Callable[..., Any]:
        module, _, name = str(self.adapter).rpartition(".")
        try:
            function: Callable[..., Any] = getattr(import_module(module or "graphssl.datasets"), name)
            parameters = list(inspect.signature(function).parameters)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            near = nearest(name, datasets.__all__)
            raise ConfigError(
                f"Expected the adapter to be a function of graphssl.datasets or a dotted name, found {self.adapter!r}.{near}"
            ) from error
        for key in self.arguments:
            if key not in parameters:
                raise ConfigError(f"Expected arguments of {name}, found {key!r}.{nearest(key, parameters)}")
        return function


def of_sites(cohort: Cohort, sites: Sequence[str] | None, without: Sequence[str] = ()) -> Cohort:
    """The subjects of some sites.

    Args:
        cohort: The cohort.
        sites: Sites to take; all when left out.
        without: Sites to leave out.

    Raises:
        ConfigError: If the cohort has no site of that name.
    """
    if sites is None and not without:
        return cohort
    known = [] if cohort.sites is None else sorted(cohort.sites.unique())
    for site in (*(sites or ()), *without):
        if site not in known:
            raise ConfigError(f"Expected sites of {cohort.name!r} ({', '.join(known) or 'it has none'}), found {site!r}.{nearest(site, known)}")
    assert cohort.sites is not None
    wanted = set(sites if sites is not None else known) - set(without)
    return cohort.select([str(subject) for subject, site in cohort.sites.items() if site in wanted])


@dataclass(frozen=True)
class PoolSettings:
    """A pool of unlabelled subjects, and which of them to pre-train on besides those of the cohort: see `graphssl.select_nearest`.

    Args:
        pools: Where the pool comes from: cohorts by name, with which the ids of their subjects begin.
        budget: How many to choose: a number, or a share of the pool below 1.
        k: Neighbours of each subject of the cohort at first.
        rule: Which neighbours come first: `rounds`, `similarity`, `votes`, `diversity` or `class_means`; `random` and `all` are the controls.
        balance: Column of the pool whose values are chosen in turn, such as `site` or `source`.
        encoder: Folder of the model that compares subjects (f0); when left out, one is trained on a part of the pool.
        subset: Share of the pool on which it is trained; 50,000 subjects at most.
        objective: What it is trained on; that of the experiment when left out.
        pretraining: How long and how fast it is trained; as the experiment when left out.
        near_duplicate: Cosine from which two subjects count as one.
        leaks: `refuse` a pool that holds subjects of the cohort, or `exclude` them.
        search: `exact`, `approximate` or `auto`.
        with_target: Whether the cohort's own training subjects are pre-trained on as well.
        seed: Of the part of the pool, and of what is chosen at random.

    Raises:
        ConfigError: If there is no pool, or a number is impossible.
    """

    pools: dict[str, CohortSource]
    budget: float
    k: int = 10
    rule: Rule = "rounds"
    balance: str | None = None
    encoder: str | None = None
    subset: float = 0.1
    objective: AbstractObjective | None = None
    pretraining: TrainingSettings | None = None
    near_duplicate: float | None = 0.99
    leaks: Leaks = "refuse"
    search: Search = "auto"
    with_target: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.pools or not 0 < self.subset <= 1:
            raise ConfigError(f"Expected one or more pools to choose from and a subset in (0, 1], found {list(self.pools)} and {self.subset}.")
        self.chosen_by()  # which checks the numbers

    def chosen_by(self) -> SelectionSettings:
        """How many to choose, and by what."""
        return SelectionSettings(self.budget, self.k, self.rule, self.balance, self.seed)


@dataclass(frozen=True)
class StageSource:
    """One stage of a chain of pre-training. What it does not say is as the run has it.

    Args:
        name: Name, of letters, digits, `-` and `_`.
        cohort: Where its cohort comes from. When left out it is the cohort of the run, in an evaluation the training subjects of the split.
        objective: What to pre-train on.
        epochs: Epochs; with 0 the weights are only taken over.
        initialisation: `previous` (random weights for the first stage), `random`, or a folder or file of weights (see `graphssl.Stage`).
        keep_objective: Whether decoders and heads go on too; where they fit when left out.
        learning_rate_scale: Factor of the learning rate.
        anchor: Weight of half the squared distance of the encoder's weights from those the stage starts with.
        encoder: The encoder, where it is another.
        builder: How connectomes are made, where otherwise.
        columns: How tables are made, likewise.
        timeline: How events become bins of time, likewise.
        events: How events become tokens, likewise.
        population: How patients are placed in a population, likewise.
        images: How images are prepared, likewise.
        modalities: How each kind of data is made, likewise.
        pretraining: How long and how fast, likewise.
        inflation: What kernels of images become in a network of volumes: `mean`, `centre` or `acs`.
        probe_every: Epochs from one probe to the next within the stage.

    Raises:
        ConfigError: If a number is out of range, the name cannot be one of a folder, or there is more than one builder.
    """

    name: str
    cohort: CohortSource | None = None
    objective: AbstractObjective | None = None
    epochs: int | None = None
    initialisation: str = "previous"
    keep_objective: bool | None = None
    learning_rate_scale: float = 1.0
    anchor: float = 0.0
    encoder: AbstractEncoder | None = None
    builder: ConnectomeBuilder | None = None
    columns: ColumnTokenizer | None = None
    timeline: TimelineTokenizer | None = None
    events: EventTokenizer | None = None
    population: PopulationBuilder | None = None
    images: ImageBuilder | MixedImageBuilder | None = None
    modalities: MultimodalBuilder | None = None
    pretraining: TrainingSettings | None = None
    inflation: Inflation = "mean"
    probe_every: int | None = None

    def __post_init__(self) -> None:
        check_stage(self.name, self.epochs, self.learning_rate_scale, self.anchor, self.probe_every)
        self._builder()

    def load(self) -> Stage:
        """The stage, with its cohort.

        Raises:
            InputError: If the cohort cannot be read.
        """
        same = (
            "name",
            "objective",
            "epochs",
            "initialisation",
            "keep_objective",
            "learning_rate_scale",
            "anchor",
            "encoder",
            "inflation",
            "probe_every",
        )
        cohort = None if self.cohort is None else self.cohort.load()[0]
        return Stage(**{name: getattr(self, name) for name in same}, cohort=cohort, builder=self._builder(), settings=self.pretraining)

    def _builder(self) -> AbstractBuilder | None:
        return one_builder(**{name: getattr(self, name) for name in BUILDERS})


BUILDERS = ("builder", "columns", "timeline", "events", "population", "images", "modalities")


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


def one_builder(**given: AbstractBuilder | None) -> AbstractBuilder | None:
    """The one that is given of the builders of a configuration, by key; None where none is.

    Raises:
        ConfigError: If several are.
    """
    builders = {key: value for key, value in given.items() if value is not None}
    if len(builders) > 1:
        raise ConfigError(f"Expected one of {', '.join(given)}, for a run reads one kind of batch; found {' and '.join(builders)}. Leave one out.")
    return next(iter(builders.values()), None)


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
    text = yaml.safe_dump(json.loads(json.dumps(settings, default=str)), sort_keys=False)
    try:
        made = parser.instantiate(parsed)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # jsonargparse wraps what a constructor says
        raise ConfigError(reason(str(error))) from error
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
