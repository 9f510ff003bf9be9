"""What `graphssl meta-train` does: sources and a target become models, an adaptation curve, similarities and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.data.overlap import certain_overlap
from graphssl.errors import LeakageError
from graphssl.evaluation import few_shot_baselines
from graphssl.experiment.meta_config import MetaExperiment
from graphssl.experiment.runs import RunFolder, describe
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.reports import write_meta_report
from graphssl.training.launch import as_started, is_first
from graphssl.training.meta import (
    AdaptiveStep,
    Similarity,
    Source,
    Strategy,
    adaptation_curve,
    gradient_cosine,
    meta_train,
    rates_by_source,
    representation_similarity,
    task_gradients,
    transfer_matrix,
)
from graphssl.training.meta.similarity import embedded
from graphssl.training.model import Model

_RATES = ("loss", "weight", "learning_rate", "weight_decay")


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


def shared_with(target: Source, source: Source) -> list[str]:
    """Subjects of a target who are in a source too, or somebody of whose family is.

    Args:
        target: The target.
        source: A source.
    """
    one, other = (each.cohort.select(list(each.labels)) for each in (target, source))
    return sorted(certain_overlap(one, other).index)


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
