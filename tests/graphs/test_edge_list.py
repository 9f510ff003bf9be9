"""Connectomes as nodes and edges, against reading the dense matrix one entry at a time."""

import pytest
import torch

from graphssl.data import ConnectomeBatch
from graphssl.errors import DataError
from graphssl.graphs.edge_list import from_edge_lists, to_edge_lists


def small_batch():
    mask = torch.tensor([[True, True, False, True], [False, True, True, False]])
    visible = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(4, dtype=torch.bool)
    weights = torch.arange(16.0).reshape(1, 4, 4) - 9
    weights = torch.where(visible, weights + weights.mT, 0.0)
    places = torch.arange(24.0).reshape(2, 4, 3).masked_fill(~mask.unsqueeze(2), 0.0)
    return ConnectomeBatch(("a", "b"), weights, visible, mask, places, torch.full((2, 4), -1), ("x", "y"))


def test_edges_are_the_visible_entries_between_numbered_nodes():
    batch = small_batch()
    first, second = to_edge_lists(batch)
    assert first.region.tolist() == [0, 1, 3]
    found = {(int(first.region[s]), int(first.region[t])): w for (s, t), w in zip(first.edge_index.T.tolist(), first.weight.tolist(), strict=True)}
    assert found == {(i, j): batch.weights[0, i, j].item() for i in range(4) for j in range(4) if batch.visible[0, i, j]}
    assert second.edge_index.tolist() == [[0, 1], [1, 0]]
    assert (second.subject_id, second.atlas, second.n_regions) == ("b", "y", 4)


def test_there_and_back_loses_nothing():
    batch = small_batch()
    found = from_edge_lists(to_edge_lists(batch))
    for name in ("weights", "visible", "mask", "centroids", "networks"):
        assert torch.equal(getattr(found, name), getattr(batch, name))
    assert (found.subject_ids, found.atlas) == (batch.subject_ids, batch.atlas)


def test_no_connectome_has_no_edges():
    assert to_edge_lists(small_batch()[[]]) == []
    with pytest.raises(DataError, match="at least one graph, found none"):
        from_edge_lists([])
