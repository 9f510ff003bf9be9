"""Pre-training by two processes of torchrun against one alone: the same steps, the same minibatches, one thread each.

Losses of every epoch are compared with those of one process. Seconds are CPU seconds of the slower process between the first and the last epoch, so
they count what each process has to do, and neither the wait for a core that others use nor for the network; the ratio is what one process takes over
what each of two takes, 2 at best. Peaks are those of a process, with all it loaded. Rows grow threefold for the growth.
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

import numpy as np
import pandas as pd
from measure.cases import main, one_thread
from measure.records import Agreement, Costs, Record, growth, record

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
# Connectomes of a cohort, by what is trained; ten times as many patients.
SIZES, SMOKE = (50, 150), (20, 40)
CASES = ("masked regions", "contrast", "sampled patients")
TOLERANCE = 5e-3  # AdamW makes whole steps of gradients that are nothing but rounding


def measured(options: argparse.Namespace) -> Iterator[Record]:
    """Processes are started size by size and in alternation."""
    sizes = SMOKE if options.smoke else SIZES
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[tuple[int, int], list[Path]] = {(size, n): [] for size in sizes for n in (2, 1)}
        for turn in range(options.repeats):
            for size, n in runs:
                if turn == 0 or size == sizes[-1]:
                    runs[size, n].append(start(n, size, Path(folder) / f"{size} {n} {turn}"))
        for name in CASES:
            costs: dict[tuple[int, int], Costs] = {run: [slower(place, name) for place in places] for run, places in runs.items()}
            mine, theirs = (costs[sizes[-1], n] for n in (2, 1))
            grown = growth("connectomes or tens of patients", sizes, *([costs[size, n][0] for size in sizes] for n in (2, 1)))
            yield record(f"{name} by two processes", "one process", mine, theirs, agreement(name, runs, sizes[-1]), growth=grown)


def agreement(name: str, runs: dict[tuple[int, int], list[Path]], size: int) -> Agreement:
    two, one = (pd.read_csv(runs[size, n][0] / f"{name} 0.csv").filter(like="loss").to_numpy() for n in (2, 1))
    return Agreement("losses of every epoch", float(np.abs(two / one - 1).max()), TOLERANCE)


def start(n: int, size: int, place: Path) -> Path:
    """Run all cases in so many processes."""
    place.mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    subprocess.run([*torchrun, __file__, str(size), str(place)], check=True, stderr=subprocess.DEVNULL)
    return place


def train(name: str, size: int, place: Path) -> None:
    """Pre-train, and write losses and costs of this process."""
    cohort, encoder, objective, builder, batch_size = made(name, size)
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


def made(name: str, size: int) -> tuple[Cohort, AbstractEncoder, AbstractObjective, PopulationBuilder | None, int]:
    """Cohort, encoder, objective, builder, and rows a minibatch, without dropout, which processes draw differently."""
    if name == "sampled patients":
        patient = PatientNetwork(64, dropout=0.0)
        encoder = PopulationGNN(64, 2, heads=4, layer="sage", patient=patient, dropout=0.0, whole_limit=0, fan_outs=[10, 5])
        cohort, builder = simulate_table(n_subjects=10 * size).cohort, PopulationBuilder(ColumnTokenizer(n_pieces=8), n_neighbors=10)
        return cohort, encoder, MaskedColumns(0.3), builder, 128
    cohort = simulate([simulated_atlas(REGIONS)], n_subjects=size, seed=0).cohort
    objective = MaskedRegions() if name == "masked regions" else NTXent()
    return cohort, GraphTransformer(width=64, depth=2, heads=4, dropout=0.0), objective, None, 32


def slower(place: Path, name: str) -> tuple[float, float]:
    """CPU seconds of the slowest process, and the highest peak."""
    costs = [json.loads(path.read_text()) for path in place.glob(f"{name} *.json")]
    return max(seconds for seconds, _ in costs), max(mib for _, mib in costs)


if __name__ == "__main__":
    if "RANK" in os.environ:  # one of the processes that are measured
        one_thread()
        for name in CASES:
            train(name, int(sys.argv[1]), Path(sys.argv[2]))
    else:
        main(__doc__, measured)
