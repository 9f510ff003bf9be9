"""One pre-training step on a GPU: agreement with the CPU, and single precision against bfloat16.

    python benchmarks/gpu.py [--json]

Ours in bfloat16 against ours in single precision on the same batch; `equal` says that losses of CPU and GPU agree to 1e-3 and those of both
precisions to 5 %. Without a CUDA device it says so and ends well.
"""

import argparse
import json
import time

import torch

from graphssl.data import ConnectomeBatch
from graphssl.encoders import GraphTransformer
from graphssl.objectives import MaskedRegions

N_ROWS, N_REGIONS, N_STEPS = 32, 200, 20


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the record as the last line")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA device here: nothing to time.")
        return
    on_cpu, _, _ = step_loss("cpu", autocast=False)
    single, single_seconds, single_mib = step_loss("cuda", autocast=False, n_steps=N_STEPS)
    half, half_seconds, half_mib = step_loss("cuda", autocast=True, n_steps=N_STEPS)
    equal = abs(on_cpu - single) < 1e-3 * abs(on_cpu) and abs(half - single) < 0.05 * abs(single)
    record = {
        "name": "gpu_step_bf16",
        "peer": "gpu_step_fp32",
        "ours_seconds": half_seconds,
        "peer_seconds": single_seconds,
        "ratio": single_seconds / half_seconds,
        "ours_mib": half_mib,
        "peer_mib": single_mib,
        "equal": equal,
    }
    print(f"{torch.cuda.get_device_name()}: loss {on_cpu:.4f} on the CPU, {single:.4f} on the GPU, {half:.4f} in bfloat16")
    print(
        json.dumps(record)
        if arguments.json
        else f"bfloat16 {half_seconds:.4f} s, single {single_seconds:.4f} s a step: ratio {record['ratio']:.2f}, equal {equal}"
    )


if __name__ == "__main__":
    main()
