"""Runs that are killed at any moment at which they write, and started again with the same command, end as if nothing had happened."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from graphssl.atlases import load_atlas
from graphssl.datasets import simulate

CONFIGURATION = {
    "name": "run",
    "target": "diagnosis",
    "cohort": {"path": "cohort"},
    "encoder": {"class_path": "graphssl.encoders.MLP", "init_args": {"width": 8}},
    "objective": {"class_path": "graphssl.objectives.MaskedRegions"},
    "pretraining": {"max_epochs": 2, "accelerator": "cpu"},
    "finetuning": {"max_epochs": 2, "accelerator": "cpu"},
    "evaluation": {"methods": ["scratch_probe"], "baselines": ["logistic_correlation"], "audited": [], "seeds": [0]},
}
CONFIGURED = ("--config", "run.yaml", "--quiet")
COMMANDS = {
    "build": ("build", "scans", "--atlas", "simulated20", "--missing_regions", "mask", "--out", "built", "--quiet"),
    "harmonize": ("harmonize", "cohort", "--out", "even", "--quiet"),
    "convert-atlas": ("convert-atlas", "cohort", "--from", "simulated20", "--to", "simulated24", "--method", "geometry", "--out", "other", "--quiet"),
    "pretrain": ("pretrain", *CONFIGURED),
    "finetune": ("finetune", *CONFIGURED),
    "evaluate": ("evaluate", *CONFIGURED),
    "embed": ("embed", "--model", "encoder", "--cohort", "cohort", "--out", "vectors.parquet"),
    "report": ("report", "finished"),
    "explain": ("explain", "finished", "--refits", "0"),
}
# Imports once, then runs each job in a process of its own that is killed at its n-th act of writing below the folder (never, where n is 0).
SERVER = """
import json, os, signal, sys
import torch, graphssl.cli, graphssl.experiment.evaluate, graphssl.reports, graphssl.experiment.convert, graphssl.experiment.explain
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(job["folder"])
        os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(2, 1)
        here, acts = os.getcwd(), [0]
        def watch(event, arguments):
            writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
                event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if writes and isinstance(arguments[0], (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(arguments[0])).startswith(here):
                acts[0] += 1
                if acts[0] == job["kill"]:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        code = graphssl.cli.main(job["words"])
        with open(job["folder"] + ".acts", "w") as file:
            file.write(str(acts[0]))
        os._exit(code)
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), file=sys.__stdout__, flush=True)
"""


@dataclass
class Verbs:
    """Runs commands in processes that have imported everything."""

    process: subprocess.Popen

    def run(self, folder: Path, words: tuple[str, ...], kill: int = 0) -> int:
        """The exit code of a command, minus nine where it was killed."""
        self.process.stdin.write(json.dumps({"folder": str(folder), "words": list(words), "kill": kill}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def verbs():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield Verbs(process)
        process.stdin.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """What the commands start from: scans, a saved cohort and a configuration."""
    folder = tmp_path_factory.mktemp("start")
    cohort = simulate(atlases=[load_atlas("simulated20")], n_subjects=24, sites=2, seed=1).cohort
    cohort.save(folder / "cohort")
    (folder / "scans").mkdir()
    for subject, series in cohort.regions["simulated20"].values.items():
        pd.DataFrame(series).to_csv(folder / "scans" / f"{subject}.tsv", sep="\t", index=False, header=False)
    (folder / "run.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    return folder


@pytest.fixture(scope="module")
def finished(verbs, start, tmp_path_factory):
    """The end of a command that nobody stopped, and how often it wrote: `finished(name)`; those that need a model or a run are given one."""
    known = {}

    def of(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name) / "work"
            prepared(name, folder)
            shutil.copytree(folder, folder.with_name("before"))
            assert verbs.run(folder, COMMANDS[name]) == 0, (folder / "log").read_text()
            known[name] = folder.with_name("before"), folder, int(Path(f"{folder}.acts").read_text())
        return known[name]

    def prepared(name, folder):
        shutil.copytree(start, folder)
        if name == "embed":
            shutil.copytree(of("pretrain")[1] / "runs" / "run" / "encoder", folder / "encoder")
        if name in ("report", "explain"):
            shutil.copytree(of("evaluate")[1] / "runs" / "run", folder / "finished")

    return of


def contents(folder):
    """What a command has made, without the time it took."""
    found = {}
    for path in sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in ("log", "SHA256SUMS", "report.html", "last.ckpt", ".lock")
    ):
        name = path.relative_to(folder).as_posix()
        if path.name == "results.jsonl" or "/units/" in name:
            found[name] = None
            if path.name == "results.jsonl":
                found[name] = [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in path.read_text().splitlines()]
        elif path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).to_csv()
        elif path.name == "history.csv":
            found[name] = pd.read_csv(path).filter(regex="^(?!.*seconds)").to_csv()
        elif path.name == "manifest.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("created", "command", "git_commit")}
        elif path.suffix in (".npz", ".png"):
            found[name] = None  # zip archives and figures hold the time they were made
        else:
            found[name] = path.read_bytes()
    return found


def killed_and_resumed(verbs, finished, name, seed, target):
    """Kill a command at a random act of writing, up to three times, and let it end."""
    before, after, n_acts = finished(name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(before, target)
    rng, code, kills = random.Random(f"{name} {seed}"), -9, []
    for _ in range(1 + seed % 3):
        kills.append(rng.randint(1, n_acts))
        code = verbs.run(target, COMMANDS[name], kill=kills[-1])
        assert code in (0, -9), (kills, (target / "log").read_text())
    assert verbs.run(target, COMMANDS[name]) == 0, (kills, (target / "log").read_text())
    ours, wanted = contents(target), contents(after)
    assert ours.keys() == wanted.keys(), kills
    assert [key for key in wanted if ours[key] != wanted[key]] == [], kills


@pytest.mark.parametrize("name", ["build", "pretrain", "embed"])
def test_killed_and_started_again(verbs, finished, tmp_path, name):
    killed_and_resumed(verbs, finished, name, 0, tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_many_times_and_started_again(verbs, finished, tmp_path, name):
    """Six times each verb: fifty-four in all."""
    for seed in range(6):
        killed_and_resumed(verbs, finished, name, seed, tmp_path / "killed")
