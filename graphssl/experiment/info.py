"""What this installation is and has: versions, extras, devices, and the data found in the folders that it was told of."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

from graphssl.atlases import list_atlases
from graphssl.atlases.table import TABLE_SUFFIXES
from graphssl.atlases.volume import VOLUME_SUFFIXES
from graphssl.datasets import recognise
from graphssl.errors import InputError

# Extras of those who work on graphssl itself.
_OF_DEVELOPERS = ("dev", "docs")
_PAGES = ("", ".md", ".txt", ".rst", ".html", ".pdf")
_DEEPEST = 3
_MOST = 30


def report_info() -> tuple[str, dict[str, Any]]:
    """Versions, extras, devices and data, as text for a person and as a record for a machine.

    Data are what lies in the folders of environment variables that begin with `GRAPHSSL_`: atlases by name in those of `GRAPHSSL_ATLASES`, and in
    others each folder with what it is recognised as. Names of files are read, and one file where names say nothing.

    Returns:
        The text and the record.
    """
    core, extras = _packages()
    record: dict[str, Any] = {
        "graphssl": version("graphssl"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": core,
        "extras": extras,
        "devices": _devices(),
        "atlases": list(list_atlases()),
        "folders": {name: _folders(name, value) for name, value in sorted(os.environ.items()) if name.startswith("GRAPHSSL_")},
    }
    return "\n".join(_lines(record)), record


# The screen


def _lines(record: dict[str, Any]) -> Iterator[str]:
    yield f"graphssl {record['graphssl']} on Python {record['python']}, {record['system']}"
    shown = ", ".join(f"{name} {found or 'MISSING'}" for name, found in record["packages"].items())
    yield f"Packages  {shown}"
    for name, packages in record["extras"].items():
        missing = [package for package, found in packages.items() if found is None]
        if missing and name in _OF_DEVELOPERS:
            continue
        yield f"Extra     {name:<9} " + (f"lacks {', '.join(missing)}: pip install 'graphssl[{name}]'" if missing else "installed")
    for device in record["devices"]:
        yield f"Device    {device['name']}: {device['what']}"
    yield f"Atlases   {', '.join(record['atlases'])}, simulated<N>, or a file"
    yield from _folder_lines(record["folders"])


def _folder_lines(folders: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    if not folders:
        yield "Data      no variable GRAPHSSL_… names a folder. In GRAPHSSL_ATLASES atlases are looked for by name; `graphssl demo` needs no data."
    for variable, places in folders.items():
        for place in places:
            if not place["exists"]:
                yield f"Data      {variable}: {place['folder']} is no folder. Mend or unset the variable."
                continue
            yield f"Data      {variable}: {place['folder']}" + ("" if place["found"] else ", nothing that is known")
            width = max((len(entry["name"]) for entry in place["found"]), default=0)
            yield from (f"            {entry['name']:<{width}}  {entry['what']}" for entry in place["found"][:_MOST])
            if len(place["found"]) > _MOST:
                yield f"            and {len(place['found']) - _MOST} more"


# What is there


def _packages() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Versions of what is always needed, and by extra; None where a package is absent. What is not for this Python or system is left out."""
    wanted = [Requirement(line) for line in requires("graphssl") or []]
    # What torch says of itself names the CUDA release that it was built for, which its metadata may not.
    core = {need.name: torch.__version__ if need.name == "torch" else _version(need.name) for need in wanted if _applies(need, "")}
    names = metadata("graphssl").get_all("Provides-Extra") or []
    extras = {name: {need.name: _version(need.name) for need in wanted if need.name not in core and _applies(need, name)} for name in names}
    return core, {name: packages for name, packages in extras.items() if packages}


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    found = [{"name": "cpu", "what": f"{_n_cores()} cores, {_gib(memory)} memory, {torch.get_num_threads()} threads in use"}]
    for k in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(k)
        found.append({"name": f"cuda:{k}", "what": f"{card.name}, {_gib(card.total_memory)}, capability {card.major}.{card.minor}"})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "what": "the graphics unit of this Mac"})
    return found


def _n_cores() -> int:
    """Cores that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.0f} GiB"


def _folders(variable: str, value: str) -> list[dict[str, Any]]:
    look = _atlases if variable == "GRAPHSSL_ATLASES" else _data
    places = [Path(folder) for folder in value.split(os.pathsep) if folder]
    return [{"folder": str(place), "exists": place.is_dir(), "found": list(look(place)) if place.is_dir() else []} for place in places]


def _atlases(place: Path) -> Iterator[dict[str, str]]:
    """The names by which atlases are found there."""
    for path in sorted(place.rglob("*")):
        ending = next((suffix for suffix in (*VOLUME_SUFFIXES[::-1], *TABLE_SUFFIXES) if path.name.lower().endswith(suffix)), None)
        if ending is not None:
            yield {"name": path.name[: -len(ending)], "what": "a label volume" if ending in VOLUME_SUFFIXES else "a table, if its columns are those"}


def _data(place: Path, depth: int = 0) -> Iterator[dict[str, str]]:
    """What the folders below are recognised as; one that holds nothing but folders and pages is looked into."""
    for entry in sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")):
        own = [path for path in entry.iterdir() if path.is_file() and path.suffix.lower() not in _PAGES]
        if own or depth + 1 == _DEEPEST:
            yield {"name": entry.name, "what": _recognised(entry)}
        else:
            yield from ({**found, "name": f"{entry.name}/{found['name']}"} for found in _data(entry, depth + 1))


def _recognised(place: Path) -> str:
    try:
        return recognise(place).what
    except (InputError, OSError):
        return "not recognised"
