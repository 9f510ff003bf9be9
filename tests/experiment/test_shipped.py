"""Configurations that ship are found from any folder; those at hand come first, and nothing else is touched."""

from pathlib import Path

import pytest

from graphssl import cli
from graphssl.experiment.config import read_experiment
from graphssl.experiment.shipped import with_shipped

NAME = "configs/objectives/masked_regions.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [["--config", NAME], [f"--config={NAME}"]])
def test_a_shipped_configuration_is_found_and_read(words):
    found = with_shipped([*words, "--name", "mine"])
    path = Path(found[-3].partition("=")[2] or found[-3])
    assert path.is_file()
    assert path.as_posix().endswith(NAME)
    experiment, _ = read_experiment(found)
    assert experiment.name == "mine"


def test_one_at_hand_comes_first(elsewhere):
    place = elsewhere / NAME
    place.parent.mkdir(parents=True)
    place.write_text("name: other\n")
    assert with_shipped(["--config", NAME]) == ["--config", NAME]


@pytest.mark.parametrize("word", ["study.yaml", "configs/absent.yaml", "configs/../pyproject.toml", "/configs/objectives/ntxent.yaml", "configs"])
def test_other_words_stay_as_they_are(word):
    assert with_shipped(["--config", word, "--config"]) == ["--config", word, "--config"]


def test_the_command_line_finds_it(capsys):
    assert cli.main(["pretrain", "--config", NAME, "--pretraining.no_such_key", "3"]) == cli.WRONG_INPUT
    assert "no_such_key" in capsys.readouterr().err
    assert cli.main(["pretrain", "--config", "configs/absent.yaml"]) == cli.WRONG_INPUT
    assert "absent.yaml" in capsys.readouterr().err


def test_a_shipped_study_is_known_as_one(capsys):
    assert cli.main(["evaluate", "--config", "configs/studies/scale.yaml", "--help"]) == cli.DONE
    assert "YAML file of the study" in capsys.readouterr().out
