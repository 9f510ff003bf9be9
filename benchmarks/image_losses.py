"""One step of four losses on projected vectors: ours against lightly's with the same numbers, in alternation.

    python benchmarks/image_losses.py [--json]

A step is the loss and its gradient, and for DINO the centre. NT-Xent has 256 rows of width 128, Barlow Twins 256 rows of width 2048. SwAV has 64
rows, 3000 prototypes, two large and six small crops and a queue of 512 rows; DINO has 64 rows, 8192 prototypes and as many crops.

CPU seconds of one thread of a later step, in a process of its own; the median of the repeats counts. `equal` says that losses and gradients agree to
1e-5 of their largest value where both are given double precision (in single precision lightly's sum over DINO's prototypes is off by 1e-4).

lightly is installed by `pip install --no-deps lightly`: its packages ask for torchvision when they are imported, its losses do not, so the files of
the losses are imported and the packages are not. Where it is absent nothing is compared.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import torch
from measure.forked import measure
from measure.records import record, report
from torch import Tensor
from torch.nn import functional as F

from graphssl.objectives.clustering import sinkhorn
from graphssl.objectives.contrastive import nt_xent
from graphssl.objectives.multi_crop import cross_entropies
from graphssl.objectives.redundancy import barlow_twins

TOLERANCE = 1e-5
Step = Callable[[list[Tensor]], Tensor]
PACKAGES = ("lightly", "lightly.loss", "lightly.models", "lightly.models.modules", "lightly.utils")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON record as the last line")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lightly = load_lightly()
    if lightly is None:
        print("lightly is not installed (pip install --no-deps lightly): nothing to compare with.")
        return
    costs = {name: timed(name, lightly, arguments.repeats) for name in CASES}
    parts = []
    for name, (mine, theirs) in costs.items():
        gap = difference(name, lightly)
        parts.append({**record(name, "lightly", mine, theirs, gap <= TOLERANCE), "largest_difference": gap})
        report(parts[-1])
        print(f"  largest difference {gap:.1e}")
    if arguments.json:
        sums = [[(sum(part[f"{side}_seconds"] for part in parts), max(part[f"{side}_mib"] for part in parts))] for side in ("ours", "peer")]
        print(json.dumps({**record("image_losses", "lightly", *sums, all(part["equal"] for part in parts)), "parts": parts}))


def load_lightly() -> SimpleNamespace | None:
    """lightly's losses, or None where it is not installed."""
    found = find_spec("lightly")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent.parent
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")))]
        sys.modules[name] = package
    helpers = ModuleType("lightly.models.utils")  # which asks for torchvision, and is of no use to losses without a memory
    sys.modules[helpers.__name__] = sys.modules["lightly.models"].utils = helpers
    from lightly.loss.barlow_twins_loss import BarlowTwinsLoss
    from lightly.loss.dino_loss import DINOLoss
    from lightly.loss.ntx_ent_loss import NTXentLoss
    from lightly.loss.swav_loss import SwaVLoss

    return SimpleNamespace(BarlowTwinsLoss=BarlowTwinsLoss, DINOLoss=DINOLoss, NTXentLoss=NTXentLoss, SwaVLoss=SwaVLoss)


def cosines(n_views: int, n_rows: int, n_prototypes: int) -> list[Tensor]:
    """Scores of prototypes as cosines are."""
    source = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(n_prototypes, 64, generator=source), dim=1)
    rows = torch.randn(n_rows, 64, generator=source)
    return [F.normalize(rows + torch.randn(n_rows, 64, generator=source), dim=1) @ directions.T for _ in range(n_views)]


def vectors(n_rows: int, width: int) -> list[Tensor]:
    """Two views of rows."""
    source = torch.Generator().manual_seed(0)
    rows = torch.randn(n_rows, width, generator=source)
    return [rows + 0.5 * torch.randn(n_rows, width, generator=source) for _ in range(2)]


def our_nt_xent(views: list[Tensor]) -> Tensor:
    return nt_xent(views[0], views[1], torch.arange(len(views[0])), 0.2)


def our_barlow_twins(views: list[Tensor]) -> Tensor:
    agreement, repetition = barlow_twins(*views)
    return views[0].shape[1] * (agreement + 0.005 * repetition)  # lightly's sum, ours is the mean over the width


def our_swav(scores: list[Tensor]) -> Tensor:
    with torch.no_grad():
        assigned = [sinkhorn(torch.cat([scores[view], QUEUE[view].to(scores[view])]))[: len(scores[view])] for view in range(2)]
    return cross_entropies(scores, assigned, 0.1)


def our_dino(scores: list[Tensor]) -> Tensor:
    center = scores[0].new_zeros(scores[0].shape[1])
    taught = [0.9 * each.detach() for each in scores[:2]]
    loss = cross_entropies(scores, [torch.softmax((answer - center) / 0.04, dim=1) for answer in taught], 0.1)
    center.lerp_(torch.cat(taught).mean(dim=0), 0.1)
    return loss


def their_nt_xent(lightly: SimpleNamespace, views: list[Tensor]) -> Tensor:
    return lightly.NTXentLoss(temperature=0.2)(*views)


def their_barlow_twins(lightly: SimpleNamespace, views: list[Tensor]) -> Tensor:
    return lightly.BarlowTwinsLoss(lambda_param=0.005)(*views)


def their_swav(lightly: SimpleNamespace, scores: list[Tensor]) -> Tensor:
    return lightly.SwaVLoss()(scores[:2], scores[2:], [each.to(scores[0]) for each in QUEUE]).squeeze()


def their_dino(lightly: SimpleNamespace, scores: list[Tensor]) -> Tensor:
    return lightly.DINOLoss(scores[0].shape[1], teacher_temp=0.04)([0.9 * each.detach() for each in scores[:2]], scores)


QUEUE = cosines(2, 512, 3000)
CASES: dict[str, tuple[Callable[[], list[Tensor]], Step, Callable[[SimpleNamespace, list[Tensor]], Tensor]]] = {
    "NT-Xent": (partial(vectors, 256, 128), our_nt_xent, their_nt_xent),
    "Barlow Twins": (partial(vectors, 256, 2048), our_barlow_twins, their_barlow_twins),
    "SwAV": (partial(cosines, 8, 64, 3000), our_swav, their_swav),
    "DINO": (partial(cosines, 8, 64, 8192), our_dino, their_dino),
}


def sides(name: str, lightly: SimpleNamespace) -> tuple[Step, Step]:
    """Ours and theirs."""
    _, mine, theirs = CASES[name]
    return mine, partial(theirs, lightly)


def timed(name: str, lightly: SimpleNamespace, repeats: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Seconds and MiB of each repetition of both sides, in turn."""
    inputs = CASES[name][0]()
    costs: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for _ in range(repeats):
        for side, step in enumerate(sides(name, lightly)):
            seconds, _, mib = measure(partial(later_step, step, inputs))
            costs[side].append((seconds, mib))
    return costs


def later_step(step: Step, inputs: list[Tensor], n_steps: int = 5) -> float:
    """CPU seconds of a step after the first."""
    gradients(step, inputs)
    start = time.process_time()
    for _ in range(n_steps):
        gradients(step, inputs)
    return (time.process_time() - start) / n_steps


def gradients(step: Step, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    loss = step(leaves)
    loss.backward()
    return loss.detach(), [each.grad for each in leaves if each.grad is not None]


def difference(name: str, lightly: SimpleNamespace) -> float:
    """Largest difference of losses and gradients in double precision, relative to the largest value of each."""
    inputs = [each.double() for each in CASES[name][0]()]
    mine, theirs = (gradients(step, inputs) for step in sides(name, lightly))
    gaps = [float((a - b).abs().max() / b.abs().max()) for a, b in zip([mine[0], *mine[1]], [theirs[0], *theirs[1]], strict=True)]
    return max(gaps)


if __name__ == "__main__":
    main()
