"""The verb `evaluate`: from an experiment to the files of a run folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from graphssl import estimators
from graphssl.data import Cohort, ColumnTokenizer, EventSummary, TimelineTokenizer
from graphssl.datasets import simulate_stays
from graphssl.encoders import (
    MLP,
    PopulationTransformer,
    TableTransformer,
    TimelineTransformer,
)
from graphssl.errors import ConfigError, DataError, RunFolderError, SchemaError
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.embed import embed
from graphssl.experiment.evaluate import run_evaluate
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.finetune import run_finetune
from graphssl.experiment.methods import make_method
from graphssl.graphs import ConnectomeBuilder, FeatureGroup, PopulationBuilder
from graphssl.results import read_results
from graphssl.statistics import scored_splits
from graphssl.training import load_model

EVALUATION = EvaluationSettings(
    methods=("pretrained_probe", "scratch_probe"),
    baselines=("logistic_correlation", "majority"),
    audited=("logistic_correlation",),
    seeds=(0,),
)
# What the page on the architecture promises of a run folder.
CONTRACT = {
    "config.yaml",
    "manifest.json",
    "splits.json",
    "history.csv",
    "results.jsonl",
    "predictions.parquet",
    "encoder/model.safetensors",
    "explain/connectome.npz",
    "report.html",
}


def numbers_of(folder):
    """Results without the time they took."""
    return read_results(folder / "results.jsonl").drop(columns="seconds")


def test_a_run_folder_holds_what_is_promised(evaluated, files_in):
    folder, found = evaluated
    files = files_in(folder)
    assert files >= CONTRACT
    assert "checkpoints/pretrain/last.ckpt" in files
    assert not [name for name in files if name.endswith(".part")]
    assert found == {"run": str(folder), "results": str(folder / "results.jsonl"), "report": str(folder / "report.html")}


def test_results_and_predictions_are_read_by_statistics(evaluated):
    folder, _ = evaluated
    results = read_results(folder / "results.jsonl")
    methods = {"pretrained_probe", "scratch_probe", "logistic_correlation", "majority"}
    assert set(results["method"]) == methods | {"logistic_correlation|shuffled_labels", "pretrained", "scratch", "connectivity"}
    assert set(results.loc[results["task"] == "site_probe", "method"]) == {"pretrained", "scratch", "connectivity"}
    predictions = pd.read_parquet(folder / "predictions.parquet")
    for method in methods:
        assert sorted(scored_splits(predictions, method)) == ["site-1", "site-2"]


def test_the_manifest_and_splits_agree(evaluated):
    folder, _ = evaluated
    manifest = json.loads((folder / "manifest.json").read_text())
    splits = json.loads((folder / "splits.json").read_text())
    assert manifest["task"] == {"target": "diagnosis", "classes": ["control", "patient"]}
    assert (manifest["protocol"]["name"], manifest["protocol"]["n_splits"]) == ("leave_one_site_out", len(splits))
    assert [split["name"] for split in splits] == ["site-1", "site-2"]
    assert not set(splits[0]["train"]) & set(splits[0]["test"])


def test_history_has_a_row_an_epoch_and_stage(evaluated):
    history = pd.read_csv(evaluated[0] / "history.csv")
    assert history.columns[:4].tolist() == ["stage", "split", "seed", "epoch"]
    assert history[history["stage"] == "pretrain"]["epoch"].tolist() == [0, 1]
    assert history.loc[history["stage"] == "pretrain", ["train_loss", "validation_loss"]].notna().all(axis=None)
    assert set(history["stage"]) == {"pretrain", "finetune"}


def test_the_explanation_fits_the_atlas_and_keeps_the_truth(evaluated):
    folder = evaluated[0] / "explain"
    with np.load(folder / "connectome.npz", allow_pickle=False) as stored:
        assert stored["mean_connectome"].shape == stored["edge_saliency"].shape == (20, 20)
        saliency = dict(zip(stored["labels"].tolist(), stored["region_saliency"].tolist(), strict=True))
    regions = pd.read_csv(folder / "regions.csv").set_index("label")
    for label, value in saliency.items():
        assert regions.loc[label, "saliency"] == pytest.approx(value, rel=1e-5)
    assert json.loads((folder / "truth.json").read_text())["affected"][0] == ["Default", "Frontoparietal"]


def test_encoder_and_model_can_be_loaded(evaluated):
    folder, _ = evaluated
    encoder, model = load_model(folder / "encoder"), load_model(folder / "model")
    assert encoder.head is None
    assert (model.target, model.classes) == ("diagnosis", ("control", "patient"))


def test_the_same_command_again_fits_nothing_and_finds_the_same(evaluated, tmp_path, experiment_in, text_of):
    folder, _ = evaluated
    shutil.copytree(folder, tmp_path / "study")
    (tmp_path / "study" / "results.jsonl").unlink()
    estimators._STARTS.clear()
    experiment = experiment_in(tmp_path)
    run_evaluate(experiment, text_of(experiment))
    pd.testing.assert_frame_equal(numbers_of(tmp_path / "study"), numbers_of(folder))
    assert not estimators._STARTS, "no method was fitted"


def test_another_configuration_is_refused_and_changes_nothing(evaluated, experiment_in, text_of, files_in):
    folder, _ = evaluated
    before = {name: (folder / name).read_bytes() for name in files_in(folder)}
    experiment = experiment_in(folder.parent, seed=1)
    with pytest.raises(RunFolderError, match="found another one"):
        run_evaluate(experiment, text_of(experiment))
    assert {name: (folder / name).read_bytes() for name in files_in(folder)} == before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": "diagnose"}, SchemaError, "'diagnose'"),
        ({"classes": ["control", "autism"]}, DataError, r"found \['patient'\] too"),
        ({"encoder": MLP(8, 1), "evaluation": EvaluationSettings(methods=("no_edges",), audited=())}, ConfigError, "edges to cut .* found MLP"),
        ({"builder": ConnectomeBuilder(atlases=["cc200"])}, DataError, "to have data in atlas 'cc200'"),
        ({"evaluation": replace(EVALUATION, label_fractions=(1.5,))}, DataError, r"label fraction in \(0, 1\], found 1\.5"),
        ({"evaluation": replace(EVALUATION, protocol="k_fold", n_splits=20)}, DataError, "Use fewer folds"),
    ],
)
def test_wrong_input_leaves_no_folder(tmp_path, changes, error, message, experiment_in, text_of):
    experiment = experiment_in(tmp_path, **changes)
    with pytest.raises(error, match=message):
        run_evaluate(experiment, text_of(experiment))
    assert not list(tmp_path.iterdir())


def test_cohorts_that_cannot_be_evaluated_leave_no_folder(tmp_path, make_cohort, from_saved, experiment_in, text_of):
    cohort = make_cohort(n_subjects=24, n_timepoints=20)
    ids = {
        "at least two classes": (cohort.subjects["diagnosis"] == "patient").to_numpy(),
        "at least two sites": (cohort.sites == "site-0").to_numpy(),
        "at least 2 subjects in every site": [*cohort.ids[::2], "sub-001"],
    }
    for message, chosen in ids.items():
        experiment = experiment_in(tmp_path / "runs", cohort=from_saved(cohort.select(chosen)))
        with pytest.raises(DataError, match=message):
            run_evaluate(experiment, text_of(experiment))
        assert not (tmp_path / "runs").exists()


def test_a_cohort_without_covariates_goes_without_that_baseline(tmp_path, make_cohort, from_saved, experiment_in, text_of):
    """It is among the defaults; a table of diagnosis and site alone is as common as can be."""
    cohort = make_cohort(n_subjects=24, n_timepoints=20)
    schema = type(cohort.schema)([column for column in cohort.schema if column.name in ("diagnosis", "site")])
    bare = Cohort("bare", cohort.subjects[["diagnosis", "site"]], schema, cohort.regions)
    settings = EvaluationSettings(methods=("scratch_probe",), baselines=("covariates", "majority"), audited=("covariates",), seeds=(0,))
    experiment = experiment_in(tmp_path, cohort=from_saved(bare), evaluation=settings)
    run_evaluate(experiment, text_of(experiment))
    results = numbers_of(tmp_path / "study")
    assert set(results.loc[results["task"] == "diagnosis", "method"]) == {"scratch_probe", "majority"}


def test_a_table_is_evaluated_with_the_same_verb_run_folder_and_report(tmp_path, from_saved, experiment_in, text_of, table_cohort, files_in):
    settings = EvaluationSettings(
        methods=("pretrained", "scratch"), baselines=("logistic_table", "boosting_table", "majority"), audited=("logistic_table",), seeds=(0,)
    )
    experiment = experiment_in(
        tmp_path, cohort=from_saved(table_cohort()), encoder=TableTransformer(8, 1, 2), objective=None, columns=ColumnTokenizer(), evaluation=settings
    )
    run_evaluate(experiment, text_of(experiment))
    found = files_in(tmp_path / "study")
    assert {name for name in CONTRACT if not name.startswith("explain/")} <= set(found)
    results = read_results(tmp_path / "study" / "results.jsonl")
    scores = results[results["metric"] == "auroc"].groupby("method")["value"].mean()
    assert scores[["logistic_table", "boosting_table"]].min() > 0.85
    assert {"pretrained", "scratch", "logistic_table|shuffled_labels"} <= set(scores.index)
    assert "Gradient boosting on the table" in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    model = load_model(tmp_path / "study" / "model")
    assert "hospital" not in [*model.encoder.numbers, *model.encoder.categories], "the site is no feature"


def test_events_are_read_by_an_encoder_and_summarised_for_baselines(tmp_path, experiment_in, text_of):
    settings = EvaluationSettings(
        protocol="k_fold",
        n_splits=2,
        methods=("pretrained_probe",),
        baselines=("logistic_table", "majority"),
        audited=("logistic_table",),
        seeds=(0,),
    )
    experiment = experiment_in(
        tmp_path,
        cohort=CohortSource("simulate_stays", {"n_patients": 120, "n_hours": 12, "effect": 3.0}, summary=EventSummary(("mean", "count"))),
        encoder=TimelineTransformer(8, 1, 2),
        objective=None,
        timeline=TimelineTokenizer(n_bins=12, treatments=["ventilation"], columns=["age", "sex"], n_pieces=4),
        evaluation=settings,
    )
    run_evaluate(experiment, text_of(experiment))
    results = read_results(tmp_path / "study" / "results.jsonl")
    scores = results[results["metric"] == "auroc"].groupby("method")["value"].mean()
    assert scores["logistic_table"] > 0.75
    assert {"pretrained_probe", "majority"} <= set(scores.index)
    model = load_model(tmp_path / "study" / "model")
    assert (model.encoder.numbers, list(model.encoder.categories)) == (("age",), ["sex", "planned admission"]), "no summaries"
    new = simulate_stays(30, n_hours=12, seed=5)
    assert_allclose(model.predict_proba(new)[[3, 7]], model.predict_proba(new[[3, 7]]), atol=1e-6)


def test_patients_who_learn_from_one_another_go_through_the_same_verbs(tmp_path, from_saved, experiment_in, text_of, table_cohort):
    source = from_saved(table_cohort(60))
    settings = EvaluationSettings(methods=("pretrained", "no_edges"), baselines=("majority",), audited=(), seeds=(0,))
    population = PopulationBuilder(groups=[FeatureGroup("blood", ["lactate", "pulse"], "rbf")], n_neighbors=4)
    experiment = experiment_in(
        tmp_path, cohort=source, encoder=PopulationTransformer(8, 1, 2), objective=None, population=population, evaluation=settings
    )
    assert not make_method("no_edges", experiment).encoder.edges
    compared = [make_method(name, experiment).encoder for name in ("gcn", "gat", "gin", "sage", "mlp")]
    assert [(encoder.layer, encoder.width) for encoder in compared] == [(layer, 8) for layer in ("gcn", "gat", "gin", "sage", "none")]
    with pytest.raises(ConfigError, match="Expected one of gcn, .* to compare with, found 'brain_network_transformer'"):
        make_method("brain_network_transformer", experiment)
    with pytest.raises(ConfigError, match="found 'sage', which reads other data"):
        make_method("sage", experiment_in(tmp_path))
    run_evaluate(experiment, text_of(experiment))
    scores = read_results(tmp_path / "study" / "results.jsonl").query("metric == 'auroc'").groupby("method")["value"].mean()
    assert {"pretrained", "no_edges"} <= set(scores.index)
    model = load_model(tmp_path / "study" / "model")
    assert model.encoder.groups == ("blood",)
    assert "HOLDS THE VALUES AND IDS" in (tmp_path / "study" / "model" / "README.md").read_text(encoding="utf-8")
    table_cohort(60).select(["p003", "p004"]).save(tmp_path / "two")
    table = embed(tmp_path / "study" / "model", tmp_path / "two", tmp_path / "two.csv")
    assert [len(set(names.split("; "))) for names in table["neighbors"]] == [4, 4]
    assert table["unlikeness"].between(0, 1).all()
    np.testing.assert_allclose(table[["probability_no", "probability_yes"]].sum(axis=1), 1.0)
    experiment.name = "again"
    assert "model" in run_finetune(experiment, text_of(experiment), model=str(tmp_path / "study" / "encoder"))
