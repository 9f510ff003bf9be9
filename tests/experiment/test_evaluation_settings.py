"""How to evaluate: methods, baselines, scores and what is tuned, each known by name."""

from dataclasses import replace

import pytest
import yaml

from graphssl.errors import ConfigError
from graphssl.estimators import ConnectomeClassifier
from graphssl.experiment.config import read_experiment
from graphssl.experiment.evaluation_settings import OURS, EvaluationSettings
from graphssl.experiment.methods import make_tuned


def test_what_is_tuned_becomes_an_estimator_that_chooses(write):
    grids = {
        "pretrained": {
            "objective": [
                {"class_path": "graphssl.objectives.MaskedConnections", "init_args": {"ratio": 0.4}},
                {"class_path": "graphssl.objectives.MaskedRegions"},
            ],
            "finetuning__learning_rate": [0.1, 0.01],
            "mode": ["probe"],
        },
        "svm_partial": {"classifier__model__C": [0.1, 1.0]},
    }
    experiment, text = read_experiment(["--config", write(evaluation={"tuned": grids, "n_inner": 4})])
    ours = make_tuned("pretrained", experiment)
    assert isinstance(ours.estimator, ConnectomeClassifier)
    assert [type(objective).__name__ for objective in ours.grid["objective"]] == ["MaskedConnections", "MaskedRegions"]
    assert ours.grid["objective"][0].ratio == 0.4
    assert (ours.grid["finetuning__learning_rate"], ours.n_inner, ours.inner) == ([0.1, 0.01], 4, "site")
    experiment.evaluation = replace(experiment.evaluation, protocol="k_fold")
    svm = make_tuned("svm_partial", experiment)
    assert (svm.grid, svm.inner) == (grids["svm_partial"], "subject")
    written = yaml.safe_load(text)["evaluation"]["tuned"]["pretrained"]
    assert written["objective"][0]["init_args"]["ratio"] == 0.4
    assert written["mode"] == ["probe"]


def test_scores_must_be_known(write):
    assert read_experiment(["--config", write(evaluation={"scores": ["physionet2012_event2"]})])[0].evaluation.scores == ("physionet2012_event2",)
    with pytest.raises(ConfigError, match="Expected scores among .*found 'physionet2012_event3'.*Did you mean 'physionet2012_event2'"):
        read_experiment(["--config", write(evaluation={"scores": ["physionet2012_event3"]})])


def test_what_is_to_be_tuned_must_be_known(write):
    with pytest.raises(ConfigError, match="methods or baselines to tune, found 'svm_tangents'. Did you mean 'svm_tangent'"):
        read_experiment(["--config", write(evaluation={"tuned": {"svm_tangents": {"classifier__model__C": [1.0]}}})])


@pytest.mark.parametrize("name", OURS)
def test_known_methods(name):
    assert EvaluationSettings(methods=(name,), audited=(name,)).methods == (name,)


def test_unknown_methods_baselines_and_audits():
    with pytest.raises(ConfigError, match=r"methods among pretrained, .*; found 'pretrain'\. Did you mean 'pretrained'\?"):
        EvaluationSettings(methods=("pretrain",))
    with pytest.raises(ConfigError, match=r"baselines among .*; found 'logistic'\. Did you mean 'logistic_\w+'\?"):
        EvaluationSettings(baselines=("logistic",))
    assert EvaluationSettings().to_audit == ("pretrained_probe", "logistic_correlation")
    assert EvaluationSettings(baselines=("majority",)).to_audit == ("pretrained_probe",), "other baselines are no mistake"
    assert EvaluationSettings(audited=()).to_audit == ()
    with pytest.raises(ConfigError, match=r"audited methods to be among the methods and baselines, found \['gat'\]"):
        EvaluationSettings(audited=("gat",))
