"""Hide part of a patient's timeline and predict it from the rest."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.timeline import TimelineBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.timeline_encoder import of_timelines
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.choose import choose_patients, choose_share


class AbstractMaskedTimeline(AbstractObjective):
    """Hide values and treatments, embed what is left, and predict what was hidden: numbers by squared error, treatments by cross-entropy.

    Only what was hidden and truly measured counts, and a treatment only while the patient was there. Two decoders read the tokens of the bins and the
    pooled vector, so that the pooled vector, which later studies use, has to hold the course of the patient too. The error of treatments is
    divided by ln 2, which is what guessing costs, and added to that of numbers.

    Args:
        pooled_weight: Weight of the prediction from the pooled vector beside that from tokens; 0 leaves it out.
        absent_weight: Weight of a treatment that was not given beside one that was: most are not given most of the time.

    Raises:
        ConfigError: If a weight is out of range.
    """

    def __init__(self, pooled_weight: float, absent_weight: float) -> None:
        super().__init__()
        if pooled_weight < 0 or not 0 < absent_weight <= 1:
            raise ConfigError(f"Expected pooled_weight ≥ 0 and 0 < absent_weight ≤ 1; found {pooled_weight} and {absent_weight}.")
        self.pooled_weight, self.absent_weight = pooled_weight, absent_weight

    def prepare(self, encoder: AbstractEncoder) -> "AbstractMaskedTimeline":
        """Make the decoders for the encoder's codes and bins.

        Raises:
            ConfigError: If the encoder is none of timelines.
        """
        reader = of_timelines(encoder, type(self).__name__)
        n_columns = len(reader.codes) + len(reader.treatments)
        self.from_tokens = nn.Linear(encoder.token_width, n_columns)
        if self.pooled_weight:
            self.from_pooled = PooledBins(encoder.pooled_width, reader.n_bins, n_columns)
        return self

    @abstractmethod
    def draw(self, batch: TimelineBatch, generator: torch.Generator) -> Bool[Tensor, "B T C"]:
        """Choose what to hide of what can be read."""

    def forward(self, encoder: AbstractEncoder, batch: TimelineBatch, generator: torch.Generator) -> Loss:
        """The error over what was hidden.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("from_tokens")
        hidden = self.draw(batch, generator)
        embedding = encoder(batch.hide(hidden))
        total, parts = timeline_error(self.from_tokens(embedding.tokens[:, : batch.values.shape[1]]), batch, hidden, self.absent_weight)
        guessed = batch.values.square()[hidden[..., : batch.values.shape[2]]]
        parts["zero_error"] = guessed.sum() / max(1, guessed.numel())
        if self.pooled_weight:
            pooled_error, _ = timeline_error(self.from_pooled(embedding.pooled), batch, hidden, self.absent_weight)
            parts["pooled_error"] = pooled_error.detach()
            total = total + self.pooled_weight * pooled_error
        return Loss(total, parts)


class MaskedFeatures(AbstractMaskedTimeline):
    """Hide whole variables over all of the time; the others must tell them.

    The feature masking of Pellegrini, Navab & Kazi (Medical Image Analysis 2023). Of the variables that a patient has values of a share is hidden; a
    treatment is hidden or not whether or not it was given, for else hiding would tell.

    Args:
        ratio: Share of a patient's measured variables that is hidden, one at least, and probability that a treatment is.
        pooled_weight: Weight of the prediction from the pooled vector.
        absent_weight: Weight of a treatment that was not given.

    Raises:
        ConfigError: If the ratio or a weight is out of range.
    """

    def __init__(self, ratio: float = 0.3, pooled_weight: float = 1.0, absent_weight: float = 0.25) -> None:
        super().__init__(pooled_weight, absent_weight)
        _check_ratio(ratio)
        self.ratio = ratio

    def draw(self, batch: TimelineBatch, generator: torch.Generator) -> Bool[Tensor, "B T C"]:
        """Choose variables and treatments of each patient."""
        readable, n_values = _readable(batch), batch.values.shape[2]
        there = readable.any(dim=1)  # [B, C]
        variables = choose_share(there[:, :n_values], self.ratio, generator)
        treatments = torch.rand(there[:, n_values:].shape, generator=generator) < self.ratio
        return (torch.cat([variables, treatments], dim=1).unsqueeze(1) & readable).to(batch.device)


class MaskedBlocks(AbstractMaskedTimeline):
    """Hide a block of time of every variable and treatment, each at a place of its own; before, after and the others must tell it.

    The block-wise masking of Pellegrini, Navab & Kazi (Medical Image Analysis 2023).

    Args:
        block: Length of a block in bins; at most half of the bins of a patient.
        pooled_weight: Weight of the prediction from the pooled vector.
        absent_weight: Weight of a treatment that was not given.

    Raises:
        ConfigError: If the block has no bins, or a weight is out of range.
    """

    def __init__(self, block: int = 6, pooled_weight: float = 1.0, absent_weight: float = 0.25) -> None:
        super().__init__(pooled_weight, absent_weight)
        if block < 1:
            raise ConfigError(f"Expected a block of at least one bin, found {block}.")
        self.block = block

    def draw(self, batch: TimelineBatch, generator: torch.Generator) -> Bool[Tensor, "B T C"]:
        """Choose the place of each block, every place within the patient's bins alike."""
        readable = _readable(batch)
        n_bins, n_present = readable.shape[1], batch.present.sum(dim=1, keepdim=True).cpu()  # [B, 1]
        length = (n_present // 2).clamp(min=1, max=self.block)
        n_places = (n_present - length + 1).clamp(min=1)
        place = torch.rand(len(batch), readable.shape[2], generator=generator).double()
        start = n_bins - n_present + (place * n_places).long()  # [B, C]
        bins = torch.arange(n_bins).view(1, -1, 1)
        block = (bins >= start.unsqueeze(1)) & (bins < (start + length).unsqueeze(1))
        return (block & readable).to(batch.device)


class MaskedPatients(AbstractMaskedTimeline):
    """Hide everything but the static columns of some patients; whoever they are connected with must tell.

    The patient masking of Pellegrini, Navab & Kazi (Medical Image Analysis 2023). It asks for an encoder in which patients see each other: without
    a graph nothing is left to predict from but the static columns.

    Args:
        ratio: Share of the patients of a batch that lose everything, one at least.
        pooled_weight: Weight of the prediction from the pooled vector.
        absent_weight: Weight of a treatment that was not given.

    Raises:
        ConfigError: If the ratio or a weight is out of range.
    """

    def __init__(self, ratio: float = 0.1, pooled_weight: float = 1.0, absent_weight: float = 0.25) -> None:
        super().__init__(pooled_weight, absent_weight)
        _check_ratio(ratio)
        self.ratio = ratio

    def draw(self, batch: TimelineBatch, generator: torch.Generator) -> Bool[Tensor, "B T C"]:
        """Choose patients of whom something can be read."""
        readable = _readable(batch)
        lost = choose_patients(readable.flatten(start_dim=1).any(dim=1), self.ratio, generator)
        return (lost.view(-1, 1, 1) & readable).to(batch.device)


class PooledBins(nn.Module):
    """A number or logit `[B, T, C]` of each bin and column from the pooled vector.

    Args:
        pooled_width: Width of the pooled vector.
        n_bins: Number of bins.
        n_columns: Numbers and treatments of a bin.
    """

    def __init__(self, pooled_width: int, n_bins: int, n_columns: int) -> None:
        super().__init__()
        self.patient = nn.Linear(pooled_width, pooled_width)
        self.time = nn.Parameter(torch.randn(n_bins, pooled_width))
        self.out = nn.Linear(pooled_width, n_columns)

    def forward(self, pooled: Float[Tensor, "B P"]) -> Float[Tensor, "B T C"]:
        """Predictions of all bins."""
        return torch.as_tensor(self.out(F.gelu(self.patient(pooled).unsqueeze(1) + self.time)))


def timeline_error(
    predicted: Float[Tensor, "B T C"], batch: TimelineBatch, hidden: Bool[Tensor, "B T C"], absent_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean error over hidden values and treatments, and its parts.

    Args:
        predicted: Numbers in normal scores, then a logit a treatment.
        batch: What they should be.
        hidden: What counts.
        absent_weight: Weight of a treatment that was not given.
    """
    n_values = batch.values.shape[2]
    hidden_values, hidden_treatments = hidden[..., :n_values], hidden[..., n_values:]
    squared = (predicted[..., :n_values] - batch.values).square().masked_fill(~hidden_values, 0.0)
    values = squared.sum() / hidden_values.sum().clamp(min=1)
    treatments = given_error(predicted[..., n_values:], batch.given, hidden_treatments, absent_weight)
    return values + treatments, {"values_error": values.detach(), "treatments_error": treatments.detach()}


def given_error(logits: Float[Tensor, "*B G"], given: Bool[Tensor, "*B G"], counts: Bool[Tensor, "*B G"], absent_weight: float) -> Float[Tensor, ""]:
    """Weighted mean cross-entropy of treatments that count, in units of what guessing costs (ln 2); zero where none does."""
    weight = torch.where(given, 1.0, absent_weight) * counts
    entropy = F.binary_cross_entropy_with_logits(logits, given.to(logits.dtype), weight=weight, reduction="sum")
    return entropy / weight.sum().clamp(min=absent_weight) / math.log(2)


def _readable(batch: TimelineBatch) -> Bool[Tensor, "B T C"]:
    return (batch.known & ~batch.hidden).cpu()


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio < 1:
        raise ConfigError(f"Expected 0 < ratio < 1, found {ratio}.")
