"""A benchmark: inputs, ours, peers and a check, measured in alternation and at growing sizes."""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure.forked import measure
from measure.records import Agreement, Costs, Floor, Goal, Record, absent, growth, record, report
from threadpoolctl import threadpool_limits

# Makes ready, untimed, what is then called and timed.
Side = Callable[[Any], Callable[[], object]]
# Names of the sides that every case has or may have.
OURS, FLOOR = "ours", "floor"
# Seconds over which short work is repeated within one measurement, and those that a call takes at the least.
LASTING, SHORTEST = 0.2, 1e-6


@dataclass(frozen=True)
class Peer:
    """Somebody else who does the work.

    Args:
        name: Who.
        side: Their way, of the same inputs.
        goal: What is asked of ours beside it.
        differs: In which way the work is another, where results cannot be compared.
        scale: What the time of the inputs is multiplied by, where only a share of the work is done.
        recorded: Seconds and MiB found once elsewhere, in the place of a side.
        absent: Why there is no side here.
        repeats: How often it is measured at the most.
    """

    name: str
    side: Side | None = None
    goal: Goal | None = None
    differs: str = ""
    scale: Callable[[Any], float] | None = None
    recorded: tuple[float, float] | None = None
    absent: str = ""
    repeats: int = 99


@dataclass(frozen=True)
class Bare:
    """Bare operations of a library, which everybody has to pay.

    Args:
        what: The operations, in words.
        side: Makes them ready on a device (`cpu` or `cuda`).
    """

    what: str
    side: Callable[[Any, str], Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """One thing that is done by ours and by peers.

    Args:
        name: What is done; `{}` stands for the size.
        sizes: Growing sizes; what is compared is the last.
        smoke: The same for a quick look.
        inputs: Makes the inputs of a size, once, before any process is forked.
        ours: Our way.
        peers: Others; with none, our costs stand alone.
        check: Compares results of the smallest inputs, by name of peer; runs in a process of its own.
        floor: Bare operations of the same inputs.
        goal: What is asked of ours where there is no peer.
        unit: What a size counts.
        warm: Whether a first call goes untimed; if not, every measurement is one call in a fresh process, with all that this costs.
    """

    name: str
    sizes: Sequence[int]
    smoke: Sequence[int]
    inputs: Callable[[int], Any]
    ours: Side
    peers: Sequence[Peer] = ()
    check: Callable[[Any], Mapping[str, Agreement]] | None = None
    floor: Bare | None = None
    goal: Goal | None = None
    unit: str = "subjects"
    warm: bool = True


def main(description: str | None, cases: Sequence[Case] | Callable[[argparse.Namespace], Iterable[Record]]) -> None:
    """The command of a benchmark: measures the cases (or calls what gives records, for work of another shape) and prints a line each.

    Args:
        description: What `--help` says; the file's own words.
        cases: What is measured, or a function of the options `repeats` and `smoke`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: that it runs, not how fast")
    parser.add_argument("--repeats", type=int, help="pairs of measurements (3; 1 with --smoke)")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--json", action="store_true", help="print the records as one line of JSON, last")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.smoke else 3)
    one_thread()
    chosen = () if callable(cases) else [case for case in cases if not options.only or options.only in case.name]
    parts = []
    for part in cases(options) if callable(cases) else (part for case in chosen for part in compare(case, options.repeats, smoke=options.smoke)):
        report(part)
        parts.append(part)
    if options.json:
        hardest = min((part for part in parts if "ratio" in part), key=lambda part: part["ratio"], default={})
        print(json.dumps({**hardest, "name": Path(sys.argv[0]).stem, "parts": parts}, ensure_ascii=False))


def one_thread() -> None:
    """One thread for every library, those that are loaded later included."""
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    threadpool_limits(1)


def compare(case: Case, repeats: int, *, smoke: bool = False) -> Iterator[Record]:
    """Records of a case, one a peer."""
    sizes = case.smoke if smoke else case.sizes
    lasting = 0.0 if smoke else LASTING
    smaller = [costs_of(case, size, 1, lasting) for size in sizes[:-1]]
    largest = costs_of(case, sizes[-1], repeats, lasting)
    found = agreements(case, sizes[0])
    floor = Floor(case.floor.what, largest[FLOOR], on_gpu(case.floor, case.inputs(sizes[-1]))) if case.floor else None
    title = case.name.format(f"{sizes[-1]:,}")
    for peer in case.peers or [Peer("", goal=case.goal)]:
        if peer.recorded and smoke:  # at another size
            continue
        if peer.absent:
            yield absent(title, peer.name, peer.absent)
            continue
        grown = grown_of(case.unit, sizes, [*smaller, largest], peer.name)
        theirs = largest.get(peer.name, [peer.recorded] * repeats if peer.recorded else ())
        equal = found.get(peer.name, peer.differs or None)
        yield record(title, peer.name, largest[OURS], theirs, equal, goal=peer.goal, growth=grown, floor=floor)


def costs_of(case: Case, size: int, repeats: int, lasting: float) -> dict[str, Costs]:
    """Costs by side, of ours and the floor among them; every round goes once through all sides."""
    inputs = case.inputs(size)
    bare = case.floor
    sides: dict[str, tuple[Side, int]] = {OURS: (case.ours, repeats)}
    sides |= {peer.name: (peer.side, peer.repeats) for peer in case.peers if peer.side}
    sides |= {FLOOR: (lambda given: bare.side(given, "cpu"), repeats)} if bare else {}
    scales = {peer.name: peer.scale(inputs) for peer in case.peers if peer.scale}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name, (side, most) in sides.items():
            if turn < most:
                seconds, mib = cost(side, inputs, lasting if case.warm else None)
                found[name].append((seconds * scales.get(name, 1.0), mib))
    return found


def cost(side: Side, inputs: Any, lasting: float | None) -> tuple[float, float]:
    """CPU seconds of a call and MiB at the peak of a process of its own: of the first call, or of later ones that last so many seconds together."""
    seconds, _, mib = measure(lambda: _timed(side(inputs), lasting))
    return seconds, mib


def _timed(work: Callable[[], object], lasting: float | None) -> float:
    if lasting is None:
        return _lasting(work, 1)
    work()
    once = _lasting(work, 1)
    return once if once >= lasting else _lasting(work, math.ceil(lasting / max(once, SHORTEST)))


def _lasting(work: Callable[[], object], n_calls: int) -> float:
    start = time.process_time()
    for _ in range(n_calls):
        work()
    return (time.process_time() - start) / n_calls


def grown_of(unit: str, sizes: Sequence[int], costs: Sequence[Mapping[str, Costs]], peer: str) -> Record | None:
    """Slopes over the sizes, where there are two at least."""
    if len(sizes) < 2:
        return None
    sides = [[_middle(found[side]) for found in costs] for side in (OURS, peer) if side in costs[0]]
    return growth(unit, sizes, *sides)


def _middle(costs: Costs) -> tuple[float, float]:
    return statistics.median(seconds for seconds, _ in costs), max(mib for _, mib in costs)


def agreements(case: Case, size: int) -> Mapping[str, Agreement]:
    """What the check finds, in a process of its own: one that has run autograd must not be forked."""
    check = case.check
    if check is None:
        return {}
    inputs = case.inputs(size)
    return measure(lambda: dict(check(inputs)))[0]


def on_gpu(bare: Bare, inputs: Any) -> float | None:
    """Seconds of the bare operations on a GPU; None where there is none."""
    return measure(lambda: _on_gpu(bare, inputs))[0]


def _on_gpu(bare: Bare, inputs: Any) -> float | None:
    if not torch.cuda.is_available():
        return None
    work = bare.side(inputs, "cuda")
    for turn in range(13):  # three to warm up
        if turn == 3:
            torch.cuda.synchronize()
            start = time.perf_counter()
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / 10
