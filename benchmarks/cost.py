"""What pre-training on 100,000 scans and on 50 million patients costs: hours of a device, disk and memory, from steps measured here.

A step of each is measured on a GPU where there is one and else on one thread of a CPU, in growing minibatches: masked regions of 400 regions by a
graph transformer of width 64 and depth 2, and masked columns of a patient among sampled neighbours (10, and 5 of each) by a population network of
width 64. All else is arithmetic that is written beside its result; scans are passed thirty times, patients once. Nothing of size patients ×
patients is made, so a patient's step costs the same in any population; searching the neighbours does not (`benchmarks/neighbors.py`).
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from measure.cases import main
from measure.forked import measure
from measure.records import Record, growth, record

from graphssl.data import ColumnTokenizer, ConnectomeBatch
from graphssl.datasets import simulate_table
from graphssl.encoders import AbstractEncoder, GraphTransformer, PopulationGNN
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.graphs import PopulationBuilder
from graphssl.objectives import AbstractObjective, MaskedColumns, MaskedRegions

SCANS, REGIONS, TIME_POINTS = 100_000, 400, 200
PATIENTS, COLUMNS, NEIGHBORS, GROUPS = 50_000_000, 100, 10, 2
FLOAT, INTEGER, BYTE = 4, 8, 1
GIB = 2**30


class Study(NamedTuple):
    """Rows, passes over them, minibatches that are measured, seconds of a step of so many rows, and what is stored."""

    name: str
    n_rows: int
    epochs: int
    sizes: Sequence[int]
    seconds: Callable[[str, int], float]
    storage: dict[str, tuple[float, str]]


def measured(options: argparse.Namespace) -> Iterator[Record]:
    for study in STUDIES:
        sizes = study.sizes[:2] if options.smoke else study.sizes
        found = [[_cost(study, size) for _ in range(options.repeats if size == sizes[-1] else 1)] for size in sizes]
        part = record(f"step of {sizes[-1]} {study.name}", "", found[-1], (), None, growth=growth("rows", sizes, [costs[0] for costs in found]))
        second = part["ours_seconds"] / sizes[-1]
        hours = study.n_rows * study.epochs * second / 3600
        print(f"{study.n_rows:,} {study.name}: {1000 * second:.2f} ms a row, {study.epochs} passes, {hours:,.0f} hours")
        for name, (gib, how) in study.storage.items():
            print(f"  {name:<34} {gib:8.1f} GiB   {how}")
        yield part


def _cost(study: Study, n_rows: int) -> tuple[float, float]:
    seconds, _, mib = measure(lambda: study.seconds("cuda" if torch.cuda.is_available() else "cpu", n_rows))
    return seconds, mib


def scans() -> dict[str, tuple[float, str]]:
    """Disk and memory of the scans."""
    pairs = REGIONS * (REGIONS - 1) // 2
    return {
        "disk, time series": (SCANS * REGIONS * TIME_POINTS * FLOAT / GIB, f"{TIME_POINTS} points of {REGIONS} regions, float32"),
        "disk, connectomes": (SCANS * pairs * FLOAT / GIB, f"{pairs:,} pairs, float32"),
        "memory of a process, all connectomes": (SCANS * REGIONS**2 * (FLOAT + BYTE) / GIB, f"{REGIONS}² weights and what is visible of them"),
        "memory of a process, 10,000 of them": (10_000 * REGIONS**2 * (FLOAT + BYTE) / GIB, "a window of them, streamed"),
    }


def patients() -> dict[str, tuple[float, str]]:
    """Disk and memory of the patients."""
    edges = PATIENTS * NEIGHBORS
    return {
        "disk, table": (PATIENTS * COLUMNS * FLOAT / GIB, f"{COLUMNS} columns, float32, before compression"),
        "disk, graph": (edges * (INTEGER + GROUPS * FLOAT) / GIB, f"{NEIGHBORS} neighbours, a place and {GROUPS} similarities each"),
        "memory of a process, table": (PATIENTS * COLUMNS * (FLOAT + 2 * BYTE) / GIB, "values, what was measured and what is hidden"),
        "memory of a process, graph": ((edges * (INTEGER + GROUPS * FLOAT) + PATIENTS * INTEGER) / GIB, "compressed rows"),
    }


def step_of_scans(device: str, n_rows: int) -> float:
    """Seconds of a step of so many connectomes."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(n_rows, REGIONS, REGIONS, generator=generator).triu(diagonal=1)
    visible = ~torch.eye(REGIONS, dtype=torch.bool).expand(n_rows, -1, -1)
    centroids = (35 * torch.randn(REGIONS, 3, generator=generator)).expand(n_rows, -1, -1).contiguous()
    mask, networks = torch.ones(n_rows, REGIONS, dtype=torch.bool), torch.full((n_rows, REGIONS), -1)
    names = tuple(map(str, range(n_rows)))
    batch = ConnectomeBatch(names, weights + weights.mT, visible.contiguous(), mask, centroids, networks, ("random",) * n_rows)
    return second_step(GraphTransformer(width=64, depth=2, heads=4), MaskedRegions(), batch.to(device), device)


def step_of_patients(device: str, n_rows: int, n_patients: int = 2000) -> float:
    """Seconds of a step of so many patients, neighbours sampled."""
    torch.manual_seed(0)
    cohort = simulate_table(n_subjects=n_patients).cohort
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=8), n_neighbors=NEIGHBORS).fit(cohort)
    encoder = PopulationGNN(64, 2, heads=4, layer="sage", patient=PatientNetwork(64), whole_limit=0, fan_outs=[10, 5]).for_builder(builder)
    batch = builder.transform(cohort)[list(range(n_rows))]
    return second_step(encoder, MaskedColumns(0.3), batch.to(device), device)


def second_step(encoder: AbstractEncoder, objective: AbstractObjective, batch: object, device: str) -> float:
    """Seconds of a second step, forward and backward."""
    objective = objective.prepare(encoder).to(device)
    encoder, clock = encoder.to(device), clock_of(device)
    for _ in range(2):
        start = clock()
        objective(encoder, batch, torch.Generator().manual_seed(0)).total.backward()
        seconds = clock() - start
    return seconds


def clock_of(device: str) -> Callable[[], float]:
    """CPU seconds, or seconds once a GPU is done."""
    if not device.startswith("cuda"):
        return time.process_time

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised


STUDIES = (
    Study(f"scans of {REGIONS} regions", SCANS, 30, (2, 4, 8), step_of_scans, scans()),
    Study("patients among sampled neighbours", PATIENTS, 1, (64, 128, 256), step_of_patients, patients()),
)

if __name__ == "__main__":
    main(__doc__, measured)
