"""Architectures below one another, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from graphssl.errors import DataError
from graphssl.initializers.architecture import OPERATIONS, Architecture

FARTHEST = 50  # edges; what lies farther counts as this far


@dataclass(frozen=True)
class ArchitectureBatch:
    """Graphs of architectures, padded to the largest.

    Args:
        architectures: The architectures.
        kinds: Kind of each operation, its place in `OPERATIONS` `[B, N]`.
        sizes: Base-2 logarithm of what comes out, what comes in, and the voxels along depth, height and width of its kernel; -1 where it has none
            `[B, N, 5]`.
        degrees: Edges that come in, and that go out `[B, N, 2]`.
        distances: Edges on the shortest way from each operation to each other, -1 where there is none `[B, N, N]`.
        mask: Which operations are real `[B, N]`.
    """

    architectures: tuple[Architecture, ...]
    kinds: Int[Tensor, "B N"]
    sizes: Float[Tensor, "B N 5"]
    degrees: Int[Tensor, "B N 2"]
    distances: Int[Tensor, "B N N"]
    mask: Bool[Tensor, "B N"]

    def __len__(self) -> int:
        return len(self.architectures)

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> "ArchitectureBatch":
        """The batch of some architectures.

        Raises:
            DataError: If there is none.
        """
        if not architectures:
            raise DataError("Expected at least one architecture, found none.")
        n = max(map(len, architectures))
        distances = torch.full((len(architectures), n, n), -1)
        degrees = torch.zeros(len(architectures), n, 2, dtype=torch.long)
        for row, each in enumerate(architectures):  # graphs of Python objects; what is computed of them is not in a loop
            distances[row, : len(each), : len(each)] = each.distances.clamp(max=FARTHEST)
            starts, ends = torch.tensor(each.edges, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
            degrees[row, :, 0], degrees[row, :, 1] = torch.bincount(ends, minlength=n), torch.bincount(starts, minlength=n)
        return cls(
            tuple(architectures),
            pad_sequence([torch.tensor([OPERATIONS.index(operation.kind) for operation in each.operations]) for each in architectures], True),
            pad_sequence([_sizes(each) for each in architectures], True, -1.0),
            degrees,
            distances,
            pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in architectures], True),
        )

    def to(self, device: torch.device | str) -> "ArchitectureBatch":
        """The batch on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("kinds", "sizes", "degrees", "distances", "mask")}
        return replace(self, **tensors)


def _sizes(architecture: Architecture) -> Float[Tensor, "N 5"]:
    sizes = [operation.weights[0].size if operation.weights else (0, 0, 0, 0, 0) for operation in architecture.operations]
    known = torch.tensor(sizes, dtype=torch.float32)
    return torch.where(known > 0, known.clamp(min=1).log2(), -1.0)
