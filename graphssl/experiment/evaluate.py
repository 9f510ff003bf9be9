"""What `graphssl evaluate` does: score methods and baselines on the same splits, audit them, and write the report."""

from dataclasses import replace
from typing import Any

from graphssl.data.cohort import Cohort
from graphssl.evaluation.audits import leading_components, site_probe
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.protocols import evaluate
from graphssl.experiment.config import Experiment
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.explanation import write_explanation
from graphssl.experiment.finetune import finetuned, task_of
from graphssl.experiment.methods import MEAN_MASK, atlases_of, make_methods
from graphssl.experiment.pretrain import pretrained
from graphssl.experiment.runs import RunFolder, joint_hash
from graphssl.experiment.selection import prepared_pool
from graphssl.experiment.stages import check_stages_apart, taken_up
from graphssl.folders import file_written_whole
from graphssl.graphs import ConnectomeBuilder
from graphssl.reports import write_report
from graphssl.results import Result, write_results
from graphssl.training.launch import check_alone
from graphssl.training.model import Model
from graphssl.training.pretrain import untrained


def run_evaluate(experiment: Experiment, configuration: str, *, progress: bool = False) -> dict[str, Any]:
    """Evaluate the methods and baselines, audit them, keep a model trained on everybody, explain it, and write the report.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        progress: Whether to show progress on stderr.

    Returns:
        Where results and report are.

    Raises:
        ConfigError: If torchrun or SLURM started several processes; `evaluation.n_jobs` spreads an evaluation.
    """
    check_alone("`graphssl evaluate`, which evaluation.n_jobs spreads")
    cohort, truth = experiment.cohort.load()
    settings, left_out = _served(experiment, cohort)
    task = task_of(experiment, cohort, settings.protocol)
    splits = make_splits(cohort, task, settings.protocol, settings.n_splits)
    details = {
        "seeds": list(settings.seeds),
        "task": {"target": task.target, "classes": list(task.classes)},
        "protocol": {"name": settings.protocol, "n_splits": len(splits), "splits_hash": joint_hash([s.hash for s in splits])},
        "left_out": left_out,
    }
    names = (*settings.methods, *settings.baselines, *((MEAN_MASK,) if task.masks else ()))
    methods = make_methods(names, settings, experiment, cohort)
    check_stages_apart(experiment.chain, cohort)
    with RunFolder(experiment.folder, "evaluate", configuration).opened(cohort, details) as folder:
        folder.write_splits(splits)
        if experiment.chain:  # first, since stages with a cohort of their own are the same for all splits
            start = pretrained(experiment, cohort, folder, progress)
            methods = make_methods(names, settings, taken_up(experiment, folder), cohort)
        pool = prepared_pool(experiment, cohort, folder.path, progress=progress)
        if pool is not None:
            methods = make_methods(names, settings, experiment, cohort, pool)
        evaluation = evaluate(
            cohort,
            methods,
            protocol=settings.protocol,
            target=experiment.target,
            classes=task.classes if task.masks is None else None,
            masks=task.masks,
            seeds=settings.seeds,
            label_fractions=settings.label_fractions,
            n_splits=settings.n_splits,
            audited=settings.to_audit,
            scores=settings.scores,
            ensembles=settings.ensembles,
            folder=folder.path / "units",
            n_jobs=settings.n_jobs,
            progress=progress,
        )
        if not experiment.chain:
            start = pretrained(experiment, cohort, folder, progress, of_pool=pool)
        tuned = finetuned(experiment, start, cohort, folder, progress)
        folder.write_history({"pretrain": start.history, "finetune": tuned.history})
        is_explained = (folder.path / "explain" / "summary.json").is_file()
        if (
            isinstance(tuned.builder, ConnectomeBuilder) and not is_explained
        ):  # that of an earlier call may hold the stability that `explain` measured
            write_explanation(folder.path / "explain", tuned, cohort, truth=truth)
        write_results(folder.path / "results.jsonl", [*evaluation.results, *_probe_sites(experiment, start, cohort)])
        if len(evaluation.choices):
            folder.write_text("tuning.csv", evaluation.choices.to_csv(index=False))
        # Of masks a row an image and class; the report reads what is predicted of subjects.
        with file_written_whole(folder.path / ("predictions.parquet" if task.masks is None else "segmentations.parquet")) as aside:
            evaluation.predictions.to_parquet(aside, index=False)
        report = write_report(folder.path)
    return {"run": str(folder.path), "results": str(folder.path / "results.jsonl"), "report": str(report)}


def _served(experiment: Experiment, cohort: Cohort) -> tuple[EvaluationSettings, dict[str, str]]:
    """The settings without a baseline that the cohort has nothing for, and why it was left out."""
    settings = experiment.evaluation
    if experiment.segmentation is not None:
        why = "it is of classes of subjects, not of masks"
        without = replace(settings, baselines=(), audited=(), tuned={}, scores=(), ensembles={})
        return without, dict.fromkeys((*settings.baselines, *settings.tuned, *settings.scores, *settings.ensembles), why)
    if "covariates" not in settings.baselines or any(cohort.schema.named("covariate")):
        return settings, {}
    baselines, audited = (tuple(name for name in names if name != "covariates") for names in (settings.baselines, settings.to_audit))
    ensembles = {name: members for name, members in settings.ensembles.items() if "covariates" not in members}
    return replace(settings, baselines=baselines, audited=audited, ensembles=ensembles), {
        "covariates": "no column of the table has the role 'covariate'"
    }


def _probe_sites(experiment: Experiment, start: Model, cohort: Cohort) -> list[Result]:
    sites = cohort.sites
    if sites is None or sites.nunique() < 2 or sites.value_counts().min() < 2:
        return []
    scratch = untrained(cohort, encoder=experiment.encoder, builder=experiment.builder, seed=experiment.seed)
    features = {
        "pretrained": start.embed(cohort).to_numpy(),
        "scratch": scratch.embed(cohort).to_numpy(),
    }
    if isinstance(start.builder, ConnectomeBuilder):
        features["connectivity"] = leading_components(cohort, atlases_of(experiment) or list(cohort.regions))
    return site_probe(features, sites.tolist(), cohort=cohort.name, seed=experiment.seed)
