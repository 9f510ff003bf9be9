"""A million patients: what the neighbour index takes, and whether a pre-training step grows with the population.

Simulated patients of sixty-four kinds have fifty columns: forty-five numbers and five categories, a tenth of the values missing but for the twenty
numbers by which they are compared. For a tenth of the patients and for all of them, each in a process of its own, the index is built, everybody's
neighbours are found, and pre-training steps are made on batches of 256: of each patient eight neighbours and four of each of those, drawn anew. CPU
seconds of one thread; memory is the whole process's, the table included. The goal is a step that takes at most 1.2 times as long with ten times the
patients, and 12 GiB.
"""

import argparse
import math
import resource
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from measure.cases import main
from measure.forked import measure
from measure.records import Agreement, Goal, Record, growth, record

from graphssl.data import ColumnTokenizer
from graphssl.encoders import PopulationTransformer
from graphssl.graphs import FeatureGroup, PopulationBuilder
from graphssl.objectives import MaskedColumns

N_NUMBERS, N_CATEGORIES, N_COMPARED, N_KINDS = 45, 5, 20, 64
BATCH = 256
SIZES, SMOKE, N_STEPS = (100_000, 1_000_000), (300, 600), 10
STEP_GOAL = Goal(growth=round(math.log10(1.2), 3), mib=12 * 1024)
# Of the true nearest neighbours.
RECALL = 0.95


class Found(NamedTuple):
    """What was found of a population of one size: seconds of the index and of a step, MiB, and recall of the neighbours."""

    index_seconds: float
    step_seconds: float
    mib: float
    recall: float


def measured(options: argparse.Namespace) -> Iterator[Record]:
    sizes = SMOKE if options.smoke else SIZES
    found: list[Found] = [measure(partial(pretrain, n, 2 if options.smoke else N_STEPS))[0] for n in sizes]
    for what, seconds, goal in (
        ("index and neighbours of", [of.index_seconds for of in found], None),
        (f"step of {BATCH} among", [of.step_seconds for of in found], STEP_GOAL),
    ):
        costs = [(second, of.mib) for second, of in zip(seconds, found, strict=True)]
        recall = Agreement("nearest neighbours that are missed", 1 - found[-1].recall, 1 - RECALL)
        yield record(f"{what} {sizes[-1]:,} patients", "", costs[-1:], (), recall, goal=goal, growth=growth("patients", sizes, costs))


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


def pretrain(n: int, n_steps: int) -> Found:
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
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Found(built, statistics.median(seconds[1:]), mib, builder.index_.recall_)


if __name__ == "__main__":
    main(__doc__, measured)
