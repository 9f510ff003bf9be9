"""Completion of shells: the scripts know every verb and option, and bash completes with its own."""

import json
import shutil
import subprocess

import pytest

from graphssl import cli
from graphssl.experiment.completion import SHELLS, completion_script


@pytest.fixture(scope="module")
def scripts():
    return {shell: completion_script(cli.VERBS, shell) for shell in SHELLS}


def completed(script, *words):
    """What bash offers after the words, the last of which is being typed."""
    typed = f"COMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD={len(words) - 1}"
    asked = f"{script}\n{typed}\n_shtab_graphssl graphssl {words[-1]!r} ''\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    return subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_every_verb_and_an_option_of_a_configuration(scripts, shell):
    assert [verb for verb in cli.VERBS if verb not in scripts[shell]] == []
    assert "pretraining.max_epochs" in scripts[shell]
    assert "leave_one_site_out" in scripts[shell]


def test_bash_completes_verbs_options_choices_and_files(scripts, tmp_path, monkeypatch):
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text("")
    script = scripts["bash"]
    assert completed(script, "graphssl", "me") == ["meta-train", "methods"]
    assert completed(script, "graphssl", "evaluate", "--evaluation.prot") == ["--evaluation.protocol"]
    assert completed(script, "graphssl", "evaluate", "--evaluation.protocol", "k") == ["k_fold"]
    assert completed(script, "graphssl", "validate", "--kind", "cov") == ["covariance"]
    assert completed(script, "graphssl", "pretrain", "--config", "st") == ["study.yaml"]
    assert completed(script, "graphssl", "completion", "f") == ["fish"]


def test_the_verb_prints_a_script(capsys):
    assert cli.main(["completion", "fish"]) == cli.DONE
    assert "complete -c graphssl" in capsys.readouterr().out
    assert cli.main(["completion", "bash", "--json"]) == cli.DONE
    assert json.loads(capsys.readouterr().out)["shell"] == "bash"
    assert cli.main(["completion", "csh"]) == cli.WRONG_INPUT
    assert "bash" in capsys.readouterr().err
