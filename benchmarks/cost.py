"""What pre-training on 100,000 scans and on 50 million patients costs: hours of a device, disk and memory, from steps measured here.

    python benchmarks/cost.py [--json] [--device cuda] [--epochs 30]

A step of each is measured on this device (one thread of a CPU, or a GPU), per row: masked regions of 400 regions by a graph transformer of width 64
and depth 2, and masked columns of a patient among sampled neighbours (10, and 5 of each) by a population network of width 64. All else is arithmetic
that is written beside its result. Nothing of size patients × patients is made, so a patient's step costs the same in any population; searching the
neighbours does not (`benchmarks/neighbors.py`).
"""

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="passes over all scans; patients are passed once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = [
        cost("100,000 scans", SCANS, arguments.epochs, second_a_scan(arguments.device), scans()),
        cost("50 million patients", PATIENTS, 1, second_a_patient(arguments.device), patients()),
    ]
    for part in parts:
        print(
            f"{part['name']}: {1000 * part['seconds_a_row']:.2f} ms a row, {part['epochs']} passes, {part['device_hours']:,.0f} hours of one device"
        )
        for name, (gib, how) in part["storage"].items():
            print(f"  {name:<34} {gib:8.1f} GiB   {how}")
    if arguments.json:
        print(json.dumps({"name": "cost", "device": arguments.device, "parts": parts}))


def cost(name: str, n_rows: int, epochs: int, seconds: float, storage: dict[str, tuple[float, str]]) -> dict:
    """Hours of one device, and what is stored."""
    return {
        "name": name,
        "seconds_a_row": seconds,
        "epochs": epochs,
        "device_hours": n_rows * epochs * seconds / 3600,
        "storage": storage,
    }


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


def second_a_scan(device: str, n_rows: int = 8) -> float:
    """Seconds of a step for each connectome of a minibatch."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(n_rows, REGIONS, REGIONS, generator=generator).triu(diagonal=1)
    visible = ~torch.eye(REGIONS, dtype=torch.bool).expand(n_rows, -1, -1)
    centroids = (35 * torch.randn(REGIONS, 3, generator=generator)).expand(n_rows, -1, -1).contiguous()
    mask, networks = torch.ones(n_rows, REGIONS, dtype=torch.bool), torch.full((n_rows, REGIONS), -1)
    names = tuple(map(str, range(n_rows)))
    batch = ConnectomeBatch(names, weights + weights.mT, visible.contiguous(), mask, centroids, networks, ("random",) * n_rows)
    return second_step(GraphTransformer(width=64, depth=2, heads=4), MaskedRegions(), batch.to(device), device) / n_rows


def second_a_patient(device: str, n_rows: int = 256, n_patients: int = 2000) -> float:
    """Seconds of a step for each patient of a minibatch, neighbours sampled."""
    torch.manual_seed(0)
    cohort = simulate_table(n_subjects=n_patients).cohort
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=8), n_neighbors=NEIGHBORS).fit(cohort)
    encoder = PopulationGNN(64, 2, heads=4, layer="sage", patient=PatientNetwork(64), whole_limit=0, fan_outs=[10, 5]).for_builder(builder)
    batch = builder.transform(cohort)[list(range(n_rows))]
    return second_step(encoder, MaskedColumns(0.3), batch.to(device), device) / n_rows


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


if __name__ == "__main__":
    main()
