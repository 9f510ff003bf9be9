"""Prototypes: a class is where its support lies on average."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError


class ProtoNet(nn.Module):
    """Classifies by the distance of pooled vectors to the means of the classes (Snell et al., NeurIPS 2017).

    Nothing is adapted by steps. Tasks may differ in size; all of them are embedded in one forward.

    Args:
        encoder: The encoder.
        n_classes: Number of classes of a task.
    """

    def __init__(self, encoder: AbstractEncoder, n_classes: int = 2) -> None:
        super().__init__()
        self.encoder, self.n_classes = encoder, n_classes

    def forward(self, support: Sequence[tuple[Any, Int[Tensor, "b"]]], query: Sequence[tuple[Any, Int[Tensor, "q"]]]) -> Float[Tensor, "T"]:
        """Cross-entropy of each task's query.

        Args:
            support: Batch and labels of each task.
            query: Batch and labels of each task.

        Raises:
            ConfigError: If support and query are of different numbers of tasks.
            DataError: If a class of a task has no row in its support.
        """
        if len(support) != len(query) or not support:
            raise ConfigError(f"Expected a support and a query for each of one or more tasks, found {len(support)} and {len(query)}.")
        labels = torch.cat([labels for _, labels in query])
        losses = F.cross_entropy(self.logits(support, [batch for batch, _ in query]), labels, reduction="none")
        task = _task_of_rows([labels for _, labels in query])
        return torch.zeros(len(query), device=losses.device, dtype=losses.dtype).index_add(0, task, losses) / torch.bincount(task)

    def logits(self, support: Sequence[tuple[Any, Int[Tensor, "b"]]], query: Sequence[Any]) -> Float[Tensor, "Q C"]:
        """Minus squared distances of the rows of all queries, below one another, to the prototypes of their task.

        Raises:
            DataError: If a class of a task has no row in its support.
        """
        batches = [batch for batch, _ in support]
        rows = type(batches[0]).cat([*batches, *query])
        n_support = sum(len(batch) for batch in batches)
        pooled = self.encoder(rows).pooled
        labels = torch.cat([labels for _, labels in support])
        cell = _task_of_rows([labels for _, labels in support]) * self.n_classes + labels
        centres = prototypes(pooled[:n_support], cell, len(support) * self.n_classes).unflatten(0, (len(support), self.n_classes))  # [T, C, P]
        task = _task_of_rows(query).to(pooled.device)
        return -(pooled[n_support:].unsqueeze(1) - centres[task]).square().sum(dim=2)


def prototypes(vectors: Float[Tensor, "n D"], labels: Int[Tensor, "n"], n_classes: int) -> Float[Tensor, "C D"]:
    """Mean of the vectors of each class.

    Args:
        vectors: One vector a row.
        labels: Class of each row, from 0.
        n_classes: Number of classes.

    Raises:
        DataError: If a class has no row, or a label is no class.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise DataError(f"Expected labels from 0 to {n_classes - 1}, found {sorted(set(labels.tolist()))[:5]}.")
    counts = torch.bincount(labels, minlength=n_classes)
    if bool((counts == 0).any()):
        raise DataError(f"Expected rows of every class in the support, found {counts.tolist()} by class. Draw as many of each.")
    sums = torch.zeros(n_classes, vectors.shape[1], device=vectors.device, dtype=vectors.dtype).index_add(0, labels, vectors)
    return sums / counts.unsqueeze(1)


def _task_of_rows(parts: Sequence[Any]) -> Int[Tensor, "n"]:
    device = parts[0].device
    sizes = torch.tensor([len(part) for part in parts], device=device)
    return torch.arange(len(parts), device=device).repeat_interleave(sizes)
