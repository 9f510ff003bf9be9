"""The smallest run of an experiment: one step of everything, to test a configuration."""

from dataclasses import replace

from jsonargparse import ArgumentParser, Namespace

from graphssl.data.cohort import Cohort
from graphssl.datasets.simulate import Simulation
from graphssl.errors import InputError
from graphssl.experiment.config import Experiment, instantiate
from graphssl.experiment.verbs import load

_PER_CLASS = 6
_SITES = 2
_STAND_IN = {"class_path": "graphssl.datasets.simulate", "init_args": {"atlases": ["simulated24"], "n_subjects": 24, "sites": _SITES}}


def instantiate_small(parser: ArgumentParser, parsed: Namespace) -> tuple[Experiment, str]:
    """The experiment of a parsed configuration with one epoch, one seed and two small sites; simulated ones where its data are absent."""
    try:
        experiment, text = instantiate(parser, parsed)
        cohort, truth = load(experiment)
    except InputError:
        parsed.cohort = Namespace(_STAND_IN)
        parsed.target, parsed.classes = None, None
        if parsed.builder is not None:
            parsed.builder["atlases"] = None
        experiment, text = instantiate(parser, parser.parse_object(parsed.as_dict()))
        cohort, truth = load(experiment)
    small = _two_sites(cohort, experiment)
    experiment.cohort = lambda: small if truth is None else Simulation(small, truth)
    experiment.name = f"{experiment.name}-smoke"
    seeds = experiment.evaluation.seeds[:1]
    experiment.evaluation = replace(experiment.evaluation, seeds=seeds, label_fractions=(1.0,), n_splits=2, n_jobs=1)
    experiment.pretraining, experiment.finetuning = (replace(s, max_epochs=1) for s in (experiment.pretraining, experiment.finetuning))
    return experiment, "# one step of a run, by --smoke\n" + text


def _two_sites(cohort: Cohort, experiment: Experiment) -> Cohort:
    labels = cohort.target(experiment.target)
    sites = cohort.sites
    places = ["all"] if sites is None else sites.unique()[:_SITES]
    chosen: list[str] = []
    for place in places:
        here = labels if sites is None else labels[sites == place]
        for value in labels.dropna().unique():
            chosen += here.index[here == value][:_PER_CLASS].tolist()
    return cohort.select(chosen)
