"""What the verbs of the command line do, callable from Python."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import compress, takewhile
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.data.atlas import check_atlas
from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.images import ImageData
from graphssl.data.multimodal import MultimodalBatch, MultimodalBuilder
from graphssl.data.splits import published
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders import (
    GAT,
    GCN,
    GIN,
    MLP,
    AbstractEncoder,
    AbstractImageEncoder,
    AbstractPopulationEncoder,
    BrainNetworkTransformer,
    GraphTransformer,
    MultimodalEncoder,
    PopulationGNN,
)
from graphssl.encoders.population_gnn import Layer
from graphssl.errors import AtlasError, ConfigError, DataError, LeakageError
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation.audits import leading_components, site_probe
from graphssl.evaluation.baselines import BASELINES, LabelledOnly, make_baseline
from graphssl.evaluation.calibrated import RidgeProbability
from graphssl.evaluation.missing_modality import MissingAtTest, missing_name
from graphssl.evaluation.modalities import EmbeddingBoosting, LateAverage, ModalityClassifier, parts_of
from graphssl.evaluation.nearest import NearestNeighborProbe
from graphssl.evaluation.protocols import Task, evaluate, make_mask_task, make_splits, make_task
from graphssl.evaluation.segmenter import MeanMask, Segmenter
from graphssl.evaluation.tuning import InnerUnit, Tuned
from graphssl.experiment.config import COMPARISONS, OF_MODALITIES, ONLY, EvaluationSettings, Experiment
from graphssl.experiment.explanation import write_explanation
from graphssl.experiment.runs import RunFolder, joint_hash, read_manifest
from graphssl.experiment.selection import prepared_pool, with_chosen
from graphssl.folders import file_written_whole
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder, ScanContrast
from graphssl.objectives import AbstractObjective, default_objective
from graphssl.reports import write_report
from graphssl.results import Result, write_results
from graphssl.training.finetune import finetune
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model, pooled_table
from graphssl.training.pretrain import pretrain, untrained
from graphssl.training.probe import Probe
from graphssl.training.segment import finetune_segmentation
from graphssl.training.selection import PoolSelection
from graphssl.training.stages import Stage, pretrain_stages
from graphssl.training.transfer import Transfer, transfer
from graphssl.training.transfer_images import transfer_images

Method = (
    ConnectomeClassifier
    | NearestNeighborProbe
    | LabelledOnly
    | Segmenter
    | MeanMask
    | ModalityClassifier
    | LateAverage
    | EmbeddingBoosting
    | MissingAtTest
)
# What segments images, and what it is compared with.
SEGMENTERS, MEAN_MASK = ("pretrained", "pretrained_probe", "scratch", "scratch_probe"), "mean_mask"


def run_pretrain(experiment: Experiment, configuration: str, *, progress: bool = False) -> dict[str, Any]:
    """Pre-train on the whole cohort and keep the encoder; goes on where a killed run stopped.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        progress: Whether to show progress on stderr.

    Returns:
        Where the encoder is, the epoch that was kept and its validation loss.
    """
    cohort, _ = experiment.cohort.load()
    with _opened(experiment, "pretrain", configuration, cohort) as folder:
        pool = _pool(experiment, cohort, folder, progress)
        model = _pretrained(experiment, cohort, folder, progress, probe_of(experiment, cohort), pool)
        _write_history(folder, {"pretrain": model.history})
    return {"encoder": str(folder.path / "encoder"), "epochs": len(model.history), **_json_card(model)}


def run_finetune(experiment: Experiment, configuration: str, *, model: str | None = None, progress: bool = False) -> dict[str, Any]:
    """Fine-tune on the labelled subjects of the whole cohort, or on those with masks where it is told what to learn from them, and keep the model.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        model: Folder of a pre-trained model; pre-trains first (or takes up the run's own encoder) when left out. One of tables, timelines or
            events is made ready for the cohort's columns and codes, and what became of each is in `transfer.csv`.
        progress: Whether to show progress on stderr.

    Raises:
        InputError: If the cohort has no two classes, or the model is no model folder, of another atlas or of columns that do not fit; nothing is
            written.
    """
    cohort, _ = experiment.cohort.load()
    _task(experiment, cohort, "finetune")
    given, carried = (None, None) if model is None else _model_for(experiment, cohort, model)
    with _opened(experiment, "finetune", configuration, cohort) as folder:
        pool = None if given else _pool(experiment, cohort, folder, progress)
        start = given or _pretrained(experiment, cohort, folder, progress, probe_of(experiment, cohort), pool)
        if carried is not None:
            folder.write_text("transfer.csv", carried.columns.to_csv())
        tuned = _finetuned(experiment, start, cohort, folder, progress)
        _write_history(folder, {"pretrain": start.history, "finetune": tuned.history})
    told = {} if carried is None else {"transfer": str(carried)}
    return {"model": str(folder.path / "model"), **told, **_json_card(tuned)}


def run_evaluate(experiment: Experiment, configuration: str, *, progress: bool = False) -> dict[str, Any]:
    """Evaluate the methods and baselines, audit them, keep a model trained on everybody, explain it, and write the report.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        progress: Whether to show progress on stderr.

    Returns:
        Where results and report are.
    """
    cohort, truth = experiment.cohort.load()
    settings, left_out = _served(experiment, cohort)
    task = _task(experiment, cohort, settings.protocol)
    splits = make_splits(cohort, task, settings.protocol, settings.n_splits)
    details = {
        "seeds": list(settings.seeds),
        "task": {"target": task.target, "classes": list(task.classes)},
        "protocol": {"name": settings.protocol, "n_splits": len(splits), "splits_hash": joint_hash([s.hash for s in splits])},
        "left_out": left_out,
    }
    names = (*settings.methods, *settings.baselines, *((MEAN_MASK,) if task.masks else ()))
    methods = _methods(names, settings, experiment, cohort)
    check_stages_apart(experiment.chain, cohort)
    with _opened(experiment, "evaluate", configuration, cohort, details) as folder:
        folder.write_splits(splits)
        if experiment.chain:  # first, since stages with a cohort of their own are the same for all splits
            start = _pretrained(experiment, cohort, folder, progress)
            methods = _methods(names, settings, _taken_up(experiment, folder), cohort)
        pool = _pool(experiment, cohort, folder, progress)
        if pool is not None:
            methods = _methods(names, settings, experiment, cohort, pool)
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
            audited=settings.audited,
            scores=settings.scores,
            ensembles=settings.ensembles,
            folder=folder.path / "units",
            n_jobs=settings.n_jobs,
            progress=progress,
        )
        if not experiment.chain:
            start = _pretrained(experiment, cohort, folder, progress, of_pool=pool)
        tuned = _finetuned(experiment, start, cohort, folder, progress)
        _write_history(folder, {"pretrain": start.history, "finetune": tuned.history})
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


def embed(model: str | Path, cohort: str | Path, out: str | Path) -> pd.DataFrame:
    """Write the pooled vectors of a saved cohort, and predictions where the model has a head, as parquet or CSV.

    Where the model reads categories, the column `unknown_categories` names those columns in which a subject has one that no training subject had.
    Where patients have several kinds of data, `modalities` names those that each was embedded from.
    Where patients learn from one another, `neighbors` names the training patients most like each (a training patient is its own), the most alike
    first, and `unlikeness` is the share of training patients whose own neighbours are more like them.

    Args:
        model: Model folder.
        cohort: Cohort folder.
        out: File to write, ending in `.parquet` or `.csv`.

    Raises:
        DataError: If the ending is another one.
    """
    target = Path(out)
    if target.suffix not in (".parquet", ".csv"):
        raise DataError(f"Expected an output file ending in .parquet or .csv, found {target.name!r}.")
    loaded, subjects = Model.from_pretrained(model), Cohort.load(cohort)
    builder = loaded.builder
    found = builder.index_.query(subjects) if isinstance(builder, PopulationBuilder) else None
    batch = builder.transform(subjects, found) if isinstance(builder, PopulationBuilder) else loaded.batch_of(subjects)
    pooled, probability = loaded.answers(batch, subjects.ids)
    table = pooled_table(pooled, subjects)
    if probability is not None:
        columns = [f"probability_{name}" for name in loaded.classes]
        table = table.join(pd.DataFrame(probability, index=table.index, columns=columns))
    unknown = builder.unknown(subjects)
    if len(unknown.columns):
        table["unknown_categories"] = ["; ".join(unknown.columns[row]) for row in unknown.to_numpy(dtype=bool)]
    if found is not None:
        table["neighbors"], table["unlikeness"] = ["; ".join(row) for row in found.neighbor_ids], found.unlikeness
    if isinstance(batch, MultimodalBatch):
        table["modalities"] = ["; ".join(compress(batch.modalities, row)) for row in batch.presence.tolist()]
    table = table.rename_axis("subject_id").reset_index()
    with file_written_whole(target) as aside:
        if target.suffix == ".csv":
            table.to_csv(aside, index=False)
        else:
            table.to_parquet(aside, index=False)
    return table


def make_method(name: str, experiment: Experiment, cohort: Cohort | None = None, of_pool: PoolSelection | None = None) -> Method:
    """A method of ours or a baseline as an estimator.

    Args:
        name: Name of the method.
        experiment: The experiment.
        cohort: Its cohort, which an encoder of one atlas is made for; loaded where one is needed and none is given.
        of_pool: What is chosen of a pool for the training subjects of each split, to be pre-trained on as well.

    Raises:
        ConfigError: If edges are to be cut of an encoder that has none, or an encoder is of one atlas where there are several, or of other data.
    """
    if name == MEAN_MASK:
        return MeanMask(experiment.builder if isinstance(experiment.builder, ImageBuilder) else None)
    if experiment.segmentation is not None and name not in SEGMENTERS:
        raise ConfigError(f"Expected methods of segmentation among {', '.join(SEGMENTERS)}; found {name!r}.")
    if name in BASELINES:
        return make_baseline(name, _atlases(experiment), experiment.class_weight)
    if name == "pretrained_linear":
        return LabelledOnly(RidgeProbability(), preparation=ScanContrast(_atlases(experiment)))
    others = _comparison_encoders(experiment, cohort)
    if name in COMPARISONS and name not in others:
        raise ConfigError(
            f"Expected one of {', '.join(others) or 'the methods'} to compare with, found {name!r}, which reads other data. Leave it out."
        )
    encoder = others[name]() if name in others else experiment.encoder or GraphTransformer()
    method = ConnectomeClassifier(
        objective=None if name.startswith("scratch") else objective_of(experiment),
        encoder=_encoder_of(name, encoder),
        builder=experiment.builder,
        mode="probe" if name.endswith("_probe") else "full",
        pretraining=_silent(experiment.pretraining),
        finetuning=_silent(experiment.finetuning),
        class_weight=experiment.class_weight,
        stages=(experiment.taken_up if encoder is experiment.encoder else None) or experiment.chain,
        selection=of_pool,
    )
    if name in OF_MODALITIES or name.startswith(ONLY):
        return _of_modalities(name, method)
    if experiment.segmentation is not None:
        return Segmenter(method, experiment.segmentation)
    return NearestNeighborProbe(method) if name.endswith("_knn") else method


def _encoder_of(name: str, encoder: AbstractEncoder) -> AbstractEncoder:
    """The encoder as a method has it: `no_edges` without edges, from random weights without any that it would start from."""
    if name.startswith("scratch") and isinstance(encoder.reader, MultimodalEncoder):
        alone = MultimodalEncoder(**{**encoder.reader.arguments(), "initial": None, "frozen": ()})
        return alone if encoder is encoder.reader else type(encoder)(**{**encoder.arguments(), "patient": alone})
    if name != "no_edges":
        return encoder
    if "edges" not in encoder.arguments():
        raise ConfigError(f"Expected an encoder with edges to cut for the method 'no_edges', found {type(encoder).__name__}. Leave the method out.")
    return type(encoder)(**{**encoder.arguments(), "edges": False})


def _of_modalities(name: str, classifier: ConnectomeClassifier) -> Method:
    """What fusion is compared with; `ConfigError` where there are no several modalities."""
    builder = parts_of(classifier)[1]
    if not name.startswith(ONLY):
        return LateAverage(classifier) if name == "late_average" else EmbeddingBoosting(classifier)
    modality = name.removeprefix(ONLY)
    if modality not in builder.builders:
        raise ConfigError(f"Expected methods of one modality among {', '.join(ONLY + each for each in builder.builders)}; found {name!r}.")
    return ModalityClassifier(classifier, modality)


def _with_missing(experiment: Experiment, methods: dict[str, Any]) -> dict[str, Any]:
    """Our methods, those of one modality aside, with modalities missing at test, each fitted once; under its own name nothing is missing."""
    missing, builder = experiment.evaluation.missing, experiment.builder
    if not missing:
        return {}
    if not isinstance(builder, MultimodalBuilder) or set(missing) - set(builder.builders):
        found = ", ".join(builder.builders) if isinstance(builder, MultimodalBuilder) else "data of one kind"
        raise ConfigError(f"Expected missing to name modalities of the experiment ({found}), found {', '.join(missing)}.")
    ours = {name: methods[name] for name in experiment.evaluation.methods if not name.startswith(ONLY)}
    first = next(iter(missing))
    swept = {name: MissingAtTest(method, builder, first, 0.0) for name, method in ours.items()}
    for modality, shares in missing.items():
        for share in shares:
            swept |= {missing_name(name, modality, share): MissingAtTest(method, builder, modality, share) for name, method in ours.items()}
    return swept


def make_tuned(name: str, experiment: Experiment, cohort: Cohort | None = None, of_pool: PoolSelection | None = None) -> Tuned:
    """A method or baseline whose settings are chosen on inner folds, which hold out what the protocol holds out."""
    settings = experiment.evaluation
    inner: InnerUnit = "site" if settings.protocol == "leave_one_site_out" else "subject"
    return Tuned(make_method(name, experiment, cohort, of_pool), settings.tuned[name], n_inner=settings.n_inner, inner=inner)


def objective_of(experiment: Experiment) -> AbstractObjective:
    """The objective of an experiment; masked regions, or masked columns of a table, when it names none."""
    return experiment.objective or default_objective(experiment.encoder or GraphTransformer())


def _served(experiment: Experiment, cohort: Cohort) -> tuple[EvaluationSettings, dict[str, str]]:
    """The settings without a baseline that the cohort has nothing for, and why it was left out."""
    settings = experiment.evaluation
    if experiment.segmentation is not None:
        why = "it is of classes of subjects, not of masks"
        without = replace(settings, baselines=(), audited=(), tuned={}, scores=(), ensembles={})
        return without, dict.fromkeys((*settings.baselines, *settings.tuned, *settings.scores, *settings.ensembles), why)
    if "covariates" not in settings.baselines or any(cohort.schema.named("covariate")):
        return settings, {}
    baselines, audited = (tuple(name for name in names if name != "covariates") for names in (settings.baselines, settings.audited))
    ensembles = {name: members for name, members in settings.ensembles.items() if "covariates" not in members}
    return replace(settings, baselines=baselines, audited=audited, ensembles=ensembles), {
        "covariates": "no column of the table has the role 'covariate'"
    }


def _task(experiment: Experiment, cohort: Cohort, protocol: str) -> Task:
    if experiment.segmentation is None:
        return make_task(cohort, experiment.target, experiment.classes, protocol)
    return make_mask_task(cohort, protocol, experiment.builder.images if isinstance(experiment.builder, ImageBuilder) else None)


def _opened(
    experiment: Experiment, verb: str, configuration: str, cohort: Cohort, details: dict[str, Any] | None = None
) -> AbstractContextManager[RunFolder]:
    folder = RunFolder(Path(experiment.output) / experiment.name, verb, configuration)
    return folder.opened(cohort, details or {"seeds": [experiment.seed]})


def _model_for(experiment: Experiment, cohort: Cohort, folder: str) -> tuple[Model, Transfer | None]:
    """A saved model, in an atlas of the cohort, or carried over to its columns or images."""
    model = Model.from_pretrained(folder)
    if isinstance(experiment.builder, MultimodalBuilder):
        _check_modalities(experiment.builder, model, folder)
    if isinstance(model.builder, (ColumnTokenizer, AbstractStreamTokenizer)):
        told = experiment.builder.get_params() if type(experiment.builder) is type(model.builder) else {}
        named = {name: told[name] for name in ("columns", "codes", "treatments") if name in told}
        carried = transfer(model, cohort, **named, seed=experiment.seed)
        return carried.model, carried
    if isinstance(model.builder, ImageBuilder) and isinstance(experiment.builder, ImageBuilder):
        encoder = experiment.encoder if isinstance(experiment.encoder, AbstractImageEncoder) else None
        return transfer_images(model, cohort, builder=experiment.builder, encoder=encoder, seed=experiment.seed), None
    if not isinstance(model.builder, ConnectomeBuilder):
        return model, None  # columns are checked where they are read
    for name, atlas in model.connectomes.atlases_.items():
        if name in cohort.regions:
            check_atlas(atlas, cohort.atlas(name))
    if not set(model.connectomes.atlases_) & set(cohort.regions):
        raise AtlasError(
            f"Expected data in an atlas of the model in {folder} ({', '.join(model.connectomes.atlases_)}), found {cohort.name!r} with "
            f"{', '.join(cohort.regions) or 'none'}. Use a model of that atlas, or convert the data."
        )
    return model, None


def _check_modalities(builder: MultimodalBuilder, model: Model, folder: str) -> None:
    """Check that a model was trained on every modality that a configuration names."""
    if not isinstance(model.builder, MultimodalBuilder):
        raise ConfigError(
            f"Expected a model of {', '.join(builder.builders)} in {folder}, found one of {', '.join(model.builder.describe())} alone. "
            f"Start a modality from it instead: encoder.init_args.initial."
        )
    new = [name for name in builder.builders if name not in model.builder.builders_]
    if new:
        raise ConfigError(
            f"Expected the modalities of the model in {folder} ({', '.join(model.builder.builders_)}), found {new[0]} too, "
            "which it was not trained on. Leave it out, or pre-train with it."
        )


def probe_of(experiment: Experiment, cohort: Cohort) -> Probe | None:
    """The probe of the stages on the subjects who are not for testing in a published split; None where there is one training, or no target."""
    if not experiment.chain or (experiment.target is None and not cohort.schema.named("target")):
        return None
    parts = cohort.schema.named("split")
    known = cohort if not parts else cohort.select(published(cohort.ids, cohort.subjects[parts[0]].tolist(), name=parts[0]).train)
    return Probe(known, experiment.target, None if experiment.classes is None else tuple(experiment.classes))


def check_stages_apart(stages: Sequence[Stage], cohort: Cohort) -> None:
    """Check that no subject who is to be tested was pre-trained on: neither by name nor by an image of the same content.

    Raises:
        LeakageError: If a stage with a cohort of its own holds one; names them.
    """
    for stage in stages:
        shared = [] if stage.cohort is None else _shared(stage.cohort, cohort)
        if shared:
            raise LeakageError(
                f"Expected none of the subjects that are evaluated in stage {stage.name!r}, found {len(shared)}: {', '.join(shared[:5])}. "
                "Leave the cohort out of the stage, which then takes the training subjects of each split, or leave these subjects out of it."
            )


def _shared(of_stage: Cohort, cohort: Cohort) -> list[str]:
    """Subjects of a cohort who are in another of the same name, or whose images are."""
    found = set(cohort.ids) & set(of_stage.ids) if cohort.name == of_stage.name else set()
    seen = {content for data in of_stage.images.values() for content, _ in _contents(data)}
    return sorted(found | {subject for data in cohort.images.values() for content, subject in _contents(data) if content in seen})


def _contents(data: ImageData) -> list[tuple[tuple[str, str], str]]:
    """What each image is known by, its file's content and its part of it, and whose it is."""
    columns = (data.table[name].astype(str) for name in ("hash", "part", "subject_id"))
    return [((content, part), subject) for content, part, subject in zip(*columns, strict=True)]


def _methods(
    names: Sequence[str], settings: EvaluationSettings, experiment: Experiment, cohort: Cohort, of_pool: PoolSelection | None = None
) -> dict[str, Any]:
    """Methods and baselines by name, those that are tuned, and those that meet patients who lack something."""
    made: dict[str, Any] = {name: make_method(name, experiment, cohort, of_pool) for name in names}
    made |= {f"{name}_tuned": make_tuned(name, experiment, cohort, of_pool) for name in settings.tuned}
    return made | _with_missing(experiment, made)


def _taken_up(experiment: Experiment, folder: RunFolder) -> Experiment:
    """The experiment whose chain begins where the stages with cohorts of their own ended, which the run folder holds."""
    own = list(takewhile(lambda stage: stage.cohort is not None, experiment.chain))
    rest = list(experiment.chain[len(own) :])
    if not own or not rest or rest[0].initialisation != "previous":
        return experiment
    there = copy.copy(experiment)
    there.taken_up = (replace(rest[0], initialisation=str(folder.path / "stages" / f"{len(own)}-{own[-1].name}")), *rest[1:])
    return there


def _pool(experiment: Experiment, cohort: Cohort, folder: RunFolder, progress: bool) -> PoolSelection | None:
    return prepared_pool(experiment, objective_of(experiment), cohort, folder.path, progress=progress)


def _pretrained(
    experiment: Experiment,
    cohort: Cohort,
    folder: RunFolder,
    progress: bool,
    probe: Probe | None = None,
    of_pool: PoolSelection | None = None,
) -> Model:
    if experiment.chain:
        model = _pretrained_in_stages(experiment, cohort, folder, progress, probe)
    else:
        model = pretrain(
            with_chosen(experiment, of_pool, cohort, folder),
            objective=objective_of(experiment),
            encoder=experiment.encoder,
            builder=experiment.builder,
            settings=replace(experiment.pretraining, progress=progress),
            seed=experiment.seed,
            folder=folder.path / "checkpoints" / "pretrain",
        )
    model.save_pretrained(folder.path / "encoder")
    if model.target_encoder is not None:
        model.with_target_encoder().save_pretrained(folder.path / "target_encoder")
    return model


def _pretrained_in_stages(experiment: Experiment, cohort: Cohort, folder: RunFolder, progress: bool, probe: Probe | None) -> Model:
    chain = pretrain_stages(
        experiment.chain,
        cohort,
        objective=experiment.objective,
        encoder=experiment.encoder,
        builder=experiment.builder,
        settings=replace(experiment.pretraining, progress=progress),
        probe=probe,
        seed=experiment.seed,
        folder=folder.path / "stages",
    )
    folder.write_json("manifest.json", {**read_manifest(folder.path), "stages": chain.model.card["stages"]})
    return replace(chain.model, history=chain.history)


def _finetuned(experiment: Experiment, start: Model, cohort: Cohort, folder: RunFolder, progress: bool) -> Model:
    if experiment.segmentation is not None:
        segmented = finetune_segmentation(
            start,
            cohort,
            segmentation=experiment.segmentation,
            settings=replace(experiment.finetuning, progress=progress),
            seed=experiment.seed,
            folder=folder.path / "checkpoints" / "finetune",
        )
        segmented.save_pretrained(folder.path / "model")
        return segmented
    tuned = finetune(
        start,
        cohort,
        target=experiment.target,
        classes=experiment.classes,
        class_weight=experiment.class_weight,
        settings=replace(experiment.finetuning, progress=progress),
        seed=experiment.seed,
        folder=folder.path / "checkpoints" / "finetune",
    )
    tuned.save_pretrained(folder.path / "model")
    return tuned


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
        features["connectivity"] = leading_components(cohort, _atlases(experiment) or list(cohort.regions))
    return site_probe(features, sites.tolist(), cohort=cohort.name, seed=experiment.seed)


def _write_history(folder: RunFolder, stages: dict[str, pd.DataFrame]) -> None:
    named = {stage: f"{stage} " + history["stage"] if "stage" in history else stage for stage, history in stages.items()}
    tables = [history.assign(stage=named[stage], split="all", seed=0) for stage, history in stages.items() if len(history)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    first = ["stage", "split", "seed", "epoch"]
    folder.write_text("history.csv", table[[*first, *[c for c in table.columns if c not in first]]].to_csv(index=False))


def _comparison_encoders(experiment: Experiment, cohort: Cohort | None) -> dict[str, Callable[[], AbstractEncoder]]:
    """What reads the same data in other ways, by name of the method; of patients in a population at the size of the experiment's encoder."""
    encoder = experiment.encoder
    if isinstance(encoder, AbstractImageEncoder | MultimodalEncoder):
        return {}
    if isinstance(encoder, AbstractPopulationEncoder):
        sizes = {name: value for name, value in encoder.arguments().items() if name in ("width", "depth", "heads", "patient", "dropout")}
        layers: dict[str, Layer] = {"gcn": "gcn", "gat": "gat", "gin": "gin", "sage": "sage", "mlp": "none"}
        return {name: partial(PopulationGNN, **sizes, layer=layer) for name, layer in layers.items()}
    return {
        "gcn": GCN,
        "gat": GAT,
        "gin": GIN,
        "brain_network_transformer": partial(_brain_network_transformer, experiment, cohort),
        "mlp": MLP,
    }


def _brain_network_transformer(experiment: Experiment, cohort: Cohort | None) -> BrainNetworkTransformer:
    cohort = cohort or experiment.cohort.load()[0]  # only the data tell how many regions their atlas has
    atlases = _atlases(experiment) or list(cohort.regions)
    if len(atlases) != 1:
        raise ConfigError(
            f"Expected one atlas for the method 'brain_network_transformer', which knows regions by row, found {', '.join(atlases) or 'none'}. "
            "Name one in builder.atlases, or leave the method out."
        )
    return BrainNetworkTransformer(atlases[0], len(cohort.atlas(atlases[0])))


def _atlases(experiment: Experiment) -> list[str] | None:
    chosen = experiment.builder.atlases if isinstance(experiment.builder, ConnectomeBuilder) else None
    return None if chosen is None else list(chosen)


def _silent(settings: TrainingSettings) -> TrainingSettings:
    return replace(settings, progress=False)


def _json_card(model: Model) -> dict[str, Any]:
    return {key.replace(" ", "_").replace("-", "_"): value for key, value in model.card.items()}
