"""Predicting every weight of a network by a hypernetwork, beside making the network with random ones.

The goal is a ResNet-18 (11.2 million numbers) in less than a second. The others are its 3D form, a vision transformer, whose wide layers are
predicted by repetition, and an encoder of connectomes; each is made in growing widths, of which the last is its default. Ours is reading the
architecture, predicting the weights and filling them in; the floor is writing as many numbers.
"""

from collections.abc import Callable
from functools import partial

import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Goal
from torch import nn

from graphssl.encoders import GraphTransformer, ResNet, VisionTransformer
from graphssl.initializers import HyperInitializer, HyperNetwork

# By name: how it is made from a width, its default width, and what is asked for.
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], int, Goal | None]] = {
    "`ResNet` (ResNet-18)": (lambda width: ResNet(width=width), 64, Goal(seconds=1)),
    "`ResNet` (ResNet-18) in 3D": (lambda width: ResNet(rank=3, width=width), 64, None),
    "`VisionTransformer`": (lambda width: VisionTransformer(width=width), 192, None),
    "`GraphTransformer`": (GraphTransformer, 64, None),
}


def predicted(network: nn.Module) -> Callable[[], object]:
    torch.manual_seed(0)
    return partial(HyperInitializer(HyperNetwork()).initialize, network, partial=True)


def random(make: Callable[[int], nn.Module], width: int, network: nn.Module) -> Callable[[], object]:
    return partial(make, width)


def written(network: nn.Module, device: str) -> Callable[[], object]:
    parameters = list(network.to(device).parameters())

    def work() -> None:
        with torch.no_grad():
            for parameter in parameters:
                parameter.normal_()

    return work


CASES = [
    Case(
        f"weights of {name} of width {{}}",
        sizes=(width // 4, width // 2, width),
        smoke=(width // 4, width // 2),
        inputs=make,
        ours=predicted,
        peers=[Peer("random weights", partial(random, make, width), goal, differs="nothing is predicted")],
        floor=Bare("normal numbers, as many", written),
        unit="channels",
    )
    for name, (make, width, goal) in NETWORKS.items()
]

if __name__ == "__main__":
    main(__doc__, CASES)
