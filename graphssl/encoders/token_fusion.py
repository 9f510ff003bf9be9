"""Fusions of tokens: those of one modality are modulated by the others, or attend to theirs."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.fusion import AbstractFusion, Sources, Widths, joined_embedding
from graphssl.encoders.mlp import feed_forward
from graphssl.errors import ConfigError


class FiLM(AbstractFusion):
    """One modality's tokens are scaled and shifted by what the others say: feature-wise linear modulation, as for images that a table conditions.

    A small network sees the vectors of the others and, as in DAFT, that of the modality itself, and gives a scale and a shift a channel. Where the
    modality is missing, its learned vector is modulated in place of its tokens.

    Source: Perez et al., FiLM (AAAI 2018); Wolf et al., DAFT (NeuroImage 2022, arXiv 2107.09927).

    Args:
        width: Width of the result.
        modulated: Name of the modality whose tokens are modulated; the first when left out.
        dynamic: Whether the scale and shift depend on the modality itself too (DAFT), or on the others alone (FiLM).
        squeeze: How many times narrower the network is inside.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.

    Raises:
        ConfigError: If there is no modality of that name, or nothing to be modulated by.
    """

    reads_tokens = True

    def __init__(self, width: int = 128, modulated: str | None = None, dynamic: bool = True, squeeze: int = 4, widths: Widths | None = None) -> None:
        super().__init__()
        self.set_sources(width, widths)
        self.modulated, self.dynamic, self.squeeze = modulated, dynamic, squeeze
        _check_named(self, modulated)
        n = max(1, len(self.widths) - (not dynamic))
        inner = max(1, n * width // squeeze)
        self.condition = nn.Sequential(nn.Linear(n * width, inner), nn.GELU(), nn.Linear(inner, 2 * width))
        self.out = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width))

    def combine(self, sources: Sources) -> Embedding:
        """The modulated tokens, and a linear layer over their mean and the modulated vector."""
        own = _place(self, self.modulated)
        name = self.modalities[own]
        conditions = [vector for number, vector in enumerate(sources.pooled.unbind(dim=1)) if self.dynamic or number != own]
        scale, shift = self.condition(torch.cat(conditions, dim=1)).chunk(2, dim=1)
        tokens = (1 + scale).unsqueeze(1) * sources.tokens[name] + shift.unsqueeze(1)
        vector = (1 + scale) * sources.pooled[:, own] + shift
        mean = torch.where(sources.masks[name].any(dim=1, keepdim=True), _masked_mean(tokens, sources.masks[name]), vector)
        sources = sources._replace(tokens={**sources.tokens, name: tokens})
        return joined_embedding(sources, self.out(torch.cat([mean, vector], dim=1)))


class CrossAttention(AbstractFusion):
    """Tokens of one modality attend to one another and to the tokens of all others; a token of its own gathers the patient: TIP's interaction.

    What is missing is one token there, its learned vector. Source: Du et al., TIP: Tabular-Image Pre-training for Multimodal Classification with
    Incomplete Data (ECCV 2024).

    Args:
        width: Width of tokens and of the result.
        asks: Name of the modality whose tokens attend to the others, such as the table; the first when left out.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        dropout: Dropout of attention and feed-forward outputs.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.

    Raises:
        ConfigError: If the heads do not divide the width, or there is no modality of that name, or none to attend to.
    """

    reads_tokens = True

    def __init__(
        self, width: int = 128, asks: str | None = None, depth: int = 2, heads: int = 4, dropout: float = 0.1, widths: Widths | None = None
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.set_sources(width, widths)
        self.asks, self.depth, self.heads, self.dropout = asks, depth, heads, dropout
        _check_named(self, asks)
        self.patient = nn.Parameter(0.1 * torch.randn(width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def combine(self, sources: Sources) -> Embedding:
        """The patient's token after the blocks."""
        own = _place(self, self.asks)
        name = self.modalities[own]
        others = [number for number in range(len(self.widths)) if number != own]
        # Beside its tokens each modality has its vector, so that there is something to attend to where it is missing.
        heard = torch.cat([sources.pooled[:, others], *(sources.tokens[self.modalities[number]] for number in others)], dim=1)
        always = torch.ones_like(sources.presence[:, others])
        audible = torch.cat([always, *(sources.masks[self.modalities[number]] for number in others)], dim=1)
        n_front = 2  # the patient's token and the vector of the modality that asks
        front = torch.stack([self.patient.expand(len(heard), -1), sources.pooled[:, own]], dim=1)
        tokens = torch.cat([front, sources.tokens[name]], dim=1)
        present = torch.cat([torch.ones_like(front[:, :, 0], dtype=torch.bool), sources.masks[name]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, present, heard, audible)
        tokens = self.norm(tokens)
        return joined_embedding(sources._replace(tokens={**sources.tokens, name: tokens[:, n_front:]}), tokens[:, 0])


class CrossBlock(nn.Module):
    """Attention among tokens, then to the tokens of others, then a feed-forward, with normalisation before each.

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        dropout: Dropout of the three outputs.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.across = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = feed_forward(width)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "B N D"], present: Bool[Tensor, "B N"], heard: Float[Tensor, "B L D"], audible: Bool[Tensor, "B L"]
    ) -> Float[Tensor, "B N D"]:
        """The tokens after one round.

        Args:
            tokens: Tokens that attend.
            present: Which of them are real, at least one a row.
            heard: Tokens of the others.
            audible: Which of those are real, at least one a row.
        """
        inner = self.norm_self(tokens)
        tokens = tokens + self.drop(self.among(inner, inner, inner, key_padding_mask=~present, need_weights=False)[0])
        asked = self.across(self.norm_cross(tokens), heard, heard, key_padding_mask=~audible, need_weights=False)[0]
        tokens = tokens + self.drop(asked)
        return tokens + self.drop(self.feed(self.norm_feed(tokens)))


def _check_named(fusion: AbstractFusion, name: str | None) -> None:
    """Check that a fusion that is made for modalities has the one that is named, and another."""
    if fusion.widths and (len(fusion.widths) < 2 or (name is not None and name not in fusion.widths)):
        raise ConfigError(
            f"Expected two modalities or more before a {type(fusion).__name__}, and {name or 'one'} among them; found {', '.join(fusion.widths)}."
        )


def _place(fusion: AbstractFusion, name: str | None) -> int:
    return 0 if name is None else fusion.modalities.index(name)


def _masked_mean(tokens: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B D"]:
    shares = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * shares).sum(dim=1) / shares.sum(dim=1).clamp(min=1)
