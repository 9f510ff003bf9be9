"""Hide one modality of a patient and tell it from the others."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.multimodal import MultimodalBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.choose import choose_patients, random_rank
from graphssl.objectives.cross_modal import chosen_modalities, of_modalities, patients_of
from graphssl.objectives.cross_modal_loss import cosines
from graphssl.objectives.heads import projector, spread
from graphssl.objectives.two_views import check_positive


class MaskedModality(AbstractObjective):
    """Hide a modality of each patient who has several, and find its embedding among those of the minibatch by what is left.

    What is left are the patient's other modalities and, in a population, the patient's neighbours. What is sought is what the modality's own encoder
    makes of it, without gradient and standardised over the minibatch; it is told from that of others (InfoNCE, van den Oord, Li & Vinyals, 2018), so
    that encoders which give everybody the same gain nothing. Every modality counts in units of what guessing costs.

    Args:
        visible_weight: Weight of finding what is *not* hidden too, by the vector that has read it. Without it the vector keeps of a modality only
            what others can be told from, and not what stands alone in it.
        patients: Share of the patients that lose all modalities; 0 for none. It asks for an encoder in which patients see each other.
        temperature: Temperature of the softmax over cosines; lower looks at the hardest others.
        hidden: Width of the inner layer of the predictors.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, visible_weight: float = 0.0, patients: float = 0.0, temperature: float = 0.1, hidden: int = 128) -> None:
        super().__init__()
        check_positive(temperature=temperature, hidden=hidden)
        if not 0 <= patients < 1 or visible_weight < 0:
            raise ConfigError(f"Expected a share of patients in [0, 1) and visible_weight ≥ 0, found {patients} and {visible_weight}.")
        self.visible_weight, self.patients, self.temperature, self.hidden = visible_weight, patients, temperature, hidden

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "MaskedModality":
        """Make a predictor a modality.

        Raises:
            ConfigError: If the encoder is none of several modalities.
        """
        reader = of_modalities(encoder, "MaskedModality")
        self.names = chosen_modalities(reader, None)
        widths = [reader.encoders[name].pooled_width for name in self.names]
        self.predictors = nn.ModuleList(projector(encoder.pooled_width, self.hidden, width) for width in widths)
        return self

    def draw(self, patients: MultimodalBatch, generator: torch.Generator) -> Bool[Tensor, "B M"]:
        """Choose one modality of each patient who has two or more, and all of those of some patients."""
        there = patients.presence.cpu()
        several = there.sum(dim=1) > 1
        hidden = there & several.unsqueeze(1) & (random_rank(there, generator) == 0)
        if self.patients:
            lost = choose_patients(there.any(dim=1), self.patients, generator)
            hidden = torch.where(lost.unsqueeze(1), there, hidden)
        return hidden.to(patients.device)

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The mean loss over hidden modalities; zero where nobody has two.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("predictors")
        patients = patients_of(batch)
        hidden = self.draw(patients, generator)
        with torch.no_grad():
            sought = of_modalities(encoder, "MaskedModality").separate(patients)
        told = encoder(batch.hide(hidden)).pooled
        total, weight, parts = told.sum() * 0.0, told.new_zeros(()), {"pooled_spread": spread(told)}
        for name, predictor in zip(self.names, self.predictors, strict=True):
            column = patients.modalities.index(name)
            masked, known = hidden[:, column], patients.presence[:, column].nonzero().squeeze(1)
            rows = known[masked[known]] if not self.visible_weight else known
            if min(len(rows), len(known)) < 2:
                continue
            targets = standardised(sought[name].pooled[known])
            losses, found = told_apart(predictor(told[rows]), targets, torch.searchsorted(known, rows), self.temperature)
            weights = torch.where(masked[rows], 1.0, self.visible_weight)
            total, weight = total + (losses * weights).sum(), weight + weights.sum()
            parts |= noted(name, losses.detach(), found, masked[rows])
        return Loss(total / weight.clamp(min=torch.finfo(weight.dtype).tiny), parts)


def noted(name: str, losses: Float[Tensor, "A"], found: Bool[Tensor, "A"], masked: Bool[Tensor, "A"]) -> dict[str, Tensor]:
    """Mean error and share found of a modality, where it was hidden and where it was not."""
    kinds = {name: masked, f"visible_{name}": ~masked}
    parts = {f"{kind}_error": losses[chosen].mean() for kind, chosen in kinds.items() if chosen.any()}
    return parts | {f"{kind}_accuracy": found[chosen].float().mean() for kind, chosen in kinds.items() if chosen.any()}


def told_apart(
    predicted: Float[Tensor, "A D"], targets: Float[Tensor, "B D"], own: Int[Tensor, "A"], temperature: float
) -> tuple[Float[Tensor, "A"], Bool[Tensor, "A"]]:
    """Cross-entropy of finding each one's target among all, in units of what guessing costs, and who is found.

    Args:
        predicted: What was predicted.
        targets: Those of everybody, two at least.
        own: Row of each one's target.
        temperature: Temperature of the softmax over cosines.
    """
    logits = cosines(predicted, targets) / temperature
    found = logits.detach().argmax(dim=1) == own
    return F.cross_entropy(logits, own, reduction="none") / math.log(len(targets)), found


def standardised(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Vectors with mean 0 and spread 1 along each of their widths: what all have in common tells nobody apart."""
    centred = vectors - vectors.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + 1e-5).sqrt()
