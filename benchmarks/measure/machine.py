"""Where and with what a benchmark was run; no name of a host, for it says nothing."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import graphssl

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "torch-geometric", "nilearn", "monai", "faiss-cpu", "POT", "lightly", "learn2learn")


def circumstances() -> dict[str, Any]:
    """Version and commit of ours, day, machine, how many processes want to run on it now, and versions of the others."""
    return {
        "version": graphssl.__version__,
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "load": round(os.getloadavg()[0]),
        "packages": packages(),
    }


def commit() -> str:
    """Short hash, with a plus where the code differs from it."""
    try:
        head = _git("rev-parse", "--short=9", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "graphssl", "benchmarks", ":!benchmarks/records.json") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """Processor, cores, memory, system and Python in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    return f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} on {platform.machine()}, {python}"


def processor() -> str:
    """The model as the system names it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown processor")


def packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
