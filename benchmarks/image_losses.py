"""One step of four losses on projected vectors: ours against lightly's with the same numbers.

A step is the loss and its gradient, and for DINO the centre. NT-Xent has rows of width 128, Barlow Twins rows of width 2048. SwAV has 3000
prototypes, two large and six small crops and a queue of 512 rows; DINO has 8192 prototypes and as many crops. Losses and gradients are compared in
double precision (in single precision lightly's sum over DINO's prototypes is off by 1e-4). The floors are the matrix products, or the logarithms of
shares of all crops.

lightly is installed by `make peers`: its packages ask for torchvision when they are imported, its losses do not, so the files of
the losses are imported and the packages are not. Where it is absent nothing is compared.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
from torch import Tensor
from torch.nn import functional as F

from graphssl.objectives.clustering import sinkhorn
from graphssl.objectives.contrastive import nt_xent
from graphssl.objectives.multi_crop import cross_entropies
from graphssl.objectives.redundancy import barlow_twins

TOLERANCE = 1e-5
Step = Callable[[list[Tensor]], Tensor]
N_STEPS = 5
PACKAGES = ("lightly", "lightly.loss", "lightly.models", "lightly.models.modules", "lightly.utils")


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


def cosines(n_views: int, n_prototypes: int, n_rows: int) -> list[Tensor]:
    """Scores of prototypes as cosines are."""
    source = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(n_prototypes, 64, generator=source), dim=1)
    rows = torch.randn(n_rows, 64, generator=source)
    return [F.normalize(rows + torch.randn(n_rows, 64, generator=source), dim=1) @ directions.T for _ in range(n_views)]


def vectors(width: int, n_rows: int) -> list[Tensor]:
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


QUEUE = cosines(2, 3000, 512)
LIGHTLY = load_lightly()


def ready(step: Step, inputs: list[Tensor]) -> Callable[[], object]:
    """Several steps."""
    return lambda: [gradients(step, inputs) for _ in range(N_STEPS)]


def gradients(step: Step, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    loss = step(leaves)
    loss.backward()
    return loss.detach(), [each.grad for each in leaves if each.grad is not None]


def check(mine: Step, theirs: Step, inputs: list[Tensor]) -> dict[str, Agreement]:
    """Losses and gradients in double precision, relative to the largest value of each."""
    doubles = [each.double() for each in inputs]
    (loss, slopes), (their_loss, their_slopes) = (gradients(step, doubles) for step in (mine, theirs))
    gap = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip([loss, *slopes], [their_loss, *their_slopes], strict=True))
    return {"lightly": Agreement("loss and gradients, double precision", gap, TOLERANCE)}


def bare(step: Step, inputs: list[Tensor], device: str) -> Callable[[], object]:
    return ready(step, [each.to(device) for each in inputs])


def products_of_rows(views: list[Tensor]) -> Tensor:
    rows = torch.cat(views)
    return (rows @ rows.T).sum()


def products_of_columns(views: list[Tensor]) -> Tensor:
    return (views[0].T @ views[1]).sum()


def logarithms(scores: list[Tensor]) -> Tensor:
    return sum(each.log_softmax(dim=1)[:, 0].sum() for each in scores)


def case(name: str, inputs: Callable[[int], list[Tensor]], largest: int, mine: Step, theirs: Callable[..., Tensor], floor: tuple[str, Step]) -> Case:
    step = partial(theirs, LIGHTLY)
    peer: dict[str, Any] = {"side": partial(ready, step)} if LIGHTLY else {"absent": "lightly was not at hand"}
    return Case(
        f"{N_STEPS} steps of {name}, {{}} rows",
        sizes=(largest // 4, largest // 2, largest),
        smoke=(8, 16),
        inputs=inputs,
        ours=partial(ready, mine),
        peers=[Peer("lightly", goal=Goal(ratio=1 / 1.2), **peer)],
        check=partial(check, mine, step) if LIGHTLY else None,
        floor=Bare(floor[0], partial(bare, floor[1])),
        unit="rows",
    )


ROWS, COLUMNS, SHARES = (
    ("products of all rows", products_of_rows),
    ("products of all columns", products_of_columns),
    ("logarithms of shares", logarithms),
)
CASES = [
    case("NT-Xent", partial(vectors, 128), 256, our_nt_xent, their_nt_xent, ROWS),
    case("Barlow Twins", partial(vectors, 2048), 256, our_barlow_twins, their_barlow_twins, COLUMNS),
    case("SwAV", partial(cosines, 8, 3000), 64, our_swav, their_swav, SHARES),
    case("DINO", partial(cosines, 8, 8192), 64, our_dino, their_dino, SHARES),
]

if __name__ == "__main__":
    main(__doc__, CASES)
