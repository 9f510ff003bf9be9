"""Prototypes: means by loops, all tasks at once against one by one, and refusals."""

import pytest
import torch
from torch.nn import functional as F

from graphssl.errors import ConfigError, DataError
from graphssl.training.meta import ProtoNet, prototypes


def test_prototypes_are_the_means_of_the_classes():
    vectors, labels = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 1, 0, 2, 2, 1])
    found = prototypes(vectors, labels, 3)
    for c in range(3):
        assert torch.allclose(found[c], torch.stack([v for v, label in zip(vectors, labels, strict=True) if label == c]).mean(dim=0))


def test_tasks_of_any_size_at_once_are_tasks_one_by_one(make_batch, make_encoder):
    encoder = make_encoder(dropout=0.0)
    net = ProtoNet(encoder)
    support = [(make_batch(4, 6, seed=0), torch.tensor([0, 1, 1, 0])), (make_batch(3, 9, seed=1), torch.tensor([1, 0, 0]))]
    query = [(make_batch(2, 6, seed=2), torch.tensor([1, 0])), (make_batch(5, 9, seed=3), torch.tensor([0, 0, 1, 1, 0]))]
    found = net(support, query)
    for k in range(2):
        (batch, labels), (asked, expected) = support[k], query[k]
        pooled = encoder(batch).pooled
        centres = torch.stack([pooled[labels == c].mean(dim=0) for c in range(2)])
        logits = -torch.cdist(encoder(asked).pooled, centres).square()
        assert torch.allclose(net.logits([support[k]], [asked]), logits, atol=1e-5)
        assert torch.allclose(found[k], F.cross_entropy(logits, expected), atol=1e-5)
    found.sum().backward()
    assert encoder.blocks[0].qkv.weight.grad.abs().sum() > 0


def test_refusals(make_batch, make_encoder):
    net, batch = ProtoNet(make_encoder()), make_batch(2, 5)
    task = (batch, torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="one or more tasks, found 1 and 0"):
        net([task], [])
    with pytest.raises(DataError, match=r"every class in the support, found \[2, 0\] by class"):
        net([(batch, torch.tensor([0, 0]))], [task])
    with pytest.raises(DataError, match=r"labels from 0 to 1, found \[0, 2\]"):
        prototypes(torch.zeros(2, 3), torch.tensor([0, 2]), 2)
