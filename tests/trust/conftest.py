"""What the tests of trust share: the configuration of a small run, every verb that writes, processes that run one and fail when told."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
OTHERS = {"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 32, "sites": 2, "effect": 1.5, "seed": 5, "name": "others"}}
STAGES = [{"name": "others", "cohort": OTHERS, "epochs": 1}, {"name": "own", "epochs": 1}]
META = {
    "name": "meta",
    "sources": [{"cohort": OTHERS, "target": "diagnosis"}],
    "target": {"cohort": {"path": "cohort"}, "target": "diagnosis", "by_site": False},
    "strategy": "meta",
    "compare": ["joint"],
    "encoder": {"class_path": "graphssl.encoders.MLP", "init_args": {"width": 8}},
    "settings": {"max_epochs": 2, "steps_per_epoch": 2, "n_support": 3, "n_query": 3, "accelerator": "cpu"},
    "adaptation": {"n_support": [2], "n_draws": 2, "n_steps": 2},
}
IMAGES = {
    "cohort": {"adapter": "simulate_images", "arguments": {"n_subjects": 24, "size": 8, "n_sites": 1, "effect": 3.0}},
    "images": {"size": [8, 8]},
    "encoder": {"class_path": "graphssl.encoders.ResNet", "init_args": {"width": 4, "blocks": [1], "stem": "small", "norm": "group"}},
}
STUDY = {
    "name": "study",
    "questions": [{"title": "Does it help?", "axes": {"start": None}, "compare": {"start": "scratch"}}],
    "base": {
        "evaluation": {"protocol": "k_fold", "n_splits": 2, "seeds": [0]},
        "pretraining": {"max_epochs": 1},
        "cell": {"validation_fraction": 0.25, "steps": {"n_steps": 2, "batch_size": 8, "n_checks": 2}},
    },
    "axes": {
        "start": {"scratch": {"cell": {"pretrain_on": []}}, "restored": {"objective": {"class_path": "graphssl.objectives.Restoration"}}},
    },
    "parts": {"images": {"base": IMAGES}},
}
# Every verb that writes; those of two configurations, and with another kind of run folder, twice.
COMMANDS = {
    "validate": ("validate", "scans", "--atlas", "simulated20", "--missing_regions", "mask", "--schema_out", "columns.yaml"),
    "build": ("build", "scans", "--atlas", "simulated20", "--missing_regions", "mask", "--out", "built", "--quiet"),
    "harmonize": ("harmonize", "cohort", "--out", "even", "--quiet"),
    "convert-atlas": ("convert-atlas", "cohort", "--from", "simulated20", "--to", "simulated24", "--method", "geometry", "--out", "other", "--quiet"),
    "demo": ("demo", "--smoke", "--evaluation.n_jobs", "1", "--quiet"),
    "pretrain": ("pretrain", "--config", "run.yaml", "--quiet"),
    "pretrain in stages": ("pretrain", "--config", "stages.yaml", "--quiet"),
    "meta-train": ("meta-train", "--config", "meta.yaml", "--quiet"),
    "finetune": ("finetune", "--config", "run.yaml", "--quiet"),
    "evaluate": ("evaluate", "--config", "run.yaml", "--quiet"),
    "evaluate a study": ("evaluate", "--config", "study.yaml", "--quiet"),
    "embed": ("embed", "--model", "encoder", "--cohort", "cohort", "--out", "vectors.parquet"),
    "report": ("report", "finished"),
    "explain": ("explain", "finished", "--refits", "0"),
}
# Imports once, then runs each job in a process of its own. At its n-th act of writing below the folder the process is killed (`kill`), or the disk is
# full from then on (`full`): nothing can be made, all can be removed. A job may mount a disk of some bytes on its folder instead, or make that larger
# or read-only.
SERVER = """
import errno, json, os, signal, subprocess, sys
import torch, graphssl.cli, graphssl.experiment.evaluate, graphssl.experiment.meta, graphssl.experiment.study, graphssl.reports
import graphssl.experiment.convert, graphssl.experiment.explain, graphssl.experiment.harmonize, graphssl.experiment.embed
for line in sys.stdin:
    job = json.loads(line)
    if "mount" in job:
        options = ("remount," if os.path.ismount(job["folder"]) else "") + f"size={job['mount']},{job['mode']}"
        status = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", job["folder"]]).returncode
        print(json.dumps(status), file=sys.__stdout__, flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.chdir(job["folder"])
        os.dup2(os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(2, 1)
        here, acts = os.path.join(os.getcwd(), ""), [0]
        def watch(event, arguments):
            makes = event == "os.mkdir" or (
                event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
            writes = makes or event in ("os.rename", "os.remove", "os.rmdir")
            if writes and isinstance(arguments[0], (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(arguments[0])).startswith(here):
                acts[0] += 1
                if acts[0] == job["kill"]:
                    os.kill(os.getpid(), signal.SIGKILL)
                if makes and 0 < job["full"] <= acts[0]:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])
        sys.addaudithook(watch)
        code = graphssl.cli.main(job["words"])
        with open(job["log"] + ".acts", "w") as file:
            file.write(str(acts[0]))
        os._exit(code)
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), file=sys.__stdout__, flush=True)
"""


@dataclass
class Verbs:
    """Runs commands in processes that have imported everything."""

    process: "subprocess.Popen[str]"
    mounts: bool

    def run(self, folder: Path, words: tuple[str, ...], *, kill: int = 0, full: int = 0) -> int:
        """The exit code of a command, minus nine where it was killed; what it says goes to `log` beside the folder."""
        return self._asked(folder=str(folder), words=words, log=f"{folder}.log", kill=kill, full=full)

    def mount(self, folder: Path, n_bytes: int, mode: str = "rw") -> None:
        """A disk of so many bytes at a folder, or make it so large, or read-only (`"ro"`)."""
        assert self._asked(folder=str(folder), mount=n_bytes, mode=mode) == 0

    def seen(self, folder: Path) -> Path:
        """The folder as the commands see it."""
        return Path(f"/proc/{self.process.pid}/root{folder}")

    def _asked(self, **job: Any) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="session")
def configuration() -> Callable[..., dict[str, Any]]:
    """The configuration of the small run, with other epochs and baselines: `configuration(epochs=2, baselines=("logistic_correlation",))`."""

    def make(epochs: int = 2, baselines: tuple[str, ...] = ("logistic_correlation",)) -> dict[str, Any]:
        made: dict[str, Any] = copy.deepcopy(CONFIGURATION)
        made["pretraining"]["max_epochs"] = made["finetuning"]["max_epochs"] = epochs
        made["evaluation"]["baselines"] = list(baselines)
        return made

    return make


@pytest.fixture(scope="session")
def commands() -> dict[str, tuple[str, ...]]:
    """Every command that writes, by name."""
    return COMMANDS


@pytest.fixture(scope="session")
def verbs() -> Iterator[Verbs]:
    """Runs a command that is killed or finds no room at its n-th act of writing: `verbs.run(folder, words, kill=3)`.

    What it mounts nobody else sees, where the system grants that.
    """
    own = ["unshare", "--mount", "--map-root-user"]
    mounts = shutil.which("unshare") is not None and subprocess.run([*own, "true"], check=False, capture_output=True).returncode == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    words = [*(own if mounts else ()), sys.executable, "-c", SERVER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield Verbs(process, mounts)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands start from: scans, a saved cohort and configurations."""
    folder: Path = tmp_path_factory.mktemp("start")
    cohort = simulate(atlases=[load_atlas("simulated20")], n_subjects=24, sites=2, seed=1).cohort
    cohort.save(folder / "cohort")
    (folder / "scans").mkdir()
    for subject, series in cohort.regions["simulated20"].values.items():
        pd.DataFrame(series).to_csv(folder / "scans" / f"{subject}.tsv", sep="\t", index=False, header=False)
    for name, content in (
        ("run", CONFIGURATION),
        ("stages", {**CONFIGURATION, "name": "staged", "stages": STAGES}),
        ("meta", META),
        ("study", STUDY),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="session")
def finished(verbs: Verbs, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, int]]:
    """Beginning and end of a command nobody stopped, and how often it wrote: `finished(name)`. Those that need a model or a run are given one."""
    known: dict[str, tuple[Path, Path, int]] = {}

    def of(name: str) -> tuple[Path, Path, int]:
        if name not in known:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-")) / "work"
            prepared(name, folder)
            shutil.copytree(folder, folder.with_name("before"))
            assert verbs.run(folder, COMMANDS[name]) == 0, Path(f"{folder}.log").read_text()
            known[name] = folder.with_name("before"), folder, int(Path(f"{folder}.log.acts").read_text())
        return known[name]

    def prepared(name: str, folder: Path) -> None:
        shutil.copytree(start, folder)
        if name == "embed":
            shutil.copytree(of("pretrain")[1] / "runs" / "run" / "encoder", folder / "encoder")
        if name in ("report", "explain"):
            shutil.copytree(of("evaluate")[1] / "runs" / "run", folder / "finished")

    return of


@pytest.fixture(scope="session")
def made_by() -> Callable[[Path], dict[str, Any]]:
    """What a command has made in a folder, by name of the file, without the time it took: `made_by(folder)`."""
    return contents


def contents(folder: Path) -> dict[str, Any]:
    left_out = ("SHA256SUMS", "report.html", "last.ckpt", ".lock")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in left_out)
    return {path.relative_to(folder).as_posix(): content(path) for path in paths}


def content(path: Path) -> Any:
    """Content of a file; None where it holds the time at which it was made, or how long that took."""
    if path.name == "results.jsonl":
        return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in path.read_text().splitlines()]
    if path.parent.name in ("units", "cells") or path.suffix in (".npz", ".png"):
        return None
    if path.suffix == ".parquet":
        return pd.read_parquet(path).filter(regex="^(?!.*seconds)").to_csv()
    if path.name in ("history.csv", "study.csv"):
        return pd.read_csv(path).filter(regex="^(?!.*seconds)").to_csv()
    if path.name == "manifest.json":
        return {key: value for key, value in json.loads(path.read_text()).items() if key not in ("created", "command", "git_commit")}
    return path.read_bytes()
