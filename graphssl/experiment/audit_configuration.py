"""What an audit may read of the configuration in a run folder, which somebody else may have written."""

from pathlib import Path
from typing import Any

import yaml

from graphssl.experiment.audit_check import NotCheckedError
from graphssl.folders import ordinary


def check_readable(folder: Path, *, adapter: bool) -> None:
    """Whether a configuration may be read: it names no code from elsewhere, and the whole data.

    Args:
        folder: The run folder.
        adapter: Whether the adapter would be called too.

    Raises:
        NotCheckedError: If not.
    """
    text = ordinary(folder / "config.yaml").read_text(encoding="utf-8")
    strange = _foreign(yaml.safe_load(text), adapter=adapter)
    if strange:
        raise NotCheckedError(f"the configuration names code outside of graphssl ({strange[0]}), which is not run; --cohort gives the data")
    if "# one step of a run, by --smoke" in text:
        raise NotCheckedError("a smoke run takes some subjects only, which are not known afterwards")


def _foreign(value: Any, *, adapter: bool, key: str = "") -> list[str]:
    """Names of code outside of graphssl that a configuration would import."""
    if isinstance(value, dict):
        return [name for entry, inner in value.items() for name in _foreign(inner, adapter=adapter, key=str(entry))]
    if isinstance(value, list):
        return [name for inner in value for name in _foreign(inner, adapter=adapter, key=key)]
    named = key == "class_path" or (key == "adapter" and adapter)
    return [value] if named and isinstance(value, str) and "." in value and not value.startswith("graphssl.") else []
