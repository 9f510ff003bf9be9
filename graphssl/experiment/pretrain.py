"""What `graphssl pretrain` does: train an encoder on a whole cohort without its labels, in one stage or several."""

from dataclasses import replace
from typing import Any

from graphssl.data.cohort import Cohort
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.experiment.config import Experiment
from graphssl.experiment.methods import objective_of
from graphssl.experiment.runs import RunFolder, read_manifest
from graphssl.experiment.selection import prepared_pool, with_chosen
from graphssl.experiment.stages import probe_of
from graphssl.training.launch import check_alone, joined
from graphssl.training.model import Model
from graphssl.training.pretrain import pretrain
from graphssl.training.probe import Probe
from graphssl.training.selection import PoolSelection
from graphssl.training.stages import pretrain_stages


def run_pretrain(experiment: Experiment, configuration: str, *, progress: bool = False) -> dict[str, Any]:
    """Pre-train on the whole cohort and keep the encoder; goes on where a killed run stopped.

    Args:
        experiment: The experiment.
        configuration: Its resolved configuration.
        progress: Whether to show progress on stderr.

    Returns:
        Where the encoder is, the epoch that was kept and its validation loss; nothing in those processes of torchrun or SLURM that do not write.
    """
    # Stages and pools need the cohort in memory, and say so where it is to be streamed.
    cohort = experiment.cohort.open() if not experiment.chain and experiment.selection is None else experiment.cohort.load()[0]
    with shared_folder(experiment, "pretrain", configuration).opened(cohort, {"seeds": [experiment.seed]}) as folder:
        if isinstance(cohort, StreamedCohort):
            model = pretrained(experiment, cohort, folder, progress)
        else:
            pool = prepared_pool(experiment, cohort, folder.path, progress=progress)
            model = pretrained(experiment, cohort, folder, progress, probe_of(experiment, cohort), pool)
        folder.write_history({"pretrain": model.history})
    if not folder.writes:
        return {}
    return {"encoder": str(folder.path / "encoder"), "epochs": len(model.history), **json_card(model)}


def pretrained(
    experiment: Experiment,
    cohort: Cohort | StreamedCohort,
    folder: RunFolder,
    progress: bool,
    probe: Probe | None = None,
    of_pool: PoolSelection | None = None,
) -> Model:
    """The model of an experiment, pre-trained on its whole cohort and whom the pool adds, and saved in the run folder."""
    if experiment.chain and isinstance(cohort, Cohort):
        model = _pretrained_in_stages(experiment, cohort, folder, progress, probe)
    else:
        model = pretrain(
            cohort if isinstance(cohort, StreamedCohort) else with_chosen(experiment, of_pool, cohort, folder),
            objective=objective_of(experiment),
            encoder=experiment.encoder,
            builder=experiment.builder,
            settings=replace(experiment.pretraining, progress=progress),
            seed=experiment.seed,
            folder=folder.path / "checkpoints" / "pretrain",
        )
    if experiment.cohort.licence is not None:
        model = replace(model, card={**model.card, "licence of the data": experiment.cohort.licence})
    if not folder.writes:
        return model
    model.save_pretrained(folder.path / "encoder")
    if model.target_encoder is not None:
        model.with_target_encoder().save_pretrained(folder.path / "target_encoder")
    return model


def shared_folder(experiment: Experiment, verb: str, configuration: str) -> RunFolder:
    """The run folder of a verb that the processes of torchrun or SLURM do together; the first of them writes into it.

    Raises:
        ConfigError: If there are several and subjects are to be chosen of a pool, or there are fewer GPUs than processes.
        RunFolderError: If the folder holds another run, or files that are no run.
    """
    if experiment.selection is not None:
        check_alone(f"`graphssl {verb}` with a selection of a pool")
    return RunFolder(experiment.folder, verb, configuration, writes=joined(experiment.pretraining.accelerator).writes)


def json_card(model: Model) -> dict[str, Any]:
    """What the card of a model tells, under names that JSON users expect."""
    return {key.replace(" ", "_").replace("-", "_"): value for key, value in model.card.items()}


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
