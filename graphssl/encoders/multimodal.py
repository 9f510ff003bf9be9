"""An encoder of patients with several kinds of data: one encoder a modality, and a fusion."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder
from graphssl.data.embedded import EmbeddedBatch
from graphssl.data.multimodal import MultimodalBatch, MultimodalBuilder
from graphssl.encoders.base import AbstractEncoder, Embedding, made_of, written
from graphssl.encoders.fusion import AbstractFusion, Concatenation
from graphssl.errors import ConfigError


class MultimodalEncoder(AbstractEncoder):
    """Embeds each modality of a patient by an encoder of its own and fuses them; what is learned for its absence stands for what a patient lacks.

    In training, each modality that a patient has is left out at random, but never the last one: so the fusion learns to answer from any mix (ModDrop,
    Neverova et al., TPAMI 2016). Several rows of a modality (scans, clips) give their tokens side by side, and the mean of their pooled vectors.

    Args:
        encoders: The encoder of each modality, whose class and arguments are used, by the names of the builder.
        fusion: How they are combined; `Concatenation` when left out.
        dropout_modality: Probability that a modality is left out in training.
        frozen: Modalities whose encoders are not trained; outside of pre-training they run once a row, and what they made of it is kept.
        initial: Folders of saved models from whose weights the encoders of some modalities start, by name; read when a training starts.

    Raises:
        ConfigError: If there is no encoder, one that is frozen or has initial weights is none of them, or the probability is not in [0, 1).
    """

    def __init__(
        self,
        encoders: dict[str, AbstractEncoder],
        fusion: AbstractFusion | None = None,
        dropout_modality: float = 0.3,
        frozen: tuple[str, ...] = (),
        initial: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        strange = sorted({*frozen, *(initial or {})} - set(encoders))
        if not encoders or strange or not 0.0 <= dropout_modality < 1.0:
            raise ConfigError(
                "Expected an encoder of one modality or more, frozen and initial ones among them, and dropout_modality in [0, 1); "
                f"found {', '.join(encoders) or 'none'}, {', '.join(strange) or 'none'} beside them, and {dropout_modality}."
            )
        made = {name: made_of(AbstractEncoder, given, f"an encoder of {name}") for name, given in encoders.items()}  # type: ignore[type-abstract]
        self.encoders: Mapping[str, AbstractEncoder] = nn.ModuleDict(made)  # type: ignore[assignment]
        self.dropout_modality, self.frozen, self.initial = dropout_modality, tuple(frozen), dict(initial or {})
        combined = made_of(AbstractFusion, fusion or Concatenation(), "a fusion")  # type: ignore[type-abstract]
        self.fusion = combined.for_widths({name: (encoder.token_width, encoder.pooled_width) for name, encoder in made.items()})
        self.token_width = self.pooled_width = self.fusion.width
        self.rows_at_once = min(encoder.rows_at_once for encoder in made.values())
        for name in self.frozen:
            self.encoders[name].requires_grad_(False).eval()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities `[M]`, in their order."""
        return tuple(self.encoders)

    def forward(self, batch: MultimodalBatch) -> Embedding:
        """Embed a batch of patients; the tokens are those of all modalities.

        Raises:
            ConfigError: If the batch has a modality that the encoder has not.
        """
        presence = self.presence(batch)
        parts = self.separate(batch)
        embedding: Embedding = self.fusion(parts, self._dropped(presence) if self.training else presence)
        return embedding

    def separate(self, batch: MultimodalBatch) -> dict[str, Embedding]:
        """Each modality alone, a row a patient: no token and zeros where a patient lacks it.

        Args:
            batch: The patients.

        Raises:
            ConfigError: If the batch has a modality that the encoder has not.
        """
        presence = self.presence(batch)
        return {name: self._alone(name, batch, presence[:, number]) for number, name in enumerate(self.modalities)}

    def presence(self, batch: MultimodalBatch) -> Bool[Tensor, "B M"]:
        """Which modalities of each patient can be read, in the order of `modalities`.

        Raises:
            ConfigError: If the batch has a modality that the encoder has not, or is none of several modalities.
        """
        if not isinstance(batch, MultimodalBatch):
            raise ConfigError(f"Expected patients by modality before a MultimodalEncoder, found a {type(batch).__name__}. Give a MultimodalBuilder.")
        strange = [name for name in batch.modalities if name not in self.modalities]
        if strange:
            raise ConfigError(
                f"Expected the modalities {', '.join(self.modalities)}, which the model was trained on, found {strange[0]} too. "
                "Train with it, or leave it out."
            )
        there = dict(zip(batch.modalities, batch.presence.unbind(dim=1), strict=True))
        nobody = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
        return torch.stack([there.get(name, nobody) for name in self.modalities], dim=1)

    def once(self, batch: Batch) -> Batch:
        """The batch with the embeddings of frozen encoders in place of what they read.

        Args:
            batch: All patients of the training.
        """
        if not isinstance(batch, MultimodalBatch):
            return batch
        still = [name for name in self.frozen if name in batch.parts and not isinstance(batch.parts[name], EmbeddedBatch)]
        return batch.with_parts(**{name: self._embedded(self.encoders[name], batch.parts[name]) for name in still})

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training; frozen encoders stay as they are outside of it."""
        super().train(mode)
        for name in self.frozen:
            self.encoders[name].eval()
        return self

    def for_builder(self, builder: AbstractBuilder) -> "MultimodalEncoder":
        """One of the same size for the fitted builders of the modalities, with new random weights.

        Raises:
            ConfigError: If the builder makes other batches, or other modalities than the encoder's.
        """
        if not isinstance(builder, MultimodalBuilder):
            raise ConfigError(
                f"Expected MultimodalBuilder before MultimodalEncoder, found {type(builder).__name__}. Give builder=MultimodalBuilder(…)."
            )
        fitted = builder.builders_
        if set(fitted) != set(self.modalities):
            raise ConfigError(
                f"Expected an encoder of each modality and a builder of each, found encoders of {', '.join(self.modalities)} and "
                f"builders of {', '.join(fitted)}. Name the same."
            )
        encoders = {name: encoder.for_builder(fitted[name]) for name, encoder in self.encoders.items()}
        return type(self)(**{**self.arguments(), "encoders": encoders})

    def default_builder(self) -> AbstractBuilder:
        """A `MultimodalBuilder` of what each encoder reads."""
        return MultimodalBuilder({name: encoder.default_builder() for name, encoder in self.encoders.items()})

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, encoders and fusion by class and arguments."""
        encoders = {name: written(encoder) for name, encoder in self.encoders.items()}
        return {**super().arguments(), "encoders": encoders, "fusion": written(self.fusion)}

    def _alone(self, name: str, batch: MultimodalBatch, there: Bool[Tensor, "B"]) -> Embedding:
        encoder = self.encoders[name]
        if not bool(there.any()):
            nothing = torch.zeros(len(batch), 1, encoder.token_width, device=batch.device)
            return Embedding(nothing, nothing[:, :, 0].bool(), torch.zeros(len(batch), encoder.pooled_width, device=batch.device))
        part, rows = visible_rows(batch.parts[name], torch.where(there.unsqueeze(1), batch.rows[name], -1), least=2 if self.training else 1)
        made = Embedding(part.tokens, part.mask, part.pooled) if isinstance(part, EmbeddedBatch) else encoder(part)
        return of_patients(made, rows)

    def _dropped(self, presence: Bool[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
        """What is left of each patient's modalities, at least one of those that there are."""
        draw = torch.rand(presence.shape, device=presence.device)
        last = F.one_hot(draw.masked_fill(~presence, -1.0).argmax(dim=1), presence.shape[1]).bool()
        return presence & ((draw >= self.dropout_modality) | last)

    def _embedded(self, encoder: AbstractEncoder, part: Batch) -> EmbeddedBatch:
        kept = _kept_of(encoder, with_tokens=self.fusion.reads_tokens)
        signatures = [part[[row]].signature() for row in range(len(part))]
        new = [row for row, signature in enumerate(signatures) if signature not in kept]
        device = next(encoder.parameters()).device
        with torch.no_grad():
            for rows in torch.tensor(new, dtype=torch.long).split(encoder.rows_at_once) if new else ():
                made = encoder(part[rows.tolist()].to(device))
                if not self.fusion.reads_tokens:  # a token a row, so that feature maps need not be kept
                    made = Embedding(made.tokens.new_zeros(len(rows), 1, encoder.token_width), made.mask[:, :1], made.pooled)
                each = zip(made.tokens.cpu(), made.mask.cpu(), made.pooled.cpu(), strict=True)
                kept.update(zip([signatures[row] for row in rows.tolist()], each, strict=True))
        found = [kept[signature] for signature in signatures]
        n_tokens = max(len(mask) for _, mask, _ in found)
        tokens = torch.stack([F.pad(token, (0, 0, 0, n_tokens - len(token))) for token, _, _ in found])
        mask = torch.stack([F.pad(mask, (0, n_tokens - len(mask))) for _, mask, _ in found])
        return EmbeddedBatch(part.subject_ids, tokens, mask, torch.stack([pooled for _, _, pooled in found]))


Kept = dict[bytes, tuple[Tensor, Tensor, Tensor]]
_KEPT: OrderedDict[str, Kept] = OrderedDict()
_MAX_KEPT = 4


def _kept_of(encoder: AbstractEncoder, *, with_tokens: bool) -> Kept:
    """What an encoder of these weights made of rows before, by what tells a row from others; of the encoders asked last."""
    digest = hashlib.sha256(f"{written(encoder)} {with_tokens}".encode())
    for value in encoder.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    kept = _KEPT.setdefault(digest.hexdigest(), {})
    _KEPT.move_to_end(digest.hexdigest())
    while len(_KEPT) > _MAX_KEPT:
        _KEPT.popitem(last=False)
    return kept


def visible_rows(part: Batch, rows: Int[Tensor, "B K"], least: int = 1) -> tuple[Batch, Int[Tensor, "B K"]]:
    """The rows of a modality that are anybody's, and whose each of them is; what is hidden is neither decoded nor embedded.

    Args:
        part: The batch of the modality.
        rows: Rows of each patient, -1 where there are fewer than `K`.
        least: Where fewer rows are anybody's they are taken again up to so many: in training, since one row alone has no statistics of a minibatch.
    """
    read = rows[rows >= 0].unique()
    if not len(read) or least <= len(read) == len(part):
        return part, rows
    place = rows.new_full((len(part),), -1)
    place[read] = torch.arange(len(read), device=rows.device)
    taken = read if len(read) >= least else read.repeat(least)[:least]
    return part[taken], torch.where(rows >= 0, place[rows.clamp(min=0)], -1)


def of_patients(embedding: Embedding, rows: Int[Tensor, "B K"]) -> Embedding:
    """What rows of a modality say of patients: the tokens of all of a patient's rows, and the mean of their pooled vectors.

    Args:
        embedding: Embedding of the rows.
        rows: Rows of each patient, -1 where there are fewer than `K`.
    """
    there = rows >= 0
    place = rows.clamp(min=0)
    tokens = (embedding.tokens[place] * there[:, :, None, None]).flatten(1, 2)  # [B, K · N, D]
    mask = (embedding.mask[place] & there.unsqueeze(-1)).flatten(1, 2)
    total = (embedding.pooled[place] * there.unsqueeze(-1)).sum(dim=1)
    return Embedding(tokens, mask, total / there.sum(dim=1, keepdim=True).clamp(min=1))
