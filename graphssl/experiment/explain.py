"""What `graphssl explain` does: explain the model of a run or a saved one, and see how stable the explanation is."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.data.cohort import Cohort
from graphssl.errors import RunFolderError
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.refits import refit_saliencies
from graphssl.evaluation.task import make_task
from graphssl.experiment.config import Experiment, read_experiment
from graphssl.experiment.explanation import write_explanation
from graphssl.experiment.methods import make_method
from graphssl.experiment.runs import held, read_manifest
from graphssl.experiment.selection import prepared_pool
from graphssl.reports import write_report
from graphssl.seal import files_of, seal
from graphssl.training.model import Model


def explain_run(run: str | os.PathLike[str], *, atlas: str | None = None, refits: int | None = None) -> dict[str, Any]:
    """Explain the fine-tuned model of a run, and see how stable that is under refits on its folds and seeds; writes the report anew.

    Args:
        run: Run folder with `config.yaml` and `model/`.
        atlas: Atlas to explain; the model's first when left out.
        refits: Refits at most; one a fold and seed when left out, none with 0.

    Returns:
        Where the explanation is, its sentences and its checks.

    Raises:
        RunFolderError: If the folder holds no run with a model, or its data are no longer the same.
    """
    folder = Path(run)
    manifest = read_manifest(folder)
    if not (folder / "model").is_dir():
        raise RunFolderError(f"Expected a fine-tuned model at {folder / 'model'}, found none. Run graphssl finetune or evaluate first.")
    experiment, _ = read_experiment(["--config", str(folder / "config.yaml")])
    cohort, truth = experiment.cohort.load()
    if cohort.hash != manifest["cohort"]["hash"]:
        raise RunFolderError(
            f"Expected the data of the run in {folder} (cohort hash {manifest['cohort']['hash']}), found others (hash {cohort.hash}). "
            "A smoke run or changed files cannot be explained: run it again."
        )
    model = Model.from_pretrained(folder / "model")
    with held(folder):
        before = set(files_of(folder))
        maps = _refitted(experiment, cohort, folder, atlas, refits)
        found = write_explanation(folder / "explain", model, cohort, atlas=atlas, truth=truth, maps=maps)
        seal(folder, ["explain", *sorted(set(files_of(folder)) - before)])
        return {**found, **({"report": str(write_report(folder))} if (folder / "results.jsonl").is_file() else {})}


def explain_model(
    model: str | os.PathLike[str], cohort: str | os.PathLike[str], out: str | os.PathLike[str], *, atlas: str | None = None
) -> dict[str, Any]:
    """Explain a saved model on a saved cohort. Without its configuration the model cannot be fitted again, so stability is not known.

    Args:
        model: Model folder.
        cohort: Cohort folder.
        out: Folder to write.
        atlas: Atlas to explain; the model's first when left out.

    Returns:
        Where the explanation is, its sentences and its checks.
    """
    return write_explanation(Path(out), Model.from_pretrained(model), Cohort.load(cohort), atlas=atlas)


def _refitted(experiment: Experiment, cohort: Cohort, folder: Path, atlas: str | None, refits: int | None) -> npt.NDArray[np.float32] | None:
    settings = experiment.evaluation
    task = make_task(cohort, experiment.target, experiment.classes, settings.protocol)
    splits = make_splits(cohort, task, settings.protocol, settings.n_splits)
    units = [(split, seed) for seed in settings.seeds for split in splits][:refits]
    if len(units) < 2:
        return None
    of_pool = prepared_pool(experiment, cohort, folder)
    method = make_method("pretrained", experiment, cohort, of_pool)
    assert isinstance(method, ConnectomeClassifier)
    return refit_saliencies(cohort, method, task, units, atlas=atlas, folder=folder / "units", n_jobs=settings.n_jobs)
