"""What the verbs do, from an experiment to the files of a run folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.testing import assert_allclose

from graphssl import estimators
from graphssl.cli import main
from graphssl.data import Cohort, Column, ColumnTokenizer, EventSummary, Schema, TimelineTokenizer
from graphssl.datasets import simulate_images, simulate_stays
from graphssl.encoders import (
    GAT,
    GCN,
    GIN,
    MLP,
    BrainNetworkTransformer,
    GraphTransformer,
    PopulationTransformer,
    TableTransformer,
    TimelineTransformer,
)
from graphssl.errors import AtlasError, CheckpointError, ConfigError, DataError, LeakageError, RunFolderError, SchemaError
from graphssl.evaluation.protocols import make_splits, make_task
from graphssl.experiment.config import CohortSource, EvaluationSettings, Experiment, StageSource
from graphssl.experiment.verbs import check_stages_apart, embed, make_method, objective_of, probe_of, run_evaluate, run_finetune, run_pretrain
from graphssl.graphs import ConnectomeBuilder, FeatureGroup, NeighborIndex, PopulationBuilder
from graphssl.objectives import MaskedColumns, MaskedConnections, MaskedRegions
from graphssl.results import read_results
from graphssl.statistics import scored_splits
from graphssl.training import Model, Stage, TrainingSettings, load_model, pretrain_stages

QUICK = TrainingSettings(max_epochs=2, batch_size=16, accelerator="cpu")
EVALUATION = EvaluationSettings(
    methods=("pretrained_probe", "scratch_probe"),
    baselines=("logistic_correlation", "majority"),
    audited=("logistic_correlation",),
    seeds=(0,),
)
COMPARED = {"gcn": GCN, "gat": GAT, "gin": GIN, "brain_network_transformer": BrainNetworkTransformer, "mlp": MLP}
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


def experiment_in(output, name="study", **changes):
    settings = {
        "cohort": CohortSource("simulate", {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2, "effect": 0.8}),
        "encoder": GraphTransformer(16, 1, 2),
        "objective": MaskedRegions(rank=4),
        "pretraining": QUICK,
        "finetuning": QUICK,
        "evaluation": EVALUATION,
        "output": str(output),
    }
    return Experiment(name, **{**settings, **changes})


def text_of(experiment, **more):
    """What stands for the resolved configuration here."""
    return yaml.safe_dump({"name": experiment.name, "seed": experiment.seed, **more})


def saved_cohort(folder: str) -> Cohort:
    """An adapter of a saved cohort."""
    return Cohort.load(folder)


@pytest.fixture
def from_saved(tmp_path, monkeypatch):
    """Source of a cohort: `from_saved(cohort)`."""
    import sys

    monkeypatch.setitem(sys.modules, "verbs_adapters", sys.modules[__name__])
    return lambda cohort: CohortSource("verbs_adapters.saved_cohort", {"folder": str(cohort.save(tmp_path / "saved"))})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A finished evaluation: folder and what the verb returned."""
    output = tmp_path_factory.mktemp("evaluated")
    experiment = experiment_in(output)
    return output / "study", run_evaluate(experiment, text_of(experiment))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A finished pre-training: folder and what the verb returned."""
    output = tmp_path_factory.mktemp("pretrained")
    experiment = experiment_in(output)
    return output / "study", run_pretrain(experiment, text_of(experiment))


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def numbers_of(folder):
    """Results without the time they took."""
    return read_results(folder / "results.jsonl").drop(columns="seconds")


# evaluate


def test_a_run_folder_holds_what_is_promised(evaluated):
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


def test_the_same_command_again_fits_nothing_and_finds_the_same(evaluated, tmp_path):
    folder, _ = evaluated
    shutil.copytree(folder, tmp_path / "study")
    (tmp_path / "study" / "results.jsonl").unlink()
    estimators._STARTS.clear()
    experiment = experiment_in(tmp_path)
    run_evaluate(experiment, text_of(experiment))
    pd.testing.assert_frame_equal(numbers_of(tmp_path / "study"), numbers_of(folder))
    assert not estimators._STARTS, "no method was fitted"


def test_another_configuration_is_refused_and_changes_nothing(evaluated):
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
def test_wrong_input_leaves_no_folder(tmp_path, changes, error, message):
    experiment = experiment_in(tmp_path, **changes)
    with pytest.raises(error, match=message):
        run_evaluate(experiment, text_of(experiment))
    assert not list(tmp_path.iterdir())


def test_cohorts_that_cannot_be_evaluated_leave_no_folder(tmp_path, make_cohort, from_saved):
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


def test_a_cohort_without_covariates_goes_without_that_baseline(tmp_path, make_cohort, from_saved):
    """It is among the defaults; a table of diagnosis and site alone is as common as can be."""
    cohort = make_cohort(n_subjects=24, n_timepoints=20)
    schema = type(cohort.schema)([column for column in cohort.schema if column.name in ("diagnosis", "site")])
    bare = Cohort("bare", cohort.subjects[["diagnosis", "site"]], schema, cohort.regions)
    settings = EvaluationSettings(methods=("scratch_probe",), baselines=("covariates", "majority"), audited=("covariates",), seeds=(0,))
    experiment = experiment_in(tmp_path, cohort=from_saved(bare), evaluation=settings)
    run_evaluate(experiment, text_of(experiment))
    results = numbers_of(tmp_path / "study")
    assert set(results.loc[results["task"] == "diagnosis", "method"]) == {"scratch_probe", "majority"}


# pretrain and finetune


def test_pretraining_leaves_an_encoder_and_says_where(pretrained):
    folder, found = pretrained
    assert found["encoder"] == str(folder / "encoder")
    assert found["epochs"] == 2
    assert found["epoch_kept"].startswith(("0 of 2", "1 of 2"))
    assert files_in(folder) >= {"config.yaml", "manifest.json", "history.csv", "encoder/model.safetensors", "encoder/README.md"}
    assert load_model(found["encoder"]).head is None


def test_pretraining_again_goes_on_from_the_checkpoint(pretrained, tmp_path):
    folder, found = pretrained
    shutil.copytree(folder, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "encoder")
    experiment = experiment_in(tmp_path)
    again = run_pretrain(experiment, text_of(experiment))
    assert again["epoch_kept"] == found["epoch_kept"]
    weights = [(place / "encoder" / "model.safetensors").read_bytes() for place in (folder, tmp_path / "study")]
    assert weights[0] == weights[1]


def test_fine_tuning_starts_from_a_model_folder(pretrained, tmp_path):
    experiment = experiment_in(tmp_path, "tuned")
    found = run_finetune(experiment, text_of(experiment), model=pretrained[1]["encoder"])
    model = load_model(found["model"])
    assert model.classes == ("control", "patient")
    assert found["model"] == str(tmp_path / "tuned" / "model")
    assert "labelled subjects" in found["fine_tuned_on"]
    assert set(pd.read_csv(tmp_path / "tuned" / "history.csv")["stage"]) == {"finetune"}


def test_fine_tuning_without_a_model_pretrains_first(tmp_path):
    experiment = experiment_in(tmp_path)
    run_finetune(experiment, text_of(experiment))
    assert files_in(tmp_path / "study") >= {"encoder/model.safetensors", "model/model.safetensors"}
    assert set(pd.read_csv(tmp_path / "study" / "history.csv")["stage"]) == {"pretrain", "finetune"}


def test_whether_classes_count_alike_reaches_fine_tuning_and_baselines(tmp_path, from_saved):
    cohort = table_cohort()
    uneven = cohort.select([subject for k, subject in enumerate(cohort.ids) if k % 4 == 0 or cohort.subjects["died"][subject] == "no"])
    source, tables = from_saved(uneven), {"encoder": TableTransformer(8, 1, 2), "objective": None, "columns": ColumnTokenizer()}
    means = {}
    for weight in (None, "balanced"):
        experiment = experiment_in(tmp_path, f"weight_{weight}", cohort=source, class_weight=weight, **tables)
        found = run_finetune(experiment, text_of(experiment))
        means[weight] = load_model(found["model"]).predict_proba(uneven)[:, 1].mean()
        assert make_method("pretrained_probe", experiment).class_weight == weight
        assert make_method("logistic_table", experiment).get_params()["classifier__logisticregression__class_weight"] == weight
    assert means[None] < means["balanced"] - 0.05


def test_fine_tuning_of_what_cannot_be_leaves_no_folder(pretrained, tmp_path, make_cohort, from_saved):
    encoder = pretrained[1]["encoder"]
    cohort = make_cohort(n_subjects=24, n_timepoints=20)
    alike = (cohort.subjects["diagnosis"] == "patient").to_numpy()
    damaged = tmp_path / "damaged"
    shutil.copytree(encoder, damaged)
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:100])
    other = replace(cohort, regions={"simulated20": replace(cohort.regions["toy"])})
    cases = [
        (from_saved(cohort.select(alike)), encoder, DataError, "at least two classes"),
        (experiment_in(tmp_path).cohort, str(tmp_path / "none"), CheckpointError, "Expected a model folder"),
        (experiment_in(tmp_path).cohort, str(damaged), CheckpointError, "truncated"),
    ]
    for source, model, error, message in cases:
        experiment = experiment_in(tmp_path / "runs", cohort=source)
        with pytest.raises(error, match=message):
            run_finetune(experiment, text_of(experiment), model=model)
    for wrong, message in (
        (cohort, r"an atlas of the model in .* \(simulated20\), found 'toy' with toy"),
        (other, "Expected atlas 'simulated20' with 20"),
    ):
        experiment = experiment_in(tmp_path / "runs", cohort=from_saved(wrong))
        with pytest.raises(AtlasError, match=message):
            run_finetune(experiment, text_of(experiment), model=encoder)
    assert not (tmp_path / "runs").exists()


# embed


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_embeddings_and_predictions_are_written(evaluated, tmp_path, ending):
    cohort = experiment_in(tmp_path).cohort.load()[0]
    cohort.save(tmp_path / "cohort")
    out = tmp_path / "deep" / f"table.{ending}"
    table = embed(evaluated[0] / "model", tmp_path / "cohort", out)
    written = pd.read_csv(out, dtype={"subject_id": "str"}) if ending == "csv" else pd.read_parquet(out)
    pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-5)
    assert table["subject_id"].tolist() == cohort.ids
    model = Model.from_pretrained(evaluated[0] / "model")
    np.testing.assert_allclose(table[["probability_control", "probability_patient"]], model.predict_proba(cohort))
    np.testing.assert_allclose(table.filter(like="pooled_"), model.embed(cohort))
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_an_encoder_without_a_head_gives_no_predictions(evaluated, tmp_path):
    experiment_in(tmp_path).cohort.load()[0].save(tmp_path / "cohort")
    table = embed(evaluated[0] / "encoder", tmp_path / "cohort", tmp_path / "table.csv")
    assert not table.columns.str.startswith("probability").any()


def test_embedding_what_does_not_fit_writes_nothing(evaluated, tmp_path, make_cohort):
    make_cohort().save(tmp_path / "cohort")
    cases = [
        (evaluated[0] / "model", tmp_path / "cohort", "table.txt", DataError, r"ending in \.parquet or \.csv, found 'table\.txt'"),
        (evaluated[0] / "model", tmp_path / "cohort", "table.csv", DataError, "simulated20"),
        (evaluated[0] / "model", tmp_path / "none", "table.csv", DataError, "Expected a saved cohort"),
        (tmp_path / "none", tmp_path / "cohort", "table.csv", CheckpointError, "Expected a model folder"),
    ]
    for model, cohort, name, error, message in cases:
        with pytest.raises(error, match=message):
            embed(model, cohort, tmp_path / "out" / name)
    assert not (tmp_path / "out").exists()


# Methods by name


@pytest.mark.parametrize("name", ["pretrained", "pretrained_probe", "scratch", "scratch_probe", "no_edges", *COMPARED])
def test_methods(tmp_path, name):
    experiment = experiment_in(tmp_path, objective=MaskedConnections(rank=4), pretraining=replace(QUICK, progress=True))
    method = make_method(name, experiment)
    assert (method.objective is None) == name.startswith("scratch")
    assert method.mode == ("probe" if name.endswith("_probe") else "full")
    assert isinstance(method.encoder, COMPARED.get(name, GraphTransformer))
    assert getattr(method.encoder, "edges", True) == (name != "no_edges")
    assert not method.pretraining.progress, "bars of several processes would write over one another"
    if name not in COMPARED:
        assert method.encoder.width == 16


def test_an_encoder_of_one_atlas_is_made_for_the_one_that_is_used(tmp_path):
    arguments = {"atlases": ["simulated20", "simulated14"], "n_subjects": 24, "sites": 2}
    experiment = experiment_in(tmp_path, cohort=CohortSource("simulate", arguments))
    with pytest.raises(ConfigError, match=r"one atlas for the method 'brain_network_transformer'.*found simulated20, simulated14\. Name one"):
        make_method("brain_network_transformer", experiment)
    experiment.builder = ConnectomeBuilder(atlases=["simulated14"])
    encoder = make_method("brain_network_transformer", experiment).encoder
    assert (encoder.atlas, encoder.n_regions) == ("simulated14", 14)
    cohort, _ = experiment.cohort.load()
    experiment.cohort = CohortSource("simulate", {"atlases": ["no such atlas"]})
    assert make_method("brain_network_transformer", experiment, cohort).encoder.n_regions == 14, "what is loaded is not loaded again"


@pytest.mark.parametrize("name", ["gin", "brain_network_transformer"])
def test_comparison_encoders_are_trained_like_ours(tmp_path, name):
    experiment = experiment_in(tmp_path)
    cohort, _ = experiment.cohort.load()
    method = make_method(name, experiment).fit(cohort, [0, 1] * 12)
    assert len(method.pretrained_.history) == len(method.model_.history) == 2
    np.testing.assert_allclose(method.predict_proba(cohort).sum(axis=1), 1.0)


def test_an_experiment_may_leave_encoder_and_objective_to_us(tmp_path):
    experiment = experiment_in(tmp_path, encoder=None, objective=None)
    assert isinstance(make_method("no_edges", experiment).encoder, GraphTransformer)
    assert isinstance(objective_of(experiment), MaskedRegions)


# Tables


def table_cohort(n=160):
    """Two hospitals whose patients' hidden severity drives three columns, one with gaps, and the outcome."""
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


def test_a_table_is_evaluated_with_the_same_verb_run_folder_and_report(tmp_path, from_saved):
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


def test_events_are_read_by_an_encoder_and_summarised_for_baselines(tmp_path):
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


def test_what_a_table_is_made_with():
    assert isinstance(objective_of(experiment_in("runs", encoder=TableTransformer(8, 1, 2), objective=None)), MaskedColumns)
    with pytest.raises(ConfigError, match="Expected one of builder, columns, timeline, events, population, .* found builder and columns"):
        experiment_in("runs", builder=ConnectomeBuilder(), columns=ColumnTokenizer())


def test_categories_that_no_training_subject_had_are_told(tmp_path, from_saved, capsys):
    experiment = experiment_in(
        tmp_path, cohort=from_saved(table_cohort(40)), encoder=TableTransformer(8, 1, 2), objective=None, columns=ColumnTokenizer()
    )
    run_pretrain(experiment, text_of(experiment))
    new = table_cohort(40).select(["p003", "p004"])
    column = next(column for column in new.schema if column.role == "feature" and column.kind != "continuous")
    values = pd.Series(["never seen", new.subjects[column.name].iloc[1]], index=new.ids)
    new.with_column(Column(column.name, "categorical", column.role), values).save(tmp_path / "two")
    out = tmp_path / "two.csv"
    assert main(["embed", "--model", str(tmp_path / "study" / "encoder"), "--cohort", str(tmp_path / "two"), "--out", str(out)]) == 0
    assert f"1 with a category of {column.name!r} that no training subject had: read as unknown" in capsys.readouterr().out
    assert pd.read_csv(out, keep_default_na=False)["unknown_categories"].tolist() == [column.name, ""]


def test_a_model_of_timelines_is_carried_over_to_the_codes_of_the_cohort(tmp_path, from_saved):
    first, second = (simulate_stays(60, n_hours=12, seed=seed) for seed in (0, 1))
    settings = {"encoder": TimelineTransformer(8, 1, 2), "objective": None, "target": "died"}
    reads = {"n_bins": 12, "min_subjects": 3, "columns": ["age", "sex"]}
    start = experiment_in(tmp_path, cohort=from_saved(first), **settings, timeline=TimelineTokenizer(**reads, treatments=["ventilation"]))
    given = run_pretrain(start, text_of(start))["encoder"]
    chosen = TimelineTokenizer(**reads, codes=["lactate", "temperature", "creatinine"], treatments=["vasopressor"])
    experiment = experiment_in(tmp_path, "carried", cohort=from_saved(second), **settings, timeline=chosen)
    record = run_finetune(experiment, text_of(experiment), model=given)
    assert "codes: 3 shared, 0 new, 3 left out; treatments: 0 shared, 1 new, 1 left out; columns: 3 shared" in record["transfer"]
    written = pd.read_csv(tmp_path / "carried" / "transfer.csv").set_index("column")
    assert written.loc["vasopressor", ["what", "state"]].tolist() == ["treatment", "new"]
    assert load_model(record["model"]).builder.codes_ == ("creatinine", "lactate", "temperature")


# Populations


def test_a_population_of_timelines_is_saved_and_serves_new_patients(tmp_path, from_saved, monkeypatch):
    stays = simulate_stays(60, n_hours=12)
    experiment = experiment_in(
        tmp_path,
        cohort=from_saved(stays.select(stays.ids[:50])),
        encoder=PopulationTransformer(8, 1, 2, TimelineTransformer(8, 1, 2)),
        objective=None,
        population=PopulationBuilder(TimelineTokenizer(n_bins=12, treatments=["ventilation"], min_subjects=3), n_neighbors=4),
        target="died",
    )
    record = run_finetune(experiment, text_of(experiment))
    model = load_model(record["model"])
    assert isinstance(model.encoder.reader, TimelineTransformer)
    assert "MaskedFeatures" in model.card["objective"]
    new = stays.select(stays.ids[50:])
    together = model.predict_proba(new)
    assert_allclose(model.predict_proba(new.select(new.ids[3:4])), together[3:4], atol=1e-6)
    new.save(tmp_path / "new")
    asked, query = [], NeighborIndex.query
    monkeypatch.setattr(NeighborIndex, "query", lambda *arguments, **named: asked.append(1) or query(*arguments, **named))
    table = embed(record["model"], tmp_path / "new", tmp_path / "new.csv")
    assert asked == [1], "neighbours are searched once"
    assert_allclose(table.filter(like="pooled_"), model.embed(new), atol=1e-6)
    assert_allclose(table["probability_yes"], together[:, 1], atol=1e-6)
    assert set("; ".join(table["neighbors"]).split("; ")) <= set(stays.ids[:50])


def test_patients_who_learn_from_one_another_go_through_the_same_verbs(tmp_path, from_saved):
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


def public_and_task(seed=5, **more):
    public = CohortSource("simulate", {"atlases": ["simulated20"], "n_subjects": 20, "sites": 2, "seed": seed, "name": "public"})
    return [StageSource("public", public, epochs=1), StageSource("task", epochs=1, **more)]


def test_a_chain_is_pre_trained_and_taken_up_by_the_evaluation(tmp_path, monkeypatch):
    """Stages with a cohort of their own once, from the run folder; those of the task for each split, on its training subjects."""
    experiment = experiment_in(tmp_path, stages=public_and_task())
    found = run_pretrain(experiment, text_of(experiment))
    assert found["epochs"] == 2
    folder = tmp_path / "study"
    before = {path: path.read_bytes() for path in (folder / "stages").rglob("model.safetensors")}
    history = pd.read_csv(folder / "history.csv")
    assert history["stage"].tolist() == ["pretrain public", "pretrain task"]
    records = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    assert records == load_model(folder / "encoder").card["stages"]
    assert [record["probe"]["target"] for record in records] == ["diagnosis"] * 2
    done = []

    def noting(stages, given=None, **told):
        done.append(([stage.name for stage in stages], str(stages[0].initialisation), given.ids))
        return pretrain_stages(stages, given, **told)

    estimators._STARTS.clear()
    monkeypatch.setattr(estimators, "pretrain_stages", noting)
    run_evaluate(experiment, text_of(experiment))
    assert {path: path.read_bytes() for path in before} == before
    cohort, _ = experiment.cohort.load()
    splits = make_splits(cohort, make_task(cohort, None, None, "leave_one_site_out"), "leave_one_site_out", 2)
    assert [(names, start) for names, start, _ in done] == [(["task"], str(folder / "stages" / "1-public"))] * 2
    assert [set(ids) for *_, ids in done] == [set(split.train) for split in splits]
    assert set(read_results(folder / "results.jsonl")["method"]) >= {"pretrained_probe", "scratch_probe"}


def test_a_stage_that_holds_the_evaluated_subjects_is_refused(tmp_path):
    mine = CohortSource("simulate", {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2, "effect": 0.8})
    experiment = experiment_in(tmp_path, stages=[StageSource("leaking", mine), StageSource("task")])
    with pytest.raises(LeakageError, match="Expected none of the subjects that are evaluated in stage 'leaking', found 24"):
        run_evaluate(experiment, text_of(experiment))
    assert not (tmp_path / "study").exists()


def test_images_are_known_by_their_content(make_cohort):
    """The same images under another name and other ids."""
    images = simulate_images(8, size=16)
    ids = [f"someone-{k}" for k in range(8)]
    [data] = images.images.values()
    table = data.table.assign(subject_id=[dict(zip(images.ids, ids, strict=True))[subject] for subject in data.table["subject_id"]])
    twins = Cohort("others", images.subjects.set_axis(ids), images.schema, images={"images": replace(data, table=table)})
    with pytest.raises(LeakageError, match="in stage 'twins', found 3: patient-0000, patient-0001, patient-0002"):
        check_stages_apart([Stage("twins", twins.select(ids[:3]))], images)
    check_stages_apart([Stage("others", simulate_images(8, size=16, seed=4, name="others")), Stage("task")], images)
    check_stages_apart([Stage("same-ids", make_cohort(n_subjects=8, seed=3))], replace(make_cohort(n_subjects=8), name="other"))


def test_the_probe_of_stages_leaves_out_who_is_for_testing(tmp_path, make_cohort):
    cohort = make_cohort(n_subjects=24)
    parts = pd.Series(["train", "val", "test"] * 8, index=cohort.subjects.index)
    split = cohort.with_column(Column("official", "categorical", "split", categories=("test", "train", "val")), parts)
    staged = experiment_in(tmp_path, stages=public_and_task())
    assert set(probe_of(staged, split).cohort.ids) == set(parts.index[parts != "test"])
    assert probe_of(staged, cohort).cohort is cohort
    assert probe_of(experiment_in(tmp_path), cohort) is None
