"""The verb `embed`: vectors and predictions of a saved cohort."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from graphssl.cli import main
from graphssl.data import Column, ColumnTokenizer, TimelineTokenizer
from graphssl.datasets import simulate_stays
from graphssl.encoders import (
    PopulationTransformer,
    TableTransformer,
    TimelineTransformer,
)
from graphssl.errors import CheckpointError, DataError
from graphssl.experiment.embed import embed
from graphssl.experiment.finetune import run_finetune
from graphssl.experiment.pretrain import run_pretrain
from graphssl.graphs import NeighborIndex, PopulationBuilder
from graphssl.training import Model, load_model


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_embeddings_and_predictions_are_written(evaluated, tmp_path, ending, experiment_in):
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


def test_an_encoder_without_a_head_gives_no_predictions(evaluated, tmp_path, experiment_in):
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


def test_categories_that_no_training_subject_had_are_told(tmp_path, from_saved, capsys, experiment_in, text_of, table_cohort):
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


def test_a_population_of_timelines_is_saved_and_serves_new_patients(tmp_path, from_saved, monkeypatch, experiment_in, text_of):
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
