"""Stages of a configuration: made into a chain, given back, and refused."""

import pytest

from graphssl.errors import ConfigError
from graphssl.experiment.config import read_experiment
from graphssl.experiment.methods import make_method
from graphssl.objectives import MaskedConnections

SIMULATED = {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2}


def test_stages_become_a_chain_and_can_be_given_back(write, tmp_path):
    stages = [
        {"name": "public", "cohort": {"adapter": "simulate", "arguments": {**SIMULATED, "seed": 3}}, "epochs": 5, "anchor": 0.1},
        {"name": "task", "objective": {"class_path": "graphssl.objectives.MaskedConnections"}, "pretraining": {"max_epochs": 2}},
    ]
    experiment, text = read_experiment(["--config", write(stages=stages)])
    public, task = experiment.chain
    assert (public.name, public.epochs, public.anchor, len(public.cohort), task.cohort) == ("public", 5, 0.1, 24, None)
    assert (type(task.objective), task.settings.max_epochs, public.settings) == (MaskedConnections, 2, None)
    assert make_method("pretrained", experiment).stages == experiment.chain
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    again, same = read_experiment(["--config", str(tmp_path / "again.yaml")])
    assert same == text
    assert [stage.described() for stage in again.chain] == [stage.described() for stage in experiment.chain]
    assert "stages" not in read_experiment(["--config", write()])[1]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"name": "a b"}, "Expected a name of a stage of letters"),
        ({"name": "a", "epochs": -1}, "Expected epochs ≥ 0"),
        ({"name": "a", "columns": {}, "images": {}}, "found columns and images"),
        ({"name": "a", "anker": 1.0}, "anchor"),
    ],
)
def test_stages_that_do_not_fit(write, stage, message):
    with pytest.raises(ConfigError, match=message):
        read_experiment(["--config", write(stages=[stage])])
