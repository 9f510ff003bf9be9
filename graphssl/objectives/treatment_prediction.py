"""Predict which treatments a patient was given from everything else."""

import torch
from torch import nn

from graphssl.data.timeline import TimelineBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.timeline_encoder import of_timelines
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.masked_timeline import given_error


class TreatmentPrediction(AbstractObjective):
    """Hide all treatments and predict, from the pooled vector, which were given at any time of the window; by weighted cross-entropy.

    The treatment prediction of Pellegrini, Navab & Kazi (Medical Image Analysis 2023): what doctors did tells how ill they held the patient to be.

    Args:
        absent_weight: Weight of a treatment that was not given beside one that was.

    Raises:
        ConfigError: If the weight is out of range.
    """

    def __init__(self, absent_weight: float = 0.25) -> None:
        super().__init__()
        if not 0 < absent_weight <= 1:
            raise ConfigError(f"Expected 0 < absent_weight ≤ 1, found {absent_weight}.")
        self.absent_weight = absent_weight

    def prepare(self, encoder: AbstractEncoder) -> "TreatmentPrediction":
        """Make a head for the encoder's treatments.

        Raises:
            ConfigError: If the encoder is none of timelines, or has no treatments.
        """
        treatments = of_timelines(encoder, "TreatmentPrediction").treatments
        if not treatments:
            raise ConfigError("Expected treatments to predict, found none. Name their codes in TimelineTokenizer(treatments=[…]).")
        self.head = nn.Linear(encoder.pooled_width, len(treatments))
        return self

    def forward(self, encoder: AbstractEncoder, batch: TimelineBatch, generator: torch.Generator) -> Loss:
        """The error over treatments of patients with a bin; nothing is random.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("head")
        hidden = torch.zeros_like(batch.hidden)
        hidden[..., batch.values.shape[2] :] = True
        logits = self.head(encoder(batch.hide(hidden)).pooled)
        given = batch.given.any(dim=1)  # [B, G]
        counts = batch.present.any(dim=1, keepdim=True).expand_as(given)
        total = given_error(logits, given, counts, self.absent_weight)
        right = (logits > 0) == given
        shares = {"found_share": right[given & counts], "spared_share": right[~given & counts]}  # sensitivity and specificity
        return Loss(total, {name: part.float().sum() / max(1, part.numel()) for name, part in shares.items()})
