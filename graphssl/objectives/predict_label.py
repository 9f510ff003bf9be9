"""Pre-train on labels."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data.classes import class_numbers
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.views.base import AbstractView


class PredictLabel(AbstractObjective):
    """Cross-entropy of a linear head on the pooled vector, with smoothed labels (Szegedy et al., CVPR 2016): supervised pre-training.

    With the view [`VariableDimension`][graphssl.initializers.VariableDimension] it trains a 3D network on labelled 2D images (CSPR, Zhang et al.,
    2022, arXiv 2201.01426); beside another objective in a [`Hybrid`][graphssl.objectives.Hybrid] it is the supervised part. Rows without a label are
    left out.

    Labels are looked up by subject id, so that a batch never carries them. Pre-training takes those of its cohort; an evaluation gives those of the
    training subjects whose label is known in it, and no others.

    Args:
        target: Column of the labels; the cohort's one target when left out.
        smoothing: Share of a label that is spread evenly over all classes, in [0, 1).
        view: A look at each row before it is embedded.

    Raises:
        ConfigError: If the smoothing is out of range.
    """

    knows = ("class_of",)

    def __init__(self, target: str | None = None, smoothing: float = 0.1, view: AbstractView | None = None) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ConfigError(f"Expected a smoothing in [0, 1), found {smoothing}.")
        self.target, self.smoothing, self.view = target, smoothing, view
        self.class_of: dict[str, int] | None = None

    @property
    def reads_labels(self) -> bool:
        """Yes."""
        return True

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with the labels of a cohort, unless it was given some, and a view that knows what it must.

        Raises:
            DataError: If fewer than two classes are labelled.
        """
        seen = super().for_cohort(cohort)
        return seen if self.class_of is not None else seen.with_labels(cohort.labels(self.target))

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The objective with the labels of some subjects.

        Raises:
            DataError: If there are fewer than two classes.
        """
        return self.but(class_of=class_numbers(labels, "to pre-train on", "Choose another target, or another objective."))

    def prepare(self, encoder: AbstractEncoder) -> "PredictLabel":
        """Make the head.

        Raises:
            ConfigError: If it was not told the labels.
        """
        if self.class_of is None:
            raise ConfigError("Expected a PredictLabel that knows labels, found one without. Call for_cohort(cohort) or with_labels(labels) first.")
        self.head = nn.Linear(encoder.pooled_width, 1 + max(self.class_of.values()))
        return self

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """Cross-entropy over the rows that have a label, and the share of them told right; zero where none has.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("head")
        assert self.class_of is not None
        known = [row for row, subject in enumerate(batch.subject_ids) if subject in self.class_of]
        if not known:
            return Loss(0.0 * self.head.bias.sum(), {})
        labelled = batch if len(known) == len(batch) else batch[known]
        if self.view is not None:
            labelled = self.view(labelled, generator)
        target = torch.tensor([self.class_of[subject] for subject in labelled.subject_ids], device=labelled.device)
        logits = self.head(encoder(labelled).pooled)
        accuracy = (logits.detach().argmax(dim=1) == target).float().mean()
        return Loss(F.cross_entropy(logits, target, label_smoothing=self.smoothing), {"accuracy": accuracy})
