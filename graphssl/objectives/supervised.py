"""Learn a label from the pooled vector."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss

ClassWeight = Literal["balanced"] | None


class Supervised(AbstractObjective):
    """Cross-entropy of a linear head.

    Labels are looked up by subject id, so that a batch never carries them and the label of a subject that was not given cannot be read.

    Args:
        labels: Class index by subject id.
        n_classes: Number of classes.
        class_weight: `"balanced"` lets the classes count alike, however many subjects each has; None lets every subject count alike, so that
            probabilities follow how common a class is.

    Raises:
        ConfigError: If the class weight is neither of the two.
        DataError: If a class has no subject, or a label is no class index.
    """

    def __init__(self, labels: Mapping[str, int], n_classes: int = 2, class_weight: ClassWeight = "balanced") -> None:
        super().__init__()
        check_class_weight(class_weight)
        self.labels, self.n_classes, self.class_weight = dict(labels), n_classes, class_weight
        strange = sorted(set(self.labels.values()) - set(range(n_classes)))
        if strange:
            raise DataError(f"Expected class indices from 0 to {n_classes - 1}, found {strange[:5]}. Leave out subjects whose label is withheld.")
        counts = torch.bincount(torch.tensor(list(self.labels.values()), dtype=torch.long), minlength=n_classes)
        if (counts == 0).any():
            raise DataError(f"Expected subjects of each of {n_classes} classes, found {counts.tolist()} by class. Give labels of every class.")
        weights = len(self.labels) / (n_classes * counts.float()) if class_weight == "balanced" else torch.ones(n_classes)
        self.register_buffer("weights", weights, persistent=False)

    weights: torch.Tensor

    def prepare(self, encoder: AbstractEncoder) -> "Supervised":
        """Make the head for the encoder's pooled width."""
        self.head = nn.Linear(encoder.pooled_width, self.n_classes)
        return self

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """Cross-entropy of a batch, weighted by class.

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
        loss = F.cross_entropy(logits, target, self.weights)
        accuracy = (logits.detach().argmax(dim=1) == target).float().mean()
        return Loss(loss, {"accuracy": accuracy})


def check_class_weight(class_weight: object) -> None:
    """Check that a class weight is one there is.

    Raises:
        ConfigError: If it is not.
    """
    if class_weight not in ("balanced", None):
        raise ConfigError(f"Expected the class weight 'balanced' or None, found {class_weight!r}.")
