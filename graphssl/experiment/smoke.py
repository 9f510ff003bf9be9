"""The smallest run of an experiment: one step of everything, to test a configuration."""

from dataclasses import replace

from graphssl.atlases import simulated_atlas
from graphssl.data.cohort import Cohort
from graphssl.datasets.simulate import Simulation, simulate
from graphssl.errors import DataError
from graphssl.experiment.config import Experiment
from graphssl.experiment.verbs import load

_PER_SITE = 12
_SITES = 2


def smoked(experiment: Experiment) -> Experiment:
    """The experiment with one epoch, one seed and two small sites; simulated ones where its data are absent."""
    evaluation = replace(experiment.evaluation, seeds=experiment.evaluation.seeds[:1], label_fractions=(1.0,), n_splits=2, n_jobs=1)
    small = Experiment(**{**vars(experiment), "evaluation": evaluation})
    small.pretraining, small.finetuning = (replace(s, max_epochs=1) for s in (experiment.pretraining, experiment.finetuning))
    small.cohort = lambda: _small_cohort(experiment)
    return small


def _small_cohort(experiment: Experiment) -> Cohort | Simulation:
    try:
        cohort, truth = load(experiment)
    except DataError:
        return _simulated(experiment)
    labels = cohort.target(experiment.target)
    sites = cohort.sites
    chosen: list[str] = []
    places = ["all"] if sites is None else sites.unique()[:_SITES]
    for place in places:
        here = [s for s in cohort.ids if sites is None or sites[s] == place]
        for value in labels.dropna().unique():
            chosen += [s for s in here if labels[s] == value][: _PER_SITE // 2]
    small = cohort.select(chosen)
    return small if truth is None else Simulation(small, truth)


def _simulated(experiment: Experiment) -> Cohort:
    """A cohort with the atlas names, target and classes that the configuration asks for."""
    names = (experiment.builder.atlases if experiment.builder is not None else None) or ["simulated"]
    classes = experiment.classes or ["control", "patient"]
    atlases = [simulated_atlas(20 + 4 * k, name=name) for k, name in enumerate(names)]
    cohort = simulate(atlases, n_subjects=_SITES * _PER_SITE, sites=_SITES).cohort
    target = experiment.target or "diagnosis"
    column = replace(cohort.schema["diagnosis"], name=target, categories=tuple(sorted(classes[:2])))
    values = cohort.subjects["diagnosis"].map({"control": classes[0], "patient": classes[1]})
    return cohort.with_column(column, values)
