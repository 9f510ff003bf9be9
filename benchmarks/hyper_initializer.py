"""Predicting every weight of a network by a hypernetwork, beside making the network with random ones.

    python benchmarks/hyper_initializer.py [--json]

The goal is a ResNet-18 (11.2 million numbers) in less than a second on two cores. The others are its 3D form, a vision transformer, whose wide layers
are predicted by repetition, and an encoder of connectomes. `graph` is reading the architecture; `predicted` is that, predicting the weights and
filling them in. CPU seconds of one thread, in a process of its own; the median of the repeats counts.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable
from functools import partial

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import torch
from measure.forked import measure
from torch import nn

from graphssl.encoders import GraphTransformer, ResNet, VisionTransformer
from graphssl.initializers import HyperInitializer, HyperNetwork, architecture_of

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": ResNet,
    "ResNet-18, 3D": partial(ResNet, rank=3),
    "VisionTransformer": VisionTransformer,
    "GraphTransformer": GraphTransformer,
}


def main() -> None:
    """Measure every network and print a line, or a record, each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    initializer = HyperInitializer(HyperNetwork())
    architecture_of(nn.Linear(1, 1))  # the first trace loads what tracing needs
    for name, make in NETWORKS.items():
        network = make()
        steps = {
            "random": make,
            "graph": partial(architecture_of, network),
            "predicted": partial(initializer.initialize, network, partial=True),
        }
        found = {step: [measure(partial(_nothing, work)) for _ in range(options.repeats)] for step, work in steps.items()}
        record = {
            "name": name,
            "numbers": sum(parameter.numel() for parameter in network.parameters()),
            **{f"{step}_seconds": round(statistics.median(seconds for _, seconds, _ in costs), 3) for step, costs in found.items()},
            "predicted_mib": round(max(mib for _, _, mib in found["predicted"])),
        }
        if options.json:
            print(json.dumps(record))
        else:
            parts = ", ".join(f"{step} {record[f'{step}_seconds']:.3f} s" for step in steps)
            print(f"{name:<20} {record['numbers']:>12,} numbers   {parts}, {record['predicted_mib']} MiB")


def _nothing(work: Callable[[], object]) -> None:
    """Do the work and give nothing back, for a result would have to be sent to the other process."""
    work()


if __name__ == "__main__":
    main()
