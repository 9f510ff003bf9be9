"""The verb `finetune`: from an experiment to the files of a run folder."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from graphssl.data import ColumnTokenizer, TimelineTokenizer
from graphssl.datasets import simulate_stays
from graphssl.encoders import (
    TableTransformer,
    TimelineTransformer,
)
from graphssl.errors import AtlasError, CheckpointError, DataError
from graphssl.experiment.finetune import run_finetune
from graphssl.experiment.methods import make_method
from graphssl.experiment.pretrain import run_pretrain
from graphssl.training import load_model


def test_fine_tuning_starts_from_a_model_folder(pretrained, tmp_path, experiment_in, text_of):
    experiment = experiment_in(tmp_path, "tuned")
    found = run_finetune(experiment, text_of(experiment), model=pretrained[1]["encoder"])
    model = load_model(found["model"])
    assert model.classes == ("control", "patient")
    assert found["model"] == str(tmp_path / "tuned" / "model")
    assert "labelled subjects" in found["fine_tuned_on"]
    assert set(pd.read_csv(tmp_path / "tuned" / "history.csv")["stage"]) == {"finetune"}


def test_fine_tuning_without_a_model_pretrains_first(tmp_path, experiment_in, text_of, files_in):
    experiment = experiment_in(tmp_path)
    run_finetune(experiment, text_of(experiment))
    assert files_in(tmp_path / "study") >= {"encoder/model.safetensors", "model/model.safetensors"}
    assert set(pd.read_csv(tmp_path / "study" / "history.csv")["stage"]) == {"pretrain", "finetune"}


def test_whether_classes_count_alike_reaches_fine_tuning_and_baselines(tmp_path, from_saved, experiment_in, text_of, table_cohort):
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


def test_fine_tuning_of_what_cannot_be_leaves_no_folder(pretrained, tmp_path, make_cohort, from_saved, experiment_in, text_of):
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


def test_a_model_of_timelines_is_carried_over_to_the_codes_of_the_cohort(tmp_path, from_saved, experiment_in, text_of):
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
