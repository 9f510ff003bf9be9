"""One pre-training step on a GPU: agreement with the CPU, and single precision against bfloat16.

Ours in bfloat16 against ours in single precision on the same batch, seconds of a step and memory of the GPU, in alternation. Losses of CPU and GPU
are compared, and those of both precisions. Without a CUDA device it says so and ends well.
"""

import argparse
import time
from collections.abc import Iterator

import torch
from measure.cases import main
from measure.records import Agreement, Record, absent, record

from graphssl.data import ConnectomeBatch
from graphssl.encoders import GraphTransformer
from graphssl.objectives import MaskedRegions

N_ROWS, N_REGIONS, N_STEPS = 32, 200, 20
NAME, PEERS = "pre-training step in bfloat16", ("single precision", "the CPU")


def random_batch() -> ConnectomeBatch:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(N_ROWS, N_REGIONS, N_REGIONS, generator=generator)
    weights = (weights + weights.mT) / 2
    visible = ~torch.eye(N_REGIONS, dtype=torch.bool).expand(N_ROWS, -1, -1).contiguous()
    centroids = 40 * torch.randn(N_ROWS, N_REGIONS, 3, generator=generator)
    return ConnectomeBatch(
        tuple(map(str, range(N_ROWS))),
        weights.masked_fill(~visible, 0.0),
        visible,
        torch.ones(N_ROWS, N_REGIONS, dtype=torch.bool),
        centroids,
        torch.full((N_ROWS, N_REGIONS), -1),
        ("random",) * N_ROWS,
    )


def step_loss(device: str, *, autocast: bool, n_steps: int = 1) -> tuple[float, float, float]:
    """Loss of the first step, seconds a step, and peak memory in MiB."""
    torch.manual_seed(0)
    encoder = GraphTransformer(width=64, depth=4, dropout=0.0).to(device)
    objective = MaskedRegions().prepare(encoder).to(device)
    batch = random_batch().to(device)
    losses = []
    for step in range(n_steps + 3):
        if step == 3 and device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        if step == 3:
            started = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            loss = objective(encoder, batch, torch.Generator().manual_seed(0)).total
        loss.backward()
        losses.append(float(loss))
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / n_steps
    return losses[0], seconds, torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0


def measured(options: argparse.Namespace) -> Iterator[Record]:
    if not torch.cuda.is_available():
        yield from (absent(NAME, peer, "no GPU was at hand") for peer in PEERS)
        return
    costs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    losses = {"cpu": step_loss("cpu", autocast=False)[0]}
    for _ in range(options.repeats):
        for half in costs:
            loss, seconds, mib = step_loss("cuda", autocast=half, n_steps=2 if options.smoke else N_STEPS)
            losses["half" if half else "single"] = loss
            costs[half].append((seconds, mib))
    gaps = [abs(losses["half"] / losses["single"] - 1), abs(losses["single"] / losses["cpu"] - 1)]
    yield record(NAME, PEERS[0], costs[True], costs[False], Agreement("loss", gaps[0], 0.05))
    yield record(NAME, PEERS[1], costs[True], (), Agreement("loss in single precision", gaps[1], 1e-3))


if __name__ == "__main__":
    main(__doc__, measured)
