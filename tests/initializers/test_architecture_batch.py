"""Architectures as tensors: padding tells nothing, and numbers are those of the graphs."""

import math

import pytest
import torch
from torch import nn

from graphssl.errors import DataError
from graphssl.initializers import OPERATIONS, ArchitectureBatch, architecture_of
from graphssl.initializers.architecture_batch import FARTHEST


def test_a_batch_holds_what_the_graphs_say():
    short = architecture_of(nn.Linear(4, 2))
    long = architecture_of(nn.Sequential(nn.Conv3d(1, 8, (3, 5, 7)), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 2, 1)))
    batch = ArchitectureBatch.of([short, long])
    assert len(batch) == 2
    assert batch.mask.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    assert [OPERATIONS[kind] for kind in batch.kinds[1]] == ["input", "conv", "bias", "batch_norm", "conv", "bias"]
    expected = [math.log2(n) for n in (8, 1, 3, 5, 7)]
    assert batch.sizes[1, 1].tolist() == pytest.approx(expected)
    assert batch.sizes[1, 3].tolist() == [3, -1, -1, -1, -1]
    assert batch.sizes[0, 0].tolist() == [-1] * 5
    assert batch.degrees[1].tolist() == [[0, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 0]]
    assert batch.distances[0, :3, :3].equal(short.distances)
    assert (batch.distances[0, 3:] == -1).all()


def test_what_lies_far_counts_as_far_as_the_farthest():
    deep = architecture_of(nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(FARTHEST + 5)]))
    assert int(deep.distances.max()) == FARTHEST + 5
    assert int(ArchitectureBatch.of([deep]).distances.max()) == FARTHEST


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="Expected at least one architecture, found none"):
        ArchitectureBatch.of([])


def test_a_batch_moves_to_a_device():
    batch = ArchitectureBatch.of([architecture_of(nn.Linear(4, 2))]).to("meta")
    assert {getattr(batch, name).device for name in ("kinds", "sizes", "degrees", "distances", "mask")} == {torch.device("meta")}
