"""Every configuration that is shipped runs one step through the real command."""

import inspect
import json
from pathlib import Path

import pytest
import yaml

from graphssl import objectives
from graphssl.cli import main

FOLDER = Path(__file__).resolve().parents[1] / "configs"
META = sorted(FOLDER.rglob("*_meta.yaml"))
CONFIGURATIONS = sorted(set(FOLDER.rglob("*.yaml")) - set(META))

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
    assert record["epochs"] == 1
    assert (tmp_path / record["encoder"] / "model.safetensors").is_file()
    has_teacher = any(f"objectives.{name}\n" in path.read_text(encoding="utf-8") for name in ("BYOL", "DINO", "MoCo", "SliceVolumeDistillation"))
    assert (tmp_path / record["encoder"]).with_name("target_encoder").is_dir() == has_teacher


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
