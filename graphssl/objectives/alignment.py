"""A subject in one atlas is known again in another."""

from collections import Counter

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.heads import projector, spread
from graphssl.objectives.two_views import check_positive, check_subjects, subject_index
from graphssl.views.base import AbstractView


class AtlasAlignment(AbstractObjective):
    """Find a subject's connectome in another atlas among those of the other subjects of the minibatch in that atlas.

    The contrast of CLIP (Radford et al., ICML 2021) and of contrastive multiview coding (Tian et al., ECCV 2020), with atlases as the views: atlases
    of one scan differ in how they cut the brain and in the noise of their averages, and share the subject. A regression of one atlas' vector on the
    other's is solved by a constant, which a contrast is not; and since all candidates are in one atlas, knowing the atlas does not help.
    Covariates, the same in all atlases of a subject, are hidden.

    Args:
        view: A look at every connectome before it is embedded; they are taken as they are when left out.
        temperature: Temperature of the softmax.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a number is not positive.
    """

    def __init__(self, view: AbstractView | None = None, temperature: float = 0.2, width: int = 64, hidden: int = 128) -> None:
        super().__init__()
        check_positive(temperature=temperature, width=width, hidden=hidden)
        self.view, self.temperature, self.width, self.hidden = view, temperature, width, hidden

    def prepare(self, encoder: AbstractEncoder) -> "AtlasAlignment":
        """Make the projector for the encoder's pooled width."""
        self.projector = projector(encoder.pooled_width, self.hidden, self.width)
        return self

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """The loss over all rows that have a partner in another atlas.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If the batch holds one subject only, no subject has rows in two atlases, or one has two rows in one atlas.
        """
        self.check_prepared("projector")
        check_subjects(batch)
        batch = batch.hide_covariates()
        atlases = list(dict.fromkeys(batch.atlas))
        names = torch.tensor([atlases.index(name) for name in batch.atlas], device=batch.device)
        _check_partners(batch)
        pooled = encoder(batch if self.view is None else self.view(batch, generator)).pooled
        projected = self.projector(pooled)
        loss, found = alignment(projected, subject_index(batch), names, self.temperature)
        return Loss(loss, {"accuracy": found.detach(), "pooled_spread": spread(pooled), "projected_spread": spread(projected)})


def alignment(
    vectors: Float[Tensor, "B D"], subjects: Int[Tensor, "B"], atlases: Int[Tensor, "B"], temperature: float = 0.2
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean InfoNCE over all pairs of a row and its subject's row in another atlas, and the share of pairs where that row is the most alike.

    The candidates are the rows in the partner's atlas. A subject has one row an atlas at most.

    Args:
        vectors: Projected rows.
        subjects: A number a subject, by row.
        atlases: A number an atlas, by row.
        temperature: Temperature of the softmax.
    """
    directions = F.normalize(vectors.float(), dim=1)
    logits = directions @ directions.T / temperature
    losses, hits = [], []
    for atlas in atlases.unique():
        candidates = (atlases == atlas).nonzero().flatten()
        partner = subjects.unsqueeze(1) == subjects[candidates]  # [B, candidates]
        anchors = ((atlases != atlas) & partner.any(dim=1)).nonzero().flatten()
        choice, target = logits[anchors][:, candidates], partner[anchors].int().argmax(dim=1)
        losses.append(F.cross_entropy(choice, target, reduction="none"))
        hits.append((choice.argmax(dim=1) == target).float())
    return torch.cat(losses).mean(), torch.cat(hits).mean()


def _check_partners(batch: ConnectomeBatch) -> None:
    rows = Counter(zip(batch.subject_ids, batch.atlas, strict=True))
    twice = sorted({subject for (subject, _), count in rows.items() if count > 1})
    if twice:
        raise DataError(f"Expected one row a subject and atlas to align atlases, found more of {twice[:5]}.")
    if len(set(batch.subject_ids)) == len(rows):
        raise DataError(
            f"Expected subjects with rows in two atlases to align, found none among {len(rows)} rows in {', '.join(dict.fromkeys(batch.atlas))}. "
            "Load a second atlas, and raise the batch size to two rows a subject or more."
        )
