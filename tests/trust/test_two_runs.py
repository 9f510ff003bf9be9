"""Two runs into one folder: whoever comes second is refused with one sentence, whatever the verb, and changes nothing."""

import shutil
from pathlib import Path

import pytest

from graphssl.experiment.runs import held

# The run folder of each verb that makes one.
RUNS = {"pretrain": "run", "pretrain in stages": "staged", "finetune": "run", "evaluate": "run", "evaluate a study": "study", "meta-train": "meta"}


def refused_while_another_writes(verbs, commands, start, name, target):
    shutil.copytree(start, target)
    run = target / "runs" / RUNS[name]
    with held(run):
        assert verbs.run(target, commands[name]) == 2
        assert [path.name for path in run.iterdir()] == [".lock"]
    assert "Expected no other process to write into" in Path(f"{target}.log").read_text(encoding="utf-8")


def test_the_second_run_is_refused(verbs, commands, start, tmp_path):
    refused_while_another_writes(verbs, commands, start, "pretrain", tmp_path / "second")


@pytest.mark.slow
def test_the_second_run_of_every_verb_is_refused(verbs, commands, start, tmp_path):
    for name in RUNS:
        refused_while_another_writes(verbs, commands, start, name, tmp_path / name)
