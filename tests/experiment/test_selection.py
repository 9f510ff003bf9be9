"""A run that pre-trains on what a pool has that is most like its cohort: files, fairness, and what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl.cli import main
from graphssl.data import ColumnTokenizer
from graphssl.encoders import TableMLP
from graphssl.errors import CheckpointError, ConfigError, DataError, LeakageError
from graphssl.estimators import ConnectomeClassifier
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import Experiment
from graphssl.experiment.evaluate import run_evaluate
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.explain import explain_run
from graphssl.experiment.finetune import run_finetune
from graphssl.experiment.methods import make_method
from graphssl.experiment.pool_settings import PoolSettings
from graphssl.experiment.pretrain import run_pretrain
from graphssl.experiment.selection import prepared_pool
from graphssl.experiment.stage_source import StageSource
from graphssl.objectives import MaskedColumns
from graphssl.results import read_results
from graphssl.training import PoolSelection, TrainingSettings, load_model

QUICK = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")
TABLE = {"columns": 8, "share_missing": 0.0}


def table(seed, n=40, **more):
    return CohortSource("simulate_table", {**TABLE, "n_subjects": n, "seed": seed, **more})


POOLS = {"near": table(1), "other world": table(2, world=1)}


def experiment_in(output, selection=None, **changes):
    settings = {
        "cohort": table(0, 30),
        "encoder": TableMLP(width=8, depth=1),
        "objective": MaskedColumns(),
        "columns": ColumnTokenizer(n_pieces=4),
        "pretraining": QUICK,
        "finetuning": QUICK,
        "evaluation": EvaluationSettings(
            protocol="k_fold", n_splits=2, methods=("pretrained_probe", "scratch_probe"), baselines=("majority",), audited=(), seeds=(0,)
        ),
        "output": str(output),
        "selection": selection or PoolSettings(POOLS, 12, subset=0.25),
    }
    return Experiment("study", **{**settings, **changes})


def text_of(experiment):
    return yaml.safe_dump({"name": experiment.name})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated")
    experiment = experiment_in(output)
    run_evaluate(experiment, text_of(experiment))
    return output / "study", experiment


def test_a_pre_training_tells_what_was_chosen(tmp_path):
    experiment = experiment_in(tmp_path)
    found = run_pretrain(experiment, text_of(experiment))
    folder = tmp_path / "study"
    subjects = pd.read_csv(folder / "selection" / "subjects.csv", index_col="subject_id")
    assert subjects["chosen"].sum() == 12
    assert subjects["source"].value_counts().to_dict() == {"near": 40, "other world": 40}
    assert subjects.groupby("chosen")["similarity"].mean().diff().iloc[1] > 0
    assert pd.read_csv(folder / "selection" / "distances.csv", index_col="subjects")["n"].to_dict() == {"chosen": 12, "random": 12, "pool": 80}
    summary = json.loads((folder / "selection" / "summary.json").read_text())
    assert (summary["n_target"], summary["n_chosen"], summary["with_target"]) == (30, 12, True)
    assert "12 of 80 subjects" in (folder / "selection" / "report.html").read_text()
    # 42 subjects, of whom some choose the epoch; the model that compares saw a quarter of the pool and nobody else.
    assert "37 subjects" in found["pre_trained_on"]
    card = load_model(folder / "retriever").card
    assert card["pre-trained on"].startswith("near+other world, 18 subjects")


def test_an_evaluation_chooses_for_the_training_subjects_of_each_split(evaluated):
    folder, experiment = evaluated
    assert "What was chosen of the pool" in (folder / "report.html").read_text()
    cohort, _ = experiment.cohort.load()
    of_pool = prepared_pool(experiment, cohort, folder)
    method = make_method("pretrained_probe", experiment, cohort, of_pool)
    assert isinstance(method, ConnectomeClassifier)
    split = json.loads((folder / "splits.json").read_text())[0]
    train, test = (cohort.select(split[side]) for side in ("train", "test"))
    y = np.asarray(pd.factorize(train.target(), sort=True)[0])
    method.fit(train, y)
    joined = of_pool.cohort_for(train)
    assert set(train.ids) < set(joined.ids)
    assert not set(test.ids) & set(joined.ids)
    assert len(joined) == len(train) + 12
    assert joined.hash in method.pretrained_.card["pre-trained on"]
    scratch = make_method("scratch_probe", experiment, cohort, of_pool).fit(train, y)
    assert not hasattr(scratch.pretrained_, "card") or not scratch.pretrained_.card
    scores = read_results(folder / "results.jsonl")
    first = scores[(scores["split"] == split["name"]) & (scores["method"] == "pretrained_probe") & (scores["metric"] == "auroc")]["value"].item()
    truth = pd.factorize(cohort.target(), sort=True)[1]
    from graphssl.statistics import auroc

    assert first == pytest.approx(auroc((test.target() == truth[-1]).to_numpy().astype(int), method.predict_proba(test)))


def test_a_run_goes_on_with_the_model_that_compares(evaluated, tmp_path):
    folder, _ = evaluated
    copy = tmp_path / "study"
    shutil.copytree(folder, copy)
    before = (copy / "retriever" / "model.safetensors").stat().st_mtime_ns
    again = experiment_in(tmp_path)
    run_evaluate(again, text_of(again))
    assert (copy / "retriever" / "model.safetensors").stat().st_mtime_ns == before
    for name in ("selection/subjects.csv", "predictions.parquet", "encoder/model.safetensors"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes()


def test_a_named_model_compares_and_a_model_is_fine_tuned(evaluated, tmp_path):
    folder, _ = evaluated
    settings = PoolSettings(POOLS, 0.1, encoder=str(folder / "retriever"), rule="class_means", balance="source", with_target=False)
    experiment = experiment_in(tmp_path, settings)
    run_finetune(experiment, text_of(experiment))
    assert not (tmp_path / "study" / "retriever").exists()
    subjects = pd.read_csv(tmp_path / "study" / "selection" / "subjects.csv")
    assert subjects[subjects["chosen"]]["source"].value_counts().to_dict() == {"near": 4, "other world": 4}
    assert load_model(tmp_path / "study" / "model").predict_proba(experiment.cohort.load()[0]).shape == (30, 2)


def test_a_pool_with_subjects_of_the_cohort_is_refused_or_cleaned(tmp_path):
    experiment = experiment_in(tmp_path, PoolSettings({**POOLS, "again": table(0, 30)}, 12, subset=0.25))
    with pytest.raises(LeakageError, match="30 in 'near\\+other world\\+again' \\(30 with identical data\\).*again/"):
        run_pretrain(experiment, text_of(experiment))
    assert not (tmp_path / "study").exists()
    cleaned = experiment_in(tmp_path, PoolSettings({**POOLS, "again": table(0, 30)}, 12, subset=0.25, leaks="exclude"))
    run_pretrain(cleaned, text_of(cleaned))
    excluded = pd.read_csv(tmp_path / "study" / "selection" / "excluded.csv")
    assert excluded["reason"].str.startswith("protected: identical data").sum() == 30


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="stages or a selection, found both"):
        experiment_in(tmp_path, stages=[StageSource("first")])
    small = experiment_in(tmp_path, PoolSettings(POOLS, 12, subset=0.05))
    with pytest.raises(ConfigError, match="10 subjects or more of the pool to train on, found 4"):
        run_pretrain(small, text_of(small))
    absent = experiment_in(tmp_path, PoolSettings(POOLS, 12, encoder=str(tmp_path / "none")))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        run_pretrain(absent, text_of(absent))
    only = experiment_in(tmp_path, PoolSettings({"again": table(0, 30)}, 12, leaks="exclude"))
    with pytest.raises(DataError, match="none that is not protected"):
        run_pretrain(only, text_of(only))


def test_the_command_line_takes_a_pool_and_names_a_wrong_key(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {
        "name": "study",
        "cohort": {"adapter": "simulate_table", "arguments": {**TABLE, "n_subjects": 30}},
        "encoder": {"class_path": "graphssl.encoders.TableMLP", "init_args": {"width": 8, "depth": 1}},
        "columns": {"n_pieces": 4},
        "pretraining": {"max_epochs": 1, "accelerator": "cpu"},
        "selection": {
            "pools": {"near": {"adapter": "simulate_table", "arguments": {**TABLE, "n_subjects": 40, "seed": 1}}},
            "budget": 6,
            "subset": 0.5,
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    assert main(["pretrain", "--config", "study.yaml", "--quiet"]) == 0
    written = yaml.safe_load((tmp_path / "runs" / "study" / "config.yaml").read_text())
    assert written["selection"]["budget"] == 6
    assert main(["pretrain", "--config", "study.yaml", "--quiet", "--selection.budgte", "3"]) == 2
    assert "budget" in capsys.readouterr().err
    del settings["selection"]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({**settings, "name": "plain"}))
    assert main(["pretrain", "--config", "plain.yaml", "--quiet"]) == 0
    assert "selection" not in yaml.safe_load((tmp_path / "runs" / "plain" / "config.yaml").read_text())


def test_refits_of_connectomes_choose_of_the_pool_too(tmp_path, monkeypatch):
    """What explains a run fits it again, with the model that compared."""
    choose = PoolSelection.cohort_for
    brains = {"atlases": ["simulated20"], "n_subjects": 16, "sites": 2, "effect": 0.8}
    quick = {"max_epochs": 1, "batch_size": 16, "accelerator": "cpu"}
    settings = {
        "name": "study",
        "cohort": {"adapter": "simulate", "arguments": brains},
        "encoder": {"class_path": "graphssl.encoders.GraphTransformer", "init_args": {"width": 8, "depth": 1, "heads": 2}},
        "pretraining": quick,
        "finetuning": quick,
        "selection": {"pools": {"brains": {"adapter": "simulate", "arguments": {**brains, "seed": 5}}}, "budget": 4, "subset": 0.7},
        "evaluation": {"protocol": "k_fold", "n_splits": 2, "seeds": [0]},
        "output": str(tmp_path),
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    assert main(["finetune", "--config", str(tmp_path / "study.yaml"), "--quiet"]) == 0
    asked = []
    monkeypatch.setattr(PoolSelection, "cohort_for", lambda self, target, labels=None: asked.append(len(target)) or choose(self, target, labels))
    found = explain_run(tmp_path / "study", refits=2)
    assert asked == [8, 8]
    assert "2 refit" in " ".join(found["sentences"])
