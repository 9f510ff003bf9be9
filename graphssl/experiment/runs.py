"""The run folder: one run, written whole, refused to any other run."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from filelock import BaseFileLock, FileLock, Timeout

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.errors import InputError, RunFolderError
from graphssl.folders import file_written_whole, ordinary, storing
from graphssl.seal import LOCK, seal, unseal

_PACKAGES = ("graphssl", "torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "pandas", "scikit-learn", "nilearn")
# Entries of a configuration that change how a run goes but not what it finds.
_INCIDENTAL = ("config", "output", "n_jobs", "progress", "accelerator", "devices", "nodes")

# Seconds that a part of a run waits for others that open the folder at the same moment.
_PATIENCE = 60.0

# What a run writes before it computes anything.
_BEGINNING = {"manifest.json", "config.yaml", "excluded.csv", "splits.json", LOCK}


class RunFolder:
    """A folder that belongs to one run.

    Args:
        path: The folder.
        verb: The verb that made it.
        configuration: Resolved configuration as YAML.
        writes: Whether this process writes; of several that train together one does.

    Raises:
        RunFolderError: If the folder holds another run, or files that are no run.
    """

    def __init__(self, path: str | os.PathLike[str], verb: str, configuration: str, *, writes: bool = True) -> None:
        self.path, self.verb, self.configuration, self.writes = Path(path), verb, configuration, writes
        self.hash = run_hash(configuration)
        manifest = self.path / "manifest.json"
        if manifest.is_file():
            found = read_manifest(self.path)
            if found.get("run_hash") != self.hash:
                raise RunFolderError(
                    f"Expected {self.path} to be absent or to hold this very run, found another one (made by "
                    f"`graphssl {found.get('verb')}` with another configuration). Choose another name, or remove the folder."
                )
        elif self.path.exists() and (not self.path.is_dir() or any(entry.suffix != ".part" and entry.name != LOCK for entry in self.path.iterdir())):
            raise RunFolderError(f"Expected {self.path} to be absent, empty or a run folder, found other files. Choose another name.")

    def open(self, cohort: Cohort | StreamedCohort, details: dict[str, Any]) -> "RunFolder":
        """Write configuration, manifest and what was left out; goes on with an interrupted run of the same configuration.

        Raises:
            RunFolderError: If the interrupted run had other data.
        """
        if (self.path / "manifest.json").is_file():
            before = read_manifest(self.path)["cohort"]["hash"]
            if before != cohort.hash:
                raise RunFolderError(
                    f"Expected the data of the run in {self.path} (cohort hash {before}), found others (hash {cohort.hash}). Choose another name."
                )
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            unseal(self.path)
        # First of all: a run killed from here on is known as this one.
        self.write_json("manifest.json", {**_environment(), "verb": self.verb, "run_hash": self.hash, "cohort": describe(cohort), **details})
        self.write_text("config.yaml", self.configuration)
        self.write_text("excluded.csv", cohort.excluded.to_csv(index=False))
        return self

    @contextmanager
    def opened(self, cohort: Cohort | StreamedCohort, details: dict[str, Any]) -> Iterator["RunFolder"]:
        """The folder, opened, held against other processes, and sealed at the end; as it is for a process that does not write.

        Where the input turns out wrong before anything was computed, a new one is taken away again.

        Raises:
            RunFolderError: If the interrupted run had other data, or another process writes into the folder.
            StorageError: If the disk is full, or the folder must not be written to; what was finished stays.
        """
        if not self.writes:
            yield self
            return
        is_new = not self.path.exists()
        try:
            with held(self.path):
                self.open(cohort, details)
                yield self
                seal(self.path)
        except InputError:
            if is_new:
                self.forget()
            raise

    @contextmanager
    def opened_in_part(self, cohort: Cohort, details: dict[str, Any], part: str) -> Iterator["RunFolder"]:
        """The folder, opened, held together with processes that compute other parts of the run, and against all others; not sealed at the end.

        Whoever opens it next for itself finds what the parts have done, and seals it.

        Args:
            cohort: The cohort.
            details: What the manifest says beside it.
            part: Name of the part.

        Raises:
            RunFolderError: If the interrupted run had other data, or another process holds the folder for itself or computes this part.
        """
        with _locked(self.path, LOCK, _PATIENCE):  # others open it for their parts at the same moment
            self.open(cohort, details)
            lock = _acquired(self.path, f"{part}{LOCK}")
        try:
            yield self
        finally:
            lock.release()

    def forget(self) -> None:
        """Remove the folder again if nothing but a beginning stands in it."""
        found = {path.name for path in self.path.rglob("*") if path.is_file()}
        if found <= _BEGINNING:
            shutil.rmtree(self.path, ignore_errors=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a file, whole or not at all; nothing from a process that does not write."""
        if not self.writes:
            return
        with file_written_whole(self.path / name) as aside:
            aside.write_text(text, encoding="utf-8")

    def write_json(self, name: str, record: Any) -> None:
        """Write a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(record, indent=1))

    def write_history(self, stages: dict[str, pd.DataFrame]) -> None:
        """Write the losses of every epoch, a row an epoch and stage.

        Args:
            stages: History of each training, by name of the stage.
        """
        named = {stage: f"{stage} " + history["stage"] if "stage" in history else stage for stage, history in stages.items()}
        tables = [history.assign(stage=named[stage], split="all", seed=0) for stage, history in stages.items() if len(history)]
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        first = ["stage", "split", "seed", "epoch"]
        self.write_text("history.csv", table[[*first, *[c for c in table.columns if c not in first]]].to_csv(index=False))

    def write_splits(self, splits: Sequence[Split]) -> None:
        """Write the splits."""
        self.write_json("splits.json", [split.to_dict() for split in splits])


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no other process writes into it at the same time; a process that is killed lets go.

    Args:
        folder: The folder; made where there is none.

    Raises:
        RunFolderError: If another process holds it, or a part of it.
        StorageError: If the disk is full, or the folder must not be written to.
    """
    with _locked(folder, LOCK):
        for path in folder.glob(f"?*{LOCK}"):  # of parts, whose processes may have been killed
            _acquired(folder, path.name).release()
            path.unlink(missing_ok=True)
        yield


@contextmanager
def _locked(folder: Path, name: str, seconds: float = 0) -> Iterator[None]:
    lock = _acquired(folder, name, seconds)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path, name: str, seconds: float = 0) -> BaseFileLock:
    lock = FileLock(folder / name)
    try:
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=seconds)
    except Timeout as error:
        raise RunFolderError(
            f"Expected no other process to write into {folder}, found one. Wait until it is done, stop it, or choose another name."
        ) from error
    return lock


def run_hash(configuration: str) -> str:
    """Twelve hex digits over what of a configuration decides the numbers of its run.

    Args:
        configuration: The resolved configuration as YAML.
    """
    essential = json.dumps(_essential(yaml.safe_load(configuration)), sort_keys=True, default=str)
    return hashlib.sha256(essential.encode()).hexdigest()[:12]


def joint_hash(parts: Sequence[str]) -> str:
    """Twelve hex digits over several hashes, such as those of the splits of a run."""
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        RunFolderError: If it is absent or damaged.
    """
    try:
        return dict(json.loads(ordinary(folder / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:  # absent, not JSON, or no object
        raise RunFolderError(f"Expected a run folder with manifest.json at {folder}, found none that can be read ({error}).") from error


def describe(cohort: Cohort | StreamedCohort) -> dict[str, Any]:
    """A cohort in plain values, for the manifest."""
    if isinstance(cohort, StreamedCohort):
        return {**describe(cohort.known), "hash": cohort.hash, "n_shards": cohort.n_shards}
    sites = cohort.sites
    targets = {name: cohort.subjects[name].value_counts().to_dict() for name in cohort.schema.named("target")}
    return {
        "name": cohort.name,
        "hash": cohort.hash,
        "n_subjects": len(cohort),
        "sites": {} if sites is None else {str(k): int(v) for k, v in sites.value_counts().items()},
        "targets": {name: {str(k): int(v) for k, v in counts.items()} for name, counts in targets.items()},
        "atlases": {
            name: {"n_regions": len(d.atlas), "hash": d.atlas.hash, "n_subjects": len(d), **d.provenance.to_dict()}
            for name, d in cohort.regions.items()
        },
        "images": {name: {"n_images": len(d), "hash": d.hash, "what": repr(d)} for name, d in cohort.images.items()},
        "excluded_count": {str(k): int(v) for k, v in cohort.excluded["what"].value_counts().items()},
    }


def _environment() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "graphssl " + " ".join(sys.argv[1:]),
        "versions": versions,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the code, where it runs from a checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _essential(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _essential(entry) for key, entry in value.items() if key not in _INCIDENTAL}
    if isinstance(value, list):
        return [_essential(entry) for entry in value]
    return value
