"""What `graphssl audit` does: look at a run folder with distrust, and say of each claim in it whether it holds."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from graphssl.errors import RunFolderError
from graphssl.experiment.audit_check import Check, FoundError, NotCheckedError, checked, expect_none
from graphssl.experiment.audit_evaluation import EvaluationAudit
from graphssl.experiment.audit_meta import MetaAudit
from graphssl.experiment.runs import read_manifest, run_hash
from graphssl.folders import ordinary
from graphssl.seal import broken
from graphssl.training.checkpoint import read_checkpoint
from graphssl.training.model import Model


def audit_run(run: str | os.PathLike[str], *, cohort: str | os.PathLike[str] | None = None, shuffle: bool = False) -> list[Check]:
    """Check everything that a run folder says of itself; nothing in it is changed.

    Its files are compared with their hashes, its configuration and data with the manifest, its splits with the cohort and the protocol, its results
    with its predictions, these with splits and labels; its models are read, and the control with shuffled labels is looked up. What a configuration
    names outside of graphssl is not imported.

    Args:
        run: The run folder.
        cohort: Saved cohort that the run was of; what its configuration names when left out.
        shuffle: Whether to fit the cheapest baseline of the run on shuffled labels now, five times a split.

    Returns:
        The checks, in the order in which they were made.

    Raises:
        RunFolderError: If there is no run folder.
    """
    folder = Path(run)
    if not folder.is_dir() or not (folder / "manifest.json").is_file():
        raise RunFolderError(f"Expected a run folder with manifest.json at {folder}, found none. Give the folder of a run, such as runs/demo.")
    found = [*checked("files: as they were sealed", lambda: _files(folder))]
    try:
        manifest = read_manifest(folder)
    except RunFolderError as error:
        return [*found, Check("manifest: whole", "finding", str(error))]
    found += checked("configuration: that of the run", lambda: _configuration(folder, manifest))
    found += checked("versions: those installed here", lambda: _versions(manifest))
    found += checked("models: whole", lambda: _models(folder))
    if manifest.get("verb") == "meta-train":
        meta = MetaAudit(folder, manifest)
        found += checked("data: those of the run", meta.read_data)
        found += checked("leakage: no subject of a target in a source", meta.apart)
        return found
    evaluation = EvaluationAudit(folder, manifest)
    found += checked("data: those of the run", lambda: evaluation.read_data(cohort))
    if (folder / "splits.json").is_file():
        for about, check in evaluation.checks().items():
            found += checked(about, check)
        if shuffle:
            found += checked("shuffled labels: fitted now", evaluation.shuffled_now)
    return found


def audit_text(checks: Sequence[Check]) -> str:
    """The checks as lines, findings marked."""
    marks = {"fine": " ok ", "finding": "BAD ", "not checked": "  – "}
    width = max(len(check.about) for check in checks)
    lines = [f"{marks[check.status]} {check.about:<{width}}  {check.found}" for check in checks]
    n = sum(check.status == "finding" for check in checks)
    n_open = sum(check.status == "not checked" for check in checks)
    return "\n".join([*lines, f"{n} finding{'' if n == 1 else 's'}, {n_open} of {len(checks)} not checked"])


def as_records(checks: Sequence[Check]) -> list[dict[str, str]]:
    """The checks in plain values, for JSON."""
    return [asdict(check) for check in checks]


def _files(folder: Path) -> str:
    expect_none(broken(folder))
    return "every file has the hash in SHA256SUMS, and there is no other"


def _configuration(folder: Path, manifest: dict[str, Any]) -> str:
    found = run_hash(ordinary(folder / "config.yaml").read_text(encoding="utf-8"))
    if found != manifest.get("run_hash"):
        raise FoundError([f"config.yaml has the hash {found}, the manifest says {manifest.get('run_hash')}"])
    return f"config.yaml has the hash {found} of the manifest"


def _versions(manifest: dict[str, Any]) -> str:
    here = {}
    for package in manifest["versions"]:
        try:
            here[package] = version(package)
        except PackageNotFoundError:
            continue
    other = [f"{package} {manifest['versions'][package]} (here {found})" for package, found in here.items() if found != manifest["versions"][package]]
    if other:
        raise NotCheckedError(f"the run was made with {', '.join(other)}: its numbers may differ in the last digits from what is found here")
    return f"{len(here)} packages, the same versions as in the manifest"


def _models(folder: Path) -> str:
    read = []
    for name in ("encoder", "target_encoder", "model"):
        if (folder / name).is_dir():
            Model.from_pretrained(folder / name)
            read.append(name)
    checkpoints = sorted((folder / "checkpoints").rglob("*.ckpt"))
    for path in checkpoints:
        read_checkpoint(path)
    if not read and not checkpoints:
        raise NotCheckedError("there are none")
    return f"{', '.join(read) or 'no models'} and {len(checkpoints)} checkpoint(s) were read without unpickling"
