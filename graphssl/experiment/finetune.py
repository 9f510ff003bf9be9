"""What `graphssl finetune` does: give an encoder a head for a target, or for masks."""

from dataclasses import replace
from typing import Any

from graphssl.data.atlas import check_atlas
from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders import (
    AbstractImageEncoder,
)
from graphssl.errors import AtlasError, ConfigError
from graphssl.evaluation.task import Task, make_mask_task, make_task
from graphssl.experiment.config import Experiment
from graphssl.experiment.pretrain import json_card, pretrained, shared_folder
from graphssl.experiment.runs import RunFolder
from graphssl.experiment.selection import prepared_pool
from graphssl.experiment.stages import probe_of
from graphssl.graphs import ConnectomeBuilder
from graphssl.training.finetune import finetune
from graphssl.training.model import Model
from graphssl.training.segment import finetune_segmentation
from graphssl.training.transfer import Transfer, transfer
from graphssl.training.transfer_images import transfer_images


def run_finetune(experiment: Experiment, configuration: str, *, model: str | None = None, progress: bool = False) -> dict[str, Any]:
    """Fine-tune on the labelled subjects of the whole cohort, or on those with masks where it is told what to learn from them, and keep the model.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        model: Folder of a pre-trained model; pre-trains first (or takes up the run's own encoder) when left out. One of tables, timelines or
            events is made ready for the cohort's columns and codes, and what became of each is in `transfer.csv`.
        progress: Whether to show progress on stderr.

    Returns:
        Where the model is and what its card says; nothing in those processes of torchrun or SLURM that do not write.

    Raises:
        InputError: If the cohort has no two classes, or the model is no model folder, of another atlas or of columns that do not fit; nothing is
            written.
    """
    cohort, _ = experiment.cohort.load()
    task_of(experiment, cohort, "finetune")
    given, carried = (None, None) if model is None else _model_for(experiment, cohort, model)
    with shared_folder(experiment, "finetune", configuration).opened(cohort, {"seeds": [experiment.seed]}) as folder:
        pool = None if given else prepared_pool(experiment, cohort, folder.path, progress=progress)
        start = given or pretrained(experiment, cohort, folder, progress, probe_of(experiment, cohort), pool)
        if carried is not None:
            folder.write_text("transfer.csv", carried.columns.to_csv())
        tuned = finetuned(experiment, start, cohort, folder, progress)
        folder.write_history({"pretrain": start.history, "finetune": tuned.history})
    if not folder.writes:
        return {}
    told = {} if carried is None else {"transfer": str(carried)}
    return {"model": str(folder.path / "model"), **told, **json_card(tuned)}


def finetuned(experiment: Experiment, start: Model, cohort: Cohort, folder: RunFolder, progress: bool) -> Model:
    """A pre-trained model fine-tuned on the whole cohort, and saved in the run folder."""
    alike: dict[str, Any] = {
        "settings": replace(experiment.finetuning, progress=progress),
        "seed": experiment.seed,
        "folder": folder.path / "checkpoints" / "finetune",
    }
    if experiment.segmentation is not None:
        tuned = finetune_segmentation(start, cohort, segmentation=experiment.segmentation, **alike)
    else:
        tuned = finetune(start, cohort, target=experiment.target, classes=experiment.classes, class_weight=experiment.class_weight, **alike)
    if folder.writes:
        tuned.save_pretrained(folder.path / "model")
    return tuned


def task_of(experiment: Experiment, cohort: Cohort, protocol: str) -> Task:
    """What is to be learned of a cohort: classes of its subjects, or masks of its images."""
    if experiment.segmentation is None:
        return make_task(cohort, experiment.target, experiment.classes, protocol)
    return make_mask_task(cohort, protocol, experiment.builder.images if isinstance(experiment.builder, ImageBuilder) else None)


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
