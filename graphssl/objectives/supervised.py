"""Learn a label from the pooled vector."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import DataError
from graphssl.objectives.base import AbstractObjective, Loss


class Supervised(AbstractObjective):
    """Cross-entropy of a linear head, classes weighted to count alike.

    Labels are looked up by subject id, so that a batch never carries them and the label of a subject that was not given cannot be read.

    Args:
        labels: Class index by subject id.
        n_classes: Number of classes.

    Raises:
        DataError: If a class has no subject, or a label is no class index.
    """

    def __init__(self, labels: Mapping[str, int], n_classes: int = 2) -> None:
        super().__init__()
        self.labels, self.n_classes = dict(labels), n_classes
        strange = sorted(set(self.labels.values()) - set(range(n_classes)))
        if strange:
            raise DataError(f"Expected class indices from 0 to {n_classes - 1}, found {strange[:5]}. Leave out subjects whose label is withheld.")
        counts = torch.bincount(torch.tensor(list(self.labels.values()), dtype=torch.long), minlength=n_classes)
        if (counts == 0).any():
            raise DataError(f"Expected subjects of each of {n_classes} classes, found {counts.tolist()} by class. Give labels of every class.")
        self.register_buffer("class_weight", len(self.labels) / (n_classes * counts.float()), persistent=False)

    class_weight: torch.Tensor

    def prepare(self, encoder: AbstractEncoder) -> "Supervised":
        """Make the head for the encoder's pooled width."""
        self.head = nn.Linear(encoder.pooled_width, self.n_classes)
        return self

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """Weighted cross-entropy of a batch.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If a subject of the batch has no label.
        """
        self.check_prepared("head")
        absent = [subject for subject in batch.subject_ids if subject not in self.labels]
        if absent:
            raise DataError(f"Expected a label for every subject of the batch, found none for {absent[:5]}.")
        target = torch.tensor([self.labels[subject] for subject in batch.subject_ids], device=batch.device)
        logits = self.head(encoder(batch).pooled)
        loss = F.cross_entropy(logits, target, self.class_weight)
        accuracy = (logits.detach().argmax(dim=1) == target).float().mean()
        return Loss(loss, {"accuracy": accuracy})
