"""An explanation on disk: whole, readable by the report, and no other folder overwritten."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from graphssl.encoders import GraphTransformer
from graphssl.errors import DataError, RunFolderError
from graphssl.experiment import explanation
from graphssl.experiment.explanation import write_explanation
from graphssl.reports.run_folder import read_connectome
from graphssl.training import untrained

FILES = {"connectome.npz", "edges.csv", "network_pairs.csv", "regions.csv", "summary.json"}
FIGURES = {"effects_matrix.png", "glass_brain_connections.png", "glass_brain_regions.png", "mean_connectome.png"}


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=8, n_regions=10, n_timepoints=20)


@pytest.fixture(scope="module")
def model(cohort):
    made = untrained(cohort, encoder=GraphTransformer(8, 1, 2))
    torch.manual_seed(0)
    return made.with_head(nn.Linear(made.encoder.pooled_width, 2), ("a", "b"), "diagnosis")


def test_everything_is_there_and_stability_in_the_tables(cohort, model, tmp_path):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 10, 10)).astype(np.float32)
    maps[:, 4, 7] = maps[:, 7, 4] = 50.0
    found = write_explanation(tmp_path / "out", model, cohort, maps=maps)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | FIGURES
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    regions, edges = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("regions", "edges"))
    labels = cohort.atlas("toy").labels
    sure = edges[(edges["label_a"] == labels[4]) & (edges["label_b"] == labels[7])]
    assert sure["stability"].tolist() == [1.0]
    assert set(regions.loc[regions["stability"] > 0, "label"]) <= {labels[4], labels[7]}
    assert regions["stability"].sum() == pytest.approx(1.0), "the top tenth of ten regions is one a refit"
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert record["stability"]["n_refits"] == 3
    assert record["randomisation"][-1]["layer"] == "tokens"
    assert found["sentences"][0].startswith("Models fitted again")
    read = read_connectome(tmp_path / "out" / "connectome.npz")
    by_label = regions.set_index("label").loc[labels]
    assert_allclose(read.regions, by_label["saliency"], rtol=1e-4)
    for path in (tmp_path / "out").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_an_earlier_explanation_is_replaced_and_nothing_else(cohort, model, tmp_path, monkeypatch):
    monkeypatch.setattr(explanation, "explanation_figures", lambda connectome, regions: {})  # drawn once above
    write_explanation(tmp_path / "out", model, cohort)
    (tmp_path / "out" / "old.txt").write_text("old")
    write_explanation(tmp_path / "out", model, cohort)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="an earlier explanation; found other files"):
        write_explanation(tmp_path / "other", model, cohort)


def test_nothing_is_written_half(cohort, model, tmp_path):
    with pytest.raises(DataError, match="data in atlas 'none' to explain"):
        write_explanation(tmp_path / "out", model, cohort, atlas="none")
    assert list(tmp_path.iterdir()) == []
