"""The smallest run of an experiment: one step of everything, to test a configuration."""

import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from graphssl.data.cohort import Cohort
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.data.table import ColumnTokenizer
from graphssl.datasets.simulate import GroundTruth
from graphssl.datasets.simulate_stays import TREATMENTS
from graphssl.experiment.builders import BUILDERS
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import Experiment, instantiate
from graphssl.experiment.stage_source import StageSource

_LOG = logging.getLogger(__name__)  # no handler of ours: what is said goes to stderr
_PER_CLASS = 6
_SITES = 2
_BRAINS = {"adapter": "simulate", "arguments": {"atlases": ["simulated24"], "n_subjects": 24, "sites": _SITES}}
_TABLE = {"adapter": "simulate_table", "arguments": {"n_subjects": 80, "columns": 10, "sites": _SITES}}
_IMAGES = {"n_subjects": 48, "n_sites": _SITES}
_STAYS = {"adapter": "simulate_stays", "arguments": {"n_patients": 80, "n_sites": _SITES}}


def instantiate_small(parser: ArgumentParser, parsed: Namespace) -> tuple[Experiment, str]:
    """The experiment of a parsed configuration with one epoch, one seed and two small sites; simulated ones where its data are absent.

    Raises:
        InputError: If the configuration is wrong, or its data are there and cannot be read.
    """
    experiment, text = instantiate(parser, parsed)
    note = "# one step of a run, by --smoke\n"
    absent = experiment.cohort.absent()
    of_stages = [[] if source.cohort is None else source.cohort.absent() for source in experiment.stages]
    if absent or any(of_stages):
        note += f"# {told_of_absent([*absent, *itertools.chain(*of_stages)])}\n"
        for number, places in enumerate(of_stages):
            if places:
                _stand_in_for_stage(parsed, number)
        if absent:
            _stand_in(parsed)
        experiment, text = instantiate(parser, parser.parse_object(parsed.as_dict()))
    experiment.cohort = _small(experiment.cohort, experiment.target)
    experiment.stages = [_small_stage(source) for source in experiment.stages]
    experiment.name = f"{experiment.name}-smoke"
    evaluation = experiment.evaluation
    # So few subjects need not be of every part of a published split, nor of both classes in every period.
    protocol = "k_fold" if evaluation.protocol in ("published", "time_ordered") else evaluation.protocol
    experiment.evaluation = replace(evaluation, protocol=protocol, seeds=evaluation.seeds[:1], label_fractions=(1.0,), n_splits=2, n_jobs=1)
    experiment.pretraining, experiment.finetuning = (replace(s, max_epochs=1) for s in (experiment.pretraining, experiment.finetuning))
    if experiment.selection is not None and experiment.selection.pretraining is not None:
        experiment.selection = replace(experiment.selection, pretraining=replace(experiment.selection.pretraining, max_epochs=1))
    return experiment, note + text


def told_of_absent(places: Iterable[str]) -> str:
    """What is said, once a process on stderr too, of data that are not there: numbers of simulated ones must not be taken for theirs.

    Args:
        places: Where they were looked for.
    """
    told = f"simulated data, for there is nothing at {', '.join(dict.fromkeys(places))}"
    _say(f"graphssl: {told}")
    return told


@cache
def _say(sentence: str) -> None:
    _LOG.warning(sentence)


@dataclass(frozen=True)
class _Loaded(CohortSource):
    """A source whose cohort is at hand."""

    cohort: Cohort | None = None
    truth: GroundTruth | None = None

    def load(self) -> tuple[Cohort, GroundTruth | None]:
        assert self.cohort is not None
        return self.cohort, self.truth


def _small(source: CohortSource, target: str | None) -> CohortSource:
    """The source with a few subjects of two sites in memory."""
    if source.window is not None:
        streamed = StreamedCohort(str(source.path), source.window)
        return _Loaded(**{**vars(source), "window": None}, cohort=streamed.select(_two_sites(streamed.known, target).ids).whole())
    cohort, truth = source.load()
    return _Loaded(**vars(source), cohort=_two_sites(cohort, target), truth=truth)


def _stand_in(parsed: Namespace) -> None:
    """Put a simulated cohort in place of the one that is absent, and unset what names parts of that."""
    summary = parsed.cohort.get("summary")
    parsed.cohort = Namespace({**simulated_in_place(parsed, has_summary=summary is not None), "summary": summary})
    parsed.target, parsed.classes = None, None


def _stand_in_for_stage(parsed: Namespace, number: int) -> None:
    """Put a simulated cohort, other than that of any other stage, in place of the one of a stage."""
    stage = parsed.stages[number]
    named = {key: stage[key] if stage.get(key) is not None else parsed[key] for key in (*BUILDERS, "encoder")}
    made = simulated_in_place(Namespace(named), has_summary=stage.cohort.get("summary") is not None)
    arguments = {**made["arguments"], "seed": number + 1, "name": stage.name}
    stage.cohort = Namespace({**made, "arguments": arguments, "path": None, "summary": stage.cohort.get("summary")})


def _small_stage(source: StageSource) -> StageSource:
    """A stage of one epoch on two small sites."""
    settings = None if source.pretraining is None else replace(source.pretraining, max_epochs=1)
    changes: dict[str, Any] = {"epochs": None if source.epochs is None else min(1, source.epochs), "pretraining": settings}
    if source.cohort is not None:
        changes["cohort"] = _small(source.cohort, None)
    return replace(source, **changes)


def simulated_in_place(parsed: Namespace, *, has_summary: bool) -> dict[str, Any]:
    """Adapter and arguments of a simulated cohort of what a configuration reads; what names parts of the one that is absent is unset.

    Args:
        parsed: The parsed configuration.
        has_summary: Whether columns are made of events.
    """
    of_population = None if parsed.population is None else parsed.population.init_args.tokenizer
    readers = [chosen for chosen in (parsed.columns, parsed.timeline, parsed.events, of_population) if chosen is not None]
    of_events = [chosen for chosen in readers if not chosen.class_path.endswith(ColumnTokenizer.__name__)]
    has_table = bool(readers) or parsed.population is not None
    if parsed.builder is not None:
        parsed.builder.init_args.atlases = None
    for chosen in readers:
        chosen.init_args.columns = None
    for chosen in of_events:
        chosen.init_args.codes, chosen.init_args.min_subjects = None, 1
        if chosen.init_args.get("treatments"):
            chosen.init_args.treatments = list(TREATMENTS)
    if parsed.population is not None:
        parsed.population.init_args.groups = None
    if parsed.get("modalities") is not None:
        return _modalities_like(parsed)
    if parsed.images is not None:
        parsed.images.init_args.images = None
        return _images_like(parsed)
    return _STAYS if of_events or has_summary else _TABLE if has_table else _BRAINS


def _images_like(parsed: Namespace) -> dict[str, Any]:
    """Images of the rank and channels that the encoder reads; clips where the images are to have an axis more than the encoder."""
    encoder = {} if parsed.encoder is None else dict(parsed.encoder.init_args)
    # A slice transformer reads volumes alone, and has no rank among its arguments.
    rank, size = encoder.get("rank", 3 if "axis" in encoder else 2), parsed.images.init_args.size
    is_clip = isinstance(size, list | tuple) and len(size) > rank
    kind = {"rank": rank, "n_channels": encoder.get("in_channels", 1), "n_frames": 6 if is_clip else None}
    return {"adapter": "simulate_images", "arguments": {**_IMAGES, **kind}}


def _modalities_like(parsed: Namespace) -> dict[str, Any]:
    """Patients with what the builder of each modality reads; what names parts of the data that are absent is unset."""
    shares = {}
    builders = parsed.modalities.init_args.builders
    for name, builder in builders.items():
        kind, arguments = str(builder.class_path).rpartition(".")[2], builder.init_args
        for key in ("atlases", "columns", "codes", "treatments"):
            if key in arguments:
                arguments[key] = None
        if kind == "ImageBuilder":
            rank = dict(parsed.encoder.init_args.encoders[name].init_args).get("rank", 2) if parsed.encoder else 2
            arguments["images"] = "volume" if rank == 3 else "image"
        if "min_subjects" in arguments:
            arguments["min_subjects"] = 1
        kinds = {"ConnectomeBuilder": "connectome", "ColumnTokenizer": "table", "ImageBuilder": arguments.get("images")}
        shares[kinds.get(kind, "events")] = 0.8
    return {"adapter": "simulate_multimodal", "arguments": {"atlases": ["simulated24"], "n_subjects": 24, "sites": _SITES, "shares": shares}}


def _two_sites(cohort: Cohort, target: str | None) -> Cohort:
    sites = cohort.sites
    # Pre-training needs no target.
    has_target = target is not None or bool(cohort.schema.named("target"))
    labels = cohort.target(target) if has_target else pd.Series("all", index=cohort.subjects.index)
    places = ["all"] if sites is None else sites.unique()[:_SITES]
    per_class = _PER_CLASS * _SITES // len(places)
    groups = cohort.groups
    chosen: list[str] = []
    for place in places:
        here = labels if sites is None else labels[sites == place]
        for value in labels.dropna().unique():
            chosen += _one_a_group_first(groups[here.index[here == value]])[:per_class]
    return cohort.select(chosen)


def _one_a_group_first(groups: "pd.Series[str]") -> list[str]:
    """Subjects in turns over their groups: folds hold groups whole, and a few subjects of one group would all be on one side."""
    return groups.groupby(groups).cumcount().sort_values(kind="stable").index.tolist()
