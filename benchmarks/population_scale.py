"""A million patients: what the neighbour index takes, and whether a pre-training step grows with the population.

    python benchmarks/population_scale.py [--patients 1000000] [--steps 20] [--json]

Simulated patients of sixty-four kinds have fifty columns: forty-five numbers and five categories, a tenth of the values missing but for the twenty
numbers by which they are compared. For a tenth of the patients and for all of them, each in a process of its own, the index is built, everybody's
neighbours are found, and pre-training steps are made on batches of 256: of each patient eight neighbours and four of each of those, drawn anew. CPU
seconds of one thread; memory is the whole process's, the table included. `ratio` is the time of a step with all patients over that with a tenth.
"""

import argparse
import json
import os
import resource
import statistics
import time
from functools import partial
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before numpy and torch are loaded

import numpy as np
import pandas as pd
import torch
from measure.forked import measure

from graphssl.data import ColumnTokenizer
from graphssl.encoders import PopulationTransformer
from graphssl.graphs import FeatureGroup, PopulationBuilder
from graphssl.objectives import MaskedColumns

N_NUMBERS, N_CATEGORIES, N_COMPARED, N_KINDS = 45, 5, 20, 64
BATCH = 256
GROWTH = 1.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    small, large = (measure(partial(pretrain, n, arguments.steps))[0] for n in (arguments.patients // 10, arguments.patients))
    ratio = large["step_seconds"] / small["step_seconds"]
    print(f"a step takes {ratio:.2f} times as long with ten times the patients{'' if ratio <= GROWTH else '   GROWS'}")
    if arguments.json:
        print(json.dumps({"name": "population_scale", "ratio": round(ratio, 3), "equal": ratio <= GROWTH, "parts": [small, large]}))


def patients(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, N_KINDS, n)
    numbers = rng.standard_normal((N_KINDS, N_NUMBERS), dtype=np.float32)[kind] + rng.standard_normal((n, N_NUMBERS), dtype=np.float32)
    missing = rng.random((n, N_NUMBERS - N_COMPARED), dtype=np.float32) < 0.1
    numbers[:, N_COMPARED:][missing] = np.nan
    table = pd.DataFrame(numbers, columns=[f"n{i}" for i in range(N_NUMBERS)], index=[f"p{i}" for i in range(n)])
    for i in range(N_CATEGORIES):
        codes = np.where(rng.random(n) < 0.1, -1, (kind + rng.integers(0, 2, n) + i) % 4)
        table[f"c{i}"] = pd.Categorical.from_codes(codes, categories=list("abcd"))
    return table


def pretrain(n: int, n_steps: int) -> dict[str, Any]:
    table = patients(n)
    group = FeatureGroup("numbers", [f"n{i}" for i in range(N_COMPARED)], "euclidean")
    start = time.process_time()
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=8), [group], n_neighbors=8).fit(table)
    built = time.process_time() - start
    batch = builder.transform(table)
    torch.manual_seed(0)
    encoder = PopulationTransformer(64, 2, 4).for_builder(builder)
    objective = MaskedColumns().prepare(encoder)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()])
    seconds = []
    for step in range(n_steps + 1):
        start = time.process_time()
        rows = torch.randint(n, (BATCH,), generator=torch.Generator().manual_seed(step))
        loss = objective(encoder, batch[rows.unique()], torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
    record = {
        "patients": n,
        "index_seconds": round(built, 1),
        "search": builder.index_.search_,
        "recall": round(builder.index_.recall_, 3),
        "step_seconds": round(statistics.median(seconds[1:]), 4),
        "loss": round(float(loss.detach()), 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print("   ".join(f"{name.replace('_', ' ')} {value}" for name, value in record.items()), flush=True)
    return record


if __name__ == "__main__":
    main()
