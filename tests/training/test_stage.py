"""A stage: what it is told is checked, and tells it from others."""

import copy

import pytest

from graphssl.errors import ConfigError
from graphssl.objectives import MaskedPatches
from graphssl.training import Stage, TrainingSettings
from graphssl.training.stage import check_stage


def test_what_a_stage_is_told_is_checked():
    with pytest.raises(ConfigError, match="Expected a name of a stage of letters, digits, - and _, for a folder has it; found 'a b'"):
        Stage("a b")
    for wrong in ({"epochs": -1}, {"learning_rate_scale": 0.0}, {"anchor": -1.0}, {"probe_every": 0}):
        with pytest.raises(ConfigError, match="Expected epochs ≥ 0, learning_rate_scale > 0, anchor ≥ 0 and probe_every ≥ 1 of stage 'a'"):
            Stage("a", **wrong)
    check_stage("a-1_b", 0, 0.1, 0.0, 1)


def test_stages_are_told_apart_by_what_decides_their_numbers(general_images, task_images):
    told = {"cohort": general_images, "objective": MaskedPatches(), "settings": TrainingSettings()}
    first = Stage("a", **told).described()
    assert first == Stage("a", **{**told, "settings": TrainingSettings(progress=True, accelerator="cpu")}).described()
    changes = ({"cohort": task_images}, {"objective": MaskedPatches(ratio=0.5)}, {"epochs": 3}, {"anchor": 0.1}, {"initialisation": "random"})
    assert all(Stage("a", **{**told, **change}).described() != first for change in changes)


def test_a_copy_is_the_stage_itself(general_images):
    stage = Stage("a", general_images)
    assert copy.deepcopy(stage) is stage
