"""Every configuration that is shipped runs one step through the real command."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl import objectives
from graphssl.cli import main

FOLDER = Path(__file__).resolve().parents[1] / "configs"
META = sorted(FOLDER.rglob("*_meta.yaml"))
STUDIES = sorted((FOLDER / "studies").glob("*.yaml"))
CONFIGURATIONS = sorted(set(FOLDER.rglob("*.yaml")) - set(META) - set(STUDIES))
# The part of each study that runs every time; all parts run where slow tests do.
SMALL = {"four_questions": ["masks"], "scale": ["tables"], "convergence": ["connectomes"], "pathology": ["tiles"], "families": ["simulated"]}

SIMULATED = ("simulate", "simulate_images", "simulate_modalities", "simulate_multimodal")  # whose cohorts are made smaller


def named(path):
    return str(path.relative_to(FOLDER))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=named)
def test_a_configuration_pre_trains_for_one_step(path, tmp_path, monkeypatch, capsys):
    """Where its data are not at hand a simulated cohort stands in for them."""
    monkeypatch.chdir(tmp_path)
    simulated = yaml.safe_load(path.read_text(encoding="utf-8"))["cohort"]["adapter"] in SIMULATED
    fewer = ["--cohort.arguments.n_subjects", "24"] if simulated else []
    assert main(["pretrain", "--config", str(path), "--smoke", "--quiet", "--json", *fewer]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["epochs"] == max(1, len(yaml.safe_load(path.read_text(encoding="utf-8")).get("stages", [])))
    assert (tmp_path / record["encoder"] / "model.safetensors").is_file()
    has_teacher = any(f"objectives.{name}\n" in path.read_text(encoding="utf-8") for name in ("BYOL", "DINO", "MoCo", "SliceVolumeDistillation"))
    assert (tmp_path / record["encoder"]).with_name("target_encoder").is_dir() == has_teacher


def test_encoders_that_make_trains_say_what_the_licence_of_their_data_asks():
    paths = re.findall(r"pretrain --config (\S+)", (FOLDER.parent / "Makefile").read_text(encoding="utf-8"))
    assert len(paths) == 4
    assert all(yaml.safe_load((FOLDER.parent / path).read_text(encoding="utf-8"))["cohort"]["licence"] for path in paths)


@pytest.mark.parametrize("path", META, ids=named)
def test_a_configuration_of_meta_learning_runs_one_step(path, tmp_path, monkeypatch, capsys):
    """Of every strategy, with adaptation, similarities and report."""
    monkeypatch.chdir(tmp_path)
    wanted = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert main(["meta-train", "--config", str(path), "--smoke", "--quiet", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["auroc"]) == {wanted["strategy"], *wanted["compare"]}
    assert (tmp_path / record["report"]).is_file()
    assert (tmp_path / record["encoder"] / "model.safetensors").is_file()


def run_study(path, only, capsys):
    """A few steps of every level, the first levels of all axes together, the second, and so on."""
    assert main(["evaluate", "--config", str(path), "--smoke", "--quiet", "--json", "--only", json.dumps(only)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["cells"]) == set(only)
    page = Path(record["report"]).read_text(encoding="utf-8")
    assert all(question["title"] in page for question in yaml.safe_load(path.read_text(encoding="utf-8"))["questions"][:1])
    return record


@pytest.mark.parametrize("path", STUDIES, ids=named)
def test_a_study_runs_a_few_steps(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_study(path, SMALL[path.stem], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=named)
def test_every_part_of_a_study_runs_a_few_steps(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_study(path, list(yaml.safe_load(path.read_text(encoding="utf-8"))["parts"]), capsys)


def test_pathmnist_is_read_from_a_download(tmp_path, monkeypatch, capsys):
    """A file of the same layout: nine classes, three channels, the official splits."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "datasets").mkdir()
    arrays = {}
    for split, n in {"train": 90, "val": 18, "test": 27}.items():
        arrays |= {f"{split}_images": rng.integers(0, 256, (n, 28, 28, 3), dtype=np.uint8), f"{split}_labels": np.arange(n)[:, None] % 9}
    np.savez(tmp_path / "datasets" / "pathmnist.npz", **arrays)
    record = run_study(FOLDER / "studies" / "pathology.yaml", ["pathmnist"], capsys)
    table = pd.read_csv(record["table"])
    assert "recall: colorectal adenocarcinoma epithelium" in set(table["metric"])


def test_a_network_pre_trained_on_labelled_images_is_fine_tuned_on_volumes(tmp_path, monkeypatch, capsys):
    """CSPR: strides along depth and another number of axes, the same weights."""
    monkeypatch.chdir(tmp_path)
    small = ["--smoke", "--quiet", "--json", "--cohort.arguments.n_subjects", "24"]
    for verb, name, more in (("pretrain", "cspr", []), ("finetune", "cspr_volumes", ["--model", "runs/cspr-smoke/encoder"])):
        assert main([verb, "--config", str(FOLDER / "methods" / f"{name}.yaml"), *small, *more]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "12 subjects" in record["transferred_to"]
    assert (tmp_path / record["model"] / "model.safetensors").is_file()


def test_there_is_a_configuration_of_every_objective():
    text = "\n".join(path.read_text(encoding="utf-8") for path in CONFIGURATIONS)
    kinds = [kind for kind in vars(objectives).values() if inspect.isclass(kind) and issubclass(kind, objectives.AbstractObjective)]
    final = [kind.__name__ for kind in kinds if not inspect.isabstract(kind)]
    # Supervised and Segmentation train on labels and masks, which pre-training never reads.
    lacking = [name for name in final if f"graphssl.objectives.{name}" not in text and name not in ("Supervised", "Segmentation")]
    assert lacking == []
