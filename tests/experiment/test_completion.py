"""Completion of shells: the scripts know every verb and option, and bash, zsh and fish complete with theirs."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from graphssl import cli
from graphssl.experiment.completion import SHELLS, completion_script


@pytest.fixture(scope="module")
def scripts():
    return {shell: completion_script(cli.VERBS, shell, cli.OTHER_OPTIONS) for shell in SHELLS}


# How each shell is started without anybody's settings, and told of the script and of a program that says its words instead of doing anything.
STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {folder}/graphssl; graphssl() {{ printf 'said=%s\\n' \"$*\"; }}"),
    "zsh": (
        ["zsh", "-f", "-i"],
        'fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; graphssl() {{ print -r -- "said=$*" }}',
    ),
}


def typed(shell, folder, lines):
    """What the words have become after each line was typed at a terminal of its own, followed by the tabulator and return."""
    words, first = STARTS[shell]
    terminal, end = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"}
    process = subprocess.Popen(words, stdin=end, stdout=end, stderr=end, env=environment, cwd=folder, start_new_session=True)
    os.close(end)
    os.write(terminal, "".join([first.format(folder=folder), "\n", *(f"graphssl {line}\t\n" for line in lines), "exit\n"]).encode())
    said, until = b"", time.monotonic() + 60
    try:
        while time.monotonic() < until and select.select([terminal], [], [], 60)[0]:
            said += os.read(terminal, 65536)
    except OSError:  # the terminal is closed: the shell has ended
        pass
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return [line.rstrip() for line in re.findall(r"^said=(.*?)\r?$", said.decode(), re.MULTILINE)]


def offered(folder, lines):
    """The words that fish offers for each line, without their descriptions."""
    asked = "\n".join(["source graphssl", *(f"complete -C 'graphssl {line}' | string split -f 1 \\t | string join ' '" for line in lines)])
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"}
    words = ["fish", "--no-config", "-c", asked]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder, env=environment, timeout=60)
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_every_verb_and_an_option_of_a_configuration(scripts, shell):
    assert [verb for verb in cli.VERBS if verb not in scripts[shell]] == []
    assert "pretraining.max_epochs" in scripts[shell]
    assert "leave_one_site_out" in scripts[shell]


LINES = {
    "meta": "meta-train",
    "evaluate --evaluation.prot": "evaluate --evaluation.protocol",
    "evaluate --evaluation.protocol k": "evaluate --evaluation.protocol k_fold",
    "evaluate --sha": "evaluate --share",
    "validate --kind cov": "validate --kind covariance",
    "pretrain --config st": "pretrain --config study.yaml",
    "completion f": "completion fish",
}


@pytest.fixture
def folder(scripts, tmp_path, request):
    """A home with the script of the shell where it looks for it, and a file; skipped where there is no such shell."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    (tmp_path / ("_graphssl" if shell == "zsh" else "graphssl")).write_text(scripts[shell])
    (tmp_path / "study.yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize(("folder", "shell"), [("bash", "bash"), ("zsh", "zsh")], indirect=["folder"])
def test_a_tabulator_completes_verbs_options_choices_and_files(folder, shell):
    assert typed(shell, folder, LINES) == list(LINES.values())


@pytest.mark.parametrize("folder", ["fish"], indirect=True)
def test_fish_offers_verbs_options_choices_and_files(folder):
    assert offered(folder, [*LINES, "me"]) == [*([whole.split()[-1]] for whole in LINES.values()), ["meta-train", "methods"]]


def test_the_verb_prints_a_script(capsys):
    assert cli.main(["completion", "fish"]) == cli.DONE
    assert "complete -c graphssl" in capsys.readouterr().out
    assert cli.main(["completion", "bash", "--json"]) == cli.DONE
    assert json.loads(capsys.readouterr().out)["shell"] == "bash"
    assert cli.main(["completion", "csh"]) == cli.WRONG_INPUT
    assert "bash" in capsys.readouterr().err
