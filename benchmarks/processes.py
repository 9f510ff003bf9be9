"""Pre-training by two processes of torchrun against one alone: the same steps, the same minibatches, one thread each.

    python benchmarks/processes.py [--json]

`equal` says that the losses of every epoch are those of one process. Seconds are CPU seconds of the slower process between the first and the last
epoch, so they count what each process has to do, and neither the wait for a core that others use nor for the network; `ratio` is what one process
takes over what each of two takes, 2 at best. Peaks are those of a process, with all it loaded.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import numpy as np
import pandas as pd
import torch
from measure.records import record, report

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort, ColumnTokenizer
from graphssl.datasets import simulate, simulate_table
from graphssl.encoders import AbstractEncoder, GraphTransformer, PopulationGNN
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.graphs import PopulationBuilder
from graphssl.objectives import AbstractObjective, MaskedColumns, MaskedRegions, NTXent
from graphssl.training import TrainingSettings, pretrain
from graphssl.training.learner import Learner

EPOCHS, REGIONS = 3, 100
CASES = ("masked regions", "contrast", "sampled patients")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    parser.add_argument("--into", type=Path, default=None, help="what a process of the benchmark is started with")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.into is not None:
        for name in CASES:
            train(name, arguments.into)
        return
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        runs = [(1, Path(folder) / f"1 {k}") for k in range(arguments.repeats)] + [(2, Path(folder) / f"2 {k}") for k in range(arguments.repeats)]
        for n, place in runs:
            start(n, place)
        for name in CASES:
            costs = {n: [slower(place, name) for known, place in runs if known == n] for n in (1, 2)}
            losses = [pd.read_csv(place / f"{name} 0.csv").filter(like="loss") for _, place in runs]
            equal = all(np.allclose(losses[0], other, rtol=1e-3) for other in losses[1:])
            parts.append({**record(name, "one process", costs[2], costs[1], equal), "processes": 2})
    for part in parts:
        report(part)
    if arguments.json:
        print(json.dumps({**min(parts, key=lambda part: float(str(part["ratio"]))), "name": "processes", "parts": parts}))


def start(n: int, place: Path) -> None:
    """Run all cases in so many processes."""
    place.mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    subprocess.run([*torchrun, __file__, "--into", str(place)], check=True, stderr=subprocess.DEVNULL)


def train(name: str, place: Path) -> None:
    """Pre-train, and write losses and costs of this process."""
    cohort, encoder, objective, builder, batch_size = made(name)
    seconds: list[float] = []
    settings = TrainingSettings(max_epochs=EPOCHS, batch_size=batch_size, accelerator="cpu", patience=EPOCHS)
    with timed(seconds):
        model = pretrain(cohort, encoder=encoder, objective=objective, builder=builder, settings=settings)
    rank = os.environ["RANK"]
    model.history.to_csv(place / f"{name} {rank}.csv", index=False)
    (place / f"{name} {rank}.json").write_text(json.dumps([seconds[-1] - seconds[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Note the CPU seconds of this process at the end of every epoch."""
    note = Learner.on_train_epoch_end

    def noting(learner: Learner) -> None:
        note(learner)
        seconds.append(time.process_time())

    Learner.on_train_epoch_end = noting
    try:
        yield
    finally:
        Learner.on_train_epoch_end = note


def made(name: str) -> tuple[Cohort, AbstractEncoder, AbstractObjective, PopulationBuilder | None, int]:
    """Cohort, encoder, objective, builder, and rows a minibatch, without dropout, which processes draw differently."""
    if name == "sampled patients":
        patient = PatientNetwork(64, dropout=0.0)
        encoder = PopulationGNN(64, 2, heads=4, layer="sage", patient=patient, dropout=0.0, whole_limit=0, fan_outs=[10, 5])
        cohort, builder = simulate_table(n_subjects=1500).cohort, PopulationBuilder(ColumnTokenizer(n_pieces=8), n_neighbors=10)
        return cohort, encoder, MaskedColumns(0.3), builder, 128
    cohort = simulate([simulated_atlas(REGIONS)], n_subjects=150, seed=0).cohort
    objective = MaskedRegions() if name == "masked regions" else NTXent()
    return cohort, GraphTransformer(width=64, depth=2, heads=4, dropout=0.0), objective, None, 32


def slower(place: Path, name: str) -> tuple[float, float]:
    """CPU seconds of the slowest process, and the highest peak."""
    costs = [json.loads(path.read_text()) for path in place.glob(f"{name} *.json")]
    return max(seconds for seconds, _ in costs), max(mib for _, mib in costs)


if __name__ == "__main__":
    main()
