"""What the tests of sources and verbs share: a small cohort, its atlas and both as files; quick experiments and their run folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl.atlases import load_atlas
from graphssl.cli import main
from graphssl.data import Cohort, Schema
from graphssl.datasets import simulate
from graphssl.encoders import GraphTransformer
from graphssl.experiment.audit import audit_run
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import Experiment
from graphssl.experiment.evaluate import run_evaluate
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.pretrain import run_pretrain
from graphssl.objectives import MaskedRegions
from graphssl.training import TrainingSettings


@pytest.fixture(scope="session")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    """Eight subjects of thirty time points in twelve regions."""
    return make_cohort(n_subjects=8, n_regions=12, n_timepoints=30)


@pytest.fixture
def atlas_file(tmp_path: Path, cohort: Cohort) -> str:
    """The atlas of that cohort as a table, in the words of an option: `NAME=FILE`."""
    atlas = cohort.atlas("toy")
    table = pd.DataFrame({"label": atlas.labels, "name": atlas.names, "network": atlas.networks})
    table[["x", "y", "z"]] = atlas.centroids
    table.to_csv(tmp_path / "toy.csv", index=False)
    return f"toy={tmp_path / 'toy.csv'}"


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    """Writes a cohort as a folder of arrays with its table: `write_folder(folder, cohort, matrices=False, ids=None)`."""

    def write(folder: Path, cohort: Cohort, matrices: bool = False, ids: Any = None) -> Path:
        folder.mkdir()
        for subject in ids or cohort.ids:
            series = cohort.regions["toy"].values[subject]
            np.save(folder / f"{subject}.npy", np.corrcoef(series.T.astype(float)) if matrices else series)
        cohort.subjects.rename_axis("participant_id").to_csv(folder / "participants.tsv", sep="\t")
        return folder

    return write


AFFINE = np.array([[10.0, 0, 0, -55], [0, 10, 0, -80], [0, 0, 10, -30], [0, 0, 0, 1]])
SHAPE = (12, 14, 10)


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, np.ndarray]:
    """Labels of two parcellations of one box, whose files `coarse.nii.gz` and `fine.nii.gz` are in the folder of the test.

    Coarse has 12 regions and leaves out what is region 10 of the 32 of fine.
    """
    fine, coarse = blocks((3, 4, 5)), blocks((4, 7, 5))
    coarse[fine == 10] = 0
    for name, values in (("coarse", coarse), ("fine", fine)):
        save_volume(tmp_path / f"{name}.nii.gz", values)
    return {"coarse": coarse, "fine": fine}


@pytest.fixture(scope="session")
def write_volume() -> Callable[..., Path]:
    """Writes labels as a NIfTI file: `write_volume(path, values, affine=…)`."""
    return save_volume


def blocks(size: tuple[int, int, int]) -> np.ndarray:
    """A box cut into blocks of voxels, labelled 10, 20, …: gaps are the rule in the field."""
    places = np.stack(np.meshgrid(*[np.arange(n) // step for n, step in zip(SHAPE, size, strict=True)], indexing="ij"))
    n_blocks = [-(-n // step) for n, step in zip(SHAPE, size, strict=True)]
    return 10 * (np.ravel_multi_index(tuple(places), n_blocks) + 1)


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), path)
    return path


# Experiments of verbs


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a configuration, of 24 simulated subjects where it names no cohort: `write(name="study", …)` gives the path."""
    simulated = {"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2}}

    def written(**settings: Any) -> str:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"name": "study", "cohort": simulated, **settings}), encoding="utf-8")
        return str(path)

    return written


@pytest.fixture(scope="session")
def experiment_in() -> Callable[..., Experiment]:
    """Factory of quick experiments on 24 simulated subjects of two sites: `experiment_in(output, name="study", **changes)`."""
    quick = TrainingSettings(max_epochs=2, batch_size=16, accelerator="cpu")

    def made(output: Path | str, name: str = "study", **changes: Any) -> Experiment:
        settings: dict[str, Any] = {
            "cohort": CohortSource("simulate", {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2, "effect": 0.8}),
            "encoder": GraphTransformer(16, 1, 2),
            "objective": MaskedRegions(rank=4),
            "pretraining": quick,
            "finetuning": quick,
            "evaluation": EvaluationSettings(
                methods=("pretrained_probe", "scratch_probe"),
                baselines=("logistic_correlation", "majority"),
                audited=("logistic_correlation",),
                seeds=(0,),
            ),
            "output": str(output),
        }
        return Experiment(name, **{**settings, **changes})

    return made


@pytest.fixture(scope="session")
def text_of() -> Callable[..., str]:
    """What stands for the resolved configuration of an experiment: `text_of(experiment)`."""
    return lambda experiment: str(yaml.safe_dump({"name": experiment.name, "seed": experiment.seed}))


@pytest.fixture
def from_saved(tmp_path: Path) -> Callable[[Cohort], CohortSource]:
    """Saves a cohort and gives the source that reads it: `from_saved(cohort)`."""
    return lambda cohort: CohortSource(path=str(cohort.save(tmp_path / "saved")))


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory, experiment_in: Callable[..., Experiment], text_of: Callable[..., str]) -> tuple[Path, Any]:
    """A finished evaluation: folder and what the verb returned."""
    experiment = experiment_in(tmp_path_factory.mktemp("evaluated"))
    return experiment.folder, run_evaluate(experiment, text_of(experiment))


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, experiment_in: Callable[..., Experiment], text_of: Callable[..., str]) -> tuple[Path, Any]:
    """A finished pre-training: folder and what the verb returned."""
    experiment = experiment_in(tmp_path_factory.mktemp("pretrained"))
    return experiment.folder, run_pretrain(experiment, text_of(experiment))


@pytest.fixture(scope="session")
def files_in() -> Callable[[Path], set[str]]:
    """Names of all files below a folder: `files_in(folder)`."""
    return lambda folder: {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def table_cohort() -> Callable[..., Cohort]:
    """Two hospitals whose patients' hidden severity drives three columns, one with gaps, and the outcome: `table_cohort(n=160)`."""

    def made(n: int = 160) -> Cohort:
        rng = np.random.default_rng(0)
        severity = rng.standard_normal(n)
        columns = {
            "lactate": np.where(rng.random(n) < 0.2, np.nan, severity + 0.3 * rng.standard_normal(n)),
            "pulse": 80.25 + 10 * severity,
            "ward": np.where(severity > 0.2, "icu", "floor"),
            "hospital": np.where(np.arange(n) % 2, "A", "B"),
            "died": np.where(severity + 0.3 * rng.standard_normal(n) > 0, "yes", "no"),
        }
        table = pd.DataFrame(columns, index=[f"p{k:03d}" for k in range(n)])
        return Cohort("wards", table, Schema.infer(table, roles={"died": "target", "hospital": "site"}))

    return made


# Audits


EVALUATED = {
    "name": "run",
    "target": "diagnosis",
    "encoder": {"class_path": "graphssl.encoders.MLP", "init_args": {"width": 8}},
    "objective": {"class_path": "graphssl.objectives.MaskedRegions"},
    "pretraining": {"max_epochs": 1, "accelerator": "cpu"},
    "finetuning": {"max_epochs": 1, "accelerator": "cpu"},
    "evaluation": {"methods": ["scratch_probe"], "baselines": ["logistic_correlation", "covariates"], "audited": ["covariates"], "seeds": [0]},
}


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a saved cohort in which pairs of subjects are families, and the cohort."""
    place = tmp_path_factory.mktemp("audit")
    cohort = simulate(atlases=[load_atlas("simulated20")], n_subjects=40, sites=2, seed=1).cohort
    cohort.save(place / "cohort")
    text = yaml.safe_dump({**EVALUATED, "cohort": {"path": str(place / "cohort")}, "output": str(place)})
    (place / "run.yaml").write_text(text)
    assert main(["evaluate", "--config", str(place / "run.yaml"), "--quiet"]) == 0
    return place / "run"


@pytest.fixture
def copy(honest: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(honest, tmp_path / "run"))


@pytest.fixture(scope="session")
def findings() -> Callable[..., dict[str, str]]:
    """What an audit finds, by what it is about: `findings(run, **options)`."""
    return lambda run, **options: {check.about: check.found for check in audit_run(run, **options) if check.status == "finding"}


@pytest.fixture(scope="session")
def edit() -> Callable[..., None]:
    """Changes a file of a run: `edit(path, change)`, where `change` gives back other lines or another table, or changes the record it is given."""

    def edited(path: Path, change: Callable[[Any], Any]) -> None:
        if path.suffix == ".parquet":
            change(pd.read_parquet(path)).to_parquet(path, index=False)
        elif path.suffix == ".jsonl":
            records = change([json.loads(line) for line in path.read_text().splitlines()])
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        else:
            record = json.loads(path.read_text())
            change(record)
            path.write_text(json.dumps(record))

    return edited
