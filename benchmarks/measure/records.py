"""What a comparison of ours with a peer found, as the record that every benchmark prints and the table of the documentation shows."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# CPU seconds and MiB of each repetition.
Costs = Sequence[tuple[float, float]]
Record = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What was asked for before anything was measured.

    Args:
        ratio: How often the peer's time must hold ours, at the least.
        seconds: Our time, at the most.
        mib: Our memory in MiB, at the most.
        growth: Slope of the logarithm of our time over that of the size, at the most.
    """

    ratio: float | None = None
    seconds: float | None = None
    mib: float | None = None
    growth: float | None = None

    def words(self) -> str:
        parts = ((self.ratio, "≥ {:.3g}×"), (self.seconds, "≤ {:g} s"), (self.mib, "≤ {:,.0f} MiB"), (self.growth, "slope ≤ {:g}"))
        return ", ".join(form.format(limit) for limit, form in parts if limit is not None)

    def met(self, found: Record) -> bool:
        growth = found["growth"]
        return (
            (self.ratio is None or found["ratio"] >= self.ratio)
            and (self.seconds is None or found["ours_seconds"] <= self.seconds)
            and (self.mib is None or found["ours_mib"] <= self.mib)
            and (self.growth is None or (growth is not None and growth["ours_time"] <= self.growth))
        )


class Agreement(NamedTuple):
    """How results of ours and of a peer were compared.

    Args:
        how: What was compared, in which precision, at which size.
        difference: The largest that was found.
        tolerance: The largest that passes for none.
    """

    how: str
    difference: float
    tolerance: float


class Floor(NamedTuple):
    """What the bare operations of a library take, which everybody has to pay.

    Args:
        what: The operations.
        cpu: Costs on one thread, each measured in the same round as ours.
        gpu_seconds: Seconds on a GPU; None where none was at hand.
    """

    what: str
    cpu: Costs
    gpu_seconds: float | None = None


def record(
    name: str,
    peer: str,
    mine: Costs,
    theirs: Costs,
    equal: bool | Agreement | str | None = None,
    *,
    goal: Goal | None = None,
    growth: Record | None = None,
    floor: Floor | None = None,
) -> Record:
    """Medians of the seconds, highest peaks of memory, and the peer's seconds over ours: median, least and greatest of the pairs.

    Args:
        name: What was done, with its size.
        peer: Who else did it; empty where nobody did, with no costs of theirs.
        mine: Our costs.
        theirs: The peer's, each measured right after ours.
        equal: Whether results agree; in words where they need not, for the work is another.
        goal: What was asked for.
        growth: What `growth` gives.
        floor: Bare operations.
    """
    agreement = equal if isinstance(equal, Agreement) else None
    found: Record = {"name": name, "peer": peer, "ours_seconds": middle(mine), "ours_mib": peak(mine), "repeats": len(mine)}
    if theirs:
        ratios = pairs(theirs, mine)
        shown = [short(ratio) for ratio in (statistics.median(ratios), min(ratios), max(ratios))]
        found |= {"peer_seconds": middle(theirs), "peer_mib": peak(theirs), "ratio": shown[0], "ratio_range": shown[1:], "repeats": len(ratios)}
    return {
        **found,
        "equal": agreement.difference <= agreement.tolerance if agreement else None if isinstance(equal, str) else equal,
        "compared": agreement.how if agreement else equal if isinstance(equal, str) else "",
        "difference": float(f"{agreement.difference:.1e}") if agreement else None,
        "growth": growth,
        "floor": floor and _beside_floor(mine, floor),
        "goal": goal.words() if goal else "",
        "met": goal.met({**found, "growth": growth}) if goal and goal.words() else None,
    }


def _beside_floor(mine: Costs, floor: Floor) -> Record:
    """How often ours holds the floor: on the CPU the median of the pairs; ours is of a CPU beside the GPU, too."""
    on_gpu = floor.gpu_seconds
    return {
        "what": floor.what,
        "cpu_seconds": middle(floor.cpu),
        "ratio": short(statistics.median(pairs(mine, floor.cpu))),
        "gpu_seconds": on_gpu and short(on_gpu),
        "gpu_ratio": on_gpu and short(middle(mine) / on_gpu),
    }


def pairs(these: Costs, those: Costs) -> list[float]:
    """Seconds of the first over those of the second, measurement by measurement."""
    return [this / that for (this, _), (that, _) in zip(these, those, strict=False)]


def absent(name: str, peer: str, why: str) -> Record:
    """A comparison that could not be made here."""
    return {"name": name, "peer": peer, "absent": why}


def growth(unit: str, sizes: Sequence[int], mine: Costs, theirs: Costs = ()) -> Record:
    """Slopes of the logarithms of time and memory over the logarithm of the size, of ours and the peer; None where memory is not told from nothing.

    Args:
        unit: What is counted, such as `patients`.
        sizes: How many, two sizes at least.
        mine: Our costs, one a size.
        theirs: The peer's.
    """
    found: Record = {"unit": unit, "sizes": list(sizes)}
    for side, costs in (("ours", mine), ("peer", theirs)):
        if costs:
            found[f"{side}_time"] = slope(sizes, [seconds for seconds, _ in costs])
            found[f"{side}_memory"] = slope(sizes, [mib for _, mib in costs]) if min(mib for _, mib in costs) >= 1 else None
    return found


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Least squares of the logarithms."""
    found = statistics.linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope
    return round(found, 2) + 0.0  # no minus before a zero


def report(part: Record) -> None:
    """A line for people."""
    if "absent" in part:
        print(f"{part['name']}, {part['peer']}: {part['absent']}", flush=True)
        return
    print(f"{part['name']}: ours {amounts(part, 'ours')}" + _beside(part), flush=True)


def amounts(part: Record, side: str) -> str:
    """Seconds and MiB of a side."""
    return f"{part[f'{side}_seconds']:.4g} s {part[f'{side}_mib']:,.0f} MiB"


def _beside(part: Record) -> str:
    words = ""
    if "ratio" in part:
        low, high = part["ratio_range"]
        words = f" | {part['peer']} {amounts(part, 'peer')} | ratio {part['ratio']:g} ({low:g} to {high:g})"
    if part["goal"]:
        words += f" | goal {part['goal']}{'' if part['met'] else ' MISSED'}"
    if part["difference"] is not None:
        words += f" | largest difference {part['difference']:.1e}"
    if part["floor"]:
        words += f" | {part['floor']['ratio']:g} × floor"
    if part["growth"]:
        words += f" | slope {part['growth']['ours_time']:g} over {part['growth']['unit']}"
    return words + ("   NOT EQUAL" if part["equal"] is False else "")


def middle(costs: Costs) -> float:
    """Median of the seconds."""
    return short(statistics.median(seconds for seconds, _ in costs))


def peak(costs: Costs) -> float:
    """Highest memory."""
    return round(max(mib for _, mib in costs), 1)


def short(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")
