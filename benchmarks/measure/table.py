"""The one table of all benchmarks: records on disk, and the part of a page between two comments."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure.machine import ROOT
from measure.records import Record

FOLDER = ROOT / "benchmarks"
RECORDS = FOLDER / "records.json"
PAGE = ROOT / "docs" / "reference" / "performance.md"
BEGIN, END = "<!-- begin: made by `make bench` -->", "<!-- end: made by `make bench` -->"
COLUMNS = (
    *("benchmark", "what", "peer", "ratio", "goal", "MiB, ours", "MiB, peer's"),
    *("time grows", "memory grows", "sizes", "ours ÷ CPU floor", "ours ÷ GPU floor", "same result"),
)
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
NOTHING, NO_GPU = "–", "no GPU was at hand"

# By file: `version`, `commit`, `date`, `machine`, `load`, `packages`, and the `records`.
Runs = Mapping[str, Mapping[str, Any]]


def load(path: Path = RECORDS) -> dict[str, Any]:
    """What is saved; nothing where nothing is."""
    return json.loads(path.read_text()) if path.is_file() else {}


def save(runs: Runs, path: Path = RECORDS, page: Path = PAGE) -> None:
    """Write the records, and the table into the page."""
    path.write_text(json.dumps(dict(sorted(runs.items())), indent=1, ensure_ascii=False) + "\n")
    missing = ", ".join(f"`{name}`" for name in NAMES if name not in runs)
    page.write_text(placed(page.read_text(), text_of(runs) + (f"\nNot in the table yet: {missing}.\n" if missing else "")))


def placed(page: str, text: str) -> str:
    """The page with another text between the two comments.

    Raises:
        ValueError: Where it does not hold each comment once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected a page that holds {BEGIN!r} and {END!r} once each, found {page.count(BEGIN)} and {page.count(END)}. Put them in.")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def text_of(runs: Runs) -> str:
    """The table, and under it where and when each file was run."""
    rows = [cells(name, part) for name, run in sorted(runs.items()) for part in run["records"]]
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)]
    return "\n".join(["", *lines, "", *_sources(runs)])


def cells(name: str, part: Record) -> list[str]:
    """A row."""
    first = [f"`{name}`", part["name"], part["peer"] or NOTHING]
    if "absent" in part:
        return [*first, part["absent"], *[NOTHING] * (len(COLUMNS) - 4)]
    return [
        *first,
        _ratio(part),
        _goal(part),
        f"{part['ours_mib']:,.0f}",
        f"{part['peer_mib']:,.0f}" if part.get("peer_mib") else NOTHING,
        *_growth(part),
        *_floors(part),
        _same(part),
    ]


def _ratio(part: Record) -> str:
    if "ratio" not in part:
        return NOTHING
    low, high = part["ratio_range"]
    return f"**{part['ratio']:g}** ({low:g}–{high:g})" if part["repeats"] > 1 else f"**{part['ratio']:g}**"


def _goal(part: Record) -> str:
    return f"{part['goal']}: {'met' if part['met'] else '**missed**'}" if part["goal"] else NOTHING


def _growth(part: Record) -> list[str]:
    """Slopes of time and of memory, ours and the peer's, and the sizes they were found over."""
    found = part["growth"]
    if not found:
        return [NOTHING] * 3
    slopes = [[found[f"{side}_{what}"] for side in ("ours", "peer") if f"{side}_{what}" in found] for what in ("time", "memory")]
    words = [" / ".join(NOTHING if slope is None else f"{slope:g}" for slope in both) for both in slopes]
    return [*words, f"{', '.join(f'{size:,}' for size in found['sizes'])} {found['unit']}"]


def _floors(part: Record) -> list[str]:
    found = part["floor"]
    if not found:
        return [NOTHING] * 2
    return [f"{found['ratio']:g} ({found['what']})", f"{found['gpu_ratio']:g}" if found["gpu_ratio"] else NO_GPU]


def _same(part: Record) -> str:
    if part["difference"] is None:
        return part["compared"] or ({True: "yes", False: "**no**", None: NOTHING}[part["equal"]])
    return f"{'yes' if part['equal'] else '**no**'}: {part['compared']}, {part['difference']:.0e}"


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


def _sources(runs: Runs) -> list[str]:
    """Files by what they were run with, most files first, and how busy the machine was."""
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for name, run in sorted(runs.items()):
        versions = ", ".join(f"{package} {number}" for package, number in run["packages"].items())
        groups.setdefault((run["date"], run["version"], run["commit"], run["machine"], versions), {})[name] = run["load"]
    lines = []
    for (date, version, commit, machine, versions), loads in sorted(groups.items(), key=lambda group: -len(group[1])):
        names = ", ".join(f"`{name}`" for name in loads)
        lines.append(f"{names}: {date}, graphssl {version} at {commit}, on {machine}, with {_busy(list(loads.values()))}; {versions}.\n")
    return lines


def _busy(loads: Sequence[int]) -> str:
    """The load of the system, which counts processes that run or wait to."""
    least, most = min(loads), max(loads)
    return f"{least} processes at work" if least == most else f"{least} to {most} processes at work"
