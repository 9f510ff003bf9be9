"""`graphssl explain`: of a run, with refits on its folds and seeds, and of a saved model."""

import json

import numpy as np
import pandas as pd
import pytest

from graphssl.atlases import load_atlas
from graphssl.cli import main
from graphssl.datasets import simulate
from graphssl.errors import RunFolderError
from graphssl.experiment import explanation
from graphssl.experiment.explain import explain_run

STUDY = """
name: tiny
cohort: {adapter: simulate, arguments: {atlases: [simulated20], n_subjects: 24, sites: 2, seed: 0}}
encoder: {class_path: graphssl.encoders.GraphTransformer, init_args: {width: 8, depth: 1, heads: 2}}
pretraining: {max_epochs: 1, batch_size: 8}
finetuning: {max_epochs: 1, batch_size: 8}
evaluation: {seeds: [0]}
"""


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take seconds and are looked at in test_explanation.py."""
    monkeypatch.setattr(explanation, "explanation_figures", lambda connectome, regions: {})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fine-tuned run; the tests that change it put back what they changed."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(STUDY)
    assert main(["finetune", "--config", str(folder / "tiny.yaml"), "--output", str(folder), "--quiet"]) == 0
    return folder / "tiny"


def test_a_run_is_explained_with_its_stability(run, no_figures, capsys):
    assert main(["explain", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["stability"]["n_refits"] == 2
    assert -1 <= record["stability"]["regions"]["rank_correlation"] <= 1
    regions = pd.read_csv(run / "explain" / "regions.csv")
    assert regions["stability"].isin([0.0, 0.5, 1.0]).all()
    assert json.loads((run / "explain" / "truth.json").read_text())["affected"]
    assert len(list((run / "units").glob("saliency-*.npy"))) == 2


def test_a_saved_model_is_explained_without_refits(run, no_figures, tmp_path, capsys):
    simulate([load_atlas("simulated20")], n_subjects=24, sites=2, seed=0).cohort.save(tmp_path / "cohort")
    words = ["--model", str(run / "model"), "--cohort", str(tmp_path / "cohort"), "--out", str(tmp_path / "out")]
    assert main(["explain", *words]) == 0
    printed = capsys.readouterr().out
    assert "was not measured" in printed
    assert f"Explanation: {tmp_path / 'out'}" in printed
    saved, of_run = (np.load(folder / "connectome.npz")["edge_saliency"] for folder in (tmp_path / "out", run / "explain"))
    assert saved.shape == of_run.shape == (20, 20)


def test_neither_a_run_nor_a_model(run, capsys):
    for words in ([], ["--model", "m"], [str(run), "--model", "m", "--cohort", "c", "--out", "o"]):
        assert main(["explain", *words]) == 2
        assert "Expected a run folder, or --model, --cohort and --out together" in capsys.readouterr().err


def test_a_run_without_a_model_or_with_other_data(run, tmp_path):
    with pytest.raises(RunFolderError, match=r"run folder with manifest\.json"):
        explain_run(tmp_path)
    (run / "model").rename(run / "aside")
    with pytest.raises(RunFolderError, match="a fine-tuned model at .*Run graphssl finetune or evaluate first"):
        explain_run(run)
    (run / "aside").rename(run / "model")
    manifest = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(manifest.replace(json.loads(manifest)["cohort"]["hash"], "000000000000"))
    with pytest.raises(RunFolderError, match=r"cohort hash 000000000000\), found others"):
        explain_run(run)
    (run / "manifest.json").write_text(manifest)
