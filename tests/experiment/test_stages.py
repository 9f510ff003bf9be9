"""Chains of pre-trainings in a run."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from graphssl import estimators
from graphssl.data import Cohort, Column
from graphssl.datasets import simulate_images
from graphssl.errors import LeakageError
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.task import make_task
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.evaluate import run_evaluate
from graphssl.experiment.pretrain import run_pretrain
from graphssl.experiment.stage_source import StageSource
from graphssl.experiment.stages import check_stages_apart, probe_of
from graphssl.results import read_results
from graphssl.training import Stage, load_model, pretrain_stages


def public_and_task(seed=5, **more):
    public = CohortSource("simulate", {"atlases": ["simulated20"], "n_subjects": 20, "sites": 2, "seed": seed, "name": "public"})
    return [StageSource("public", public, epochs=1), StageSource("task", epochs=1, **more)]


def test_a_chain_is_pre_trained_and_taken_up_by_the_evaluation(tmp_path, monkeypatch, experiment_in, text_of):
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


def test_a_stage_that_holds_the_evaluated_subjects_is_refused(tmp_path, experiment_in, text_of):
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


def test_the_probe_of_stages_leaves_out_who_is_for_testing(tmp_path, make_cohort, experiment_in):
    cohort = make_cohort(n_subjects=24)
    parts = pd.Series(["train", "val", "test"] * 8, index=cohort.subjects.index)
    split = cohort.with_column(Column("official", "categorical", "split", categories=("test", "train", "val")), parts)
    staged = experiment_in(tmp_path, stages=public_and_task())
    assert set(probe_of(staged, split).cohort.ids) == set(parts.index[parts != "test"])
    assert probe_of(staged, cohort).cohort is cohort
    assert probe_of(experiment_in(tmp_path), cohort) is None
