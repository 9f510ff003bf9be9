"""The loss of a task with labels is the cross-entropy of its head on the pooled vector."""

import pytest
import torch

from graphssl.training.meta import LabelledLoss


def test_it_is_the_mean_of_minus_the_log_probability(make_encoder, make_batch):
    batch, labels = make_batch(n_rows=4), torch.tensor([0, 1, 1, 2])
    loss = LabelledLoss(make_encoder().eval(), 3)
    logits = loss.encoder(batch).pooled @ loss.head.weight.T + loss.head.bias
    by_hand = [-float(row[label] - row.exp().sum().log()) for row, label in zip(logits.detach(), labels, strict=True)]
    assert float(loss((batch, labels)).detach()) == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
