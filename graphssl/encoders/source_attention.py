"""Fusion by attention over sources: each modality is one token, and the map says which mattered."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.fusion import AbstractFusion, Sources, Widths, joined_embedding
from graphssl.encoders.mlp import feed_forward
from graphssl.errors import ConfigError

Missing = Literal["mask", "token"]
Gate = Literal["attention", "softmax", "sigmoid"]


class DynamicMetaEmbedding(AbstractFusion):
    """Attention over sources: every modality, or every encoder of one, is a token that attends to the others, and the map says which mattered.

    Sources are brought to one width, attend to one another as patches do in a vision transformer, and go side by side through a linear layer.

    Source: DVME (Truong et al., How Transferable Are Self-supervised Features in Medical Image Classification Tasks?, ML4H 2021, arXiv 2108.10048);
    the scalar gates are those of dynamic meta-embeddings (Kiela et al., EMNLP 2018).

    Args:
        width: Width of the result, and of each source in it.
        heads: Attention heads; divides `width`.
        layers: Rounds of attention.
        dropout: Dropout of attention and feed-forward outputs.
        missing: `"mask"` lets nobody attend to a source that is missing, whose learned vector then only says so to the last layer; `"token"` lets the
            others attend to its learned vector.
        gate: `"attention"`, or in its place a scalar a source that weights their sum: a `"softmax"` over sources, or a `"sigmoid"` of each.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.

    Raises:
        ConfigError: If the heads do not divide the width, there is no layer, or a choice is unknown.
    """

    def __init__(
        self,
        width: int = 128,
        heads: int = 8,
        layers: int = 1,
        dropout: float = 0.1,
        missing: Missing = "mask",
        gate: Gate = "attention",
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        if missing not in ("mask", "token") or gate not in ("attention", "softmax", "sigmoid") or layers < 1:
            raise ConfigError(
                "Expected one layer or more, missing 'mask' or 'token', and the gate 'attention', 'softmax' or 'sigmoid'; "
                f"found {layers}, {missing!r} and {gate!r}."
            )
        self.set_sources(width, widths)
        self.heads, self.layers, self.dropout, self.missing, self.gate = heads, layers, dropout, missing, gate
        attends = gate == "attention"
        self.blocks = nn.ModuleList(SourceBlock(width, heads, dropout) for _ in range(layers if attends else 0))
        self.score = None if attends else nn.Linear(width, 1, bias=False)
        self.out = nn.Linear(max(1, len(self.widths)) * width, width) if attends else nn.Identity()

    def attention(self, parts: Mapping[str, Embedding], presence: Bool[Tensor, "B M"]) -> Float[Tensor, "B M M"]:
        """How much each source (row) attends to each other (column) in the last round, the mean over heads; rows sum to 1.

        With a scalar gate, the gates of the sources in every row, as shares.

        Args:
            parts: Embedding of each modality, by name.
            presence: Which modalities each patient has.
        """
        sources = self.sources(parts, presence)
        if self.score is not None:
            gates = self._gates(sources)
            shares = gates / gates.sum(dim=1, keepdim=True).clamp(min=torch.finfo(gates.dtype).tiny)
            return shares.unsqueeze(1).expand(-1, len(self.widths), -1)
        return self._attended(sources)[1]

    def combine(self, sources: Sources) -> Embedding:
        """Attention over sources and a linear layer over all, or their sum by scalar gates."""
        if self.score is not None:
            return joined_embedding(sources, (self._gates(sources).unsqueeze(-1) * sources.pooled).sum(dim=1))
        return joined_embedding(sources, self.out(self._attended(sources)[0].flatten(start_dim=1)))

    def _gates(self, sources: Sources) -> Float[Tensor, "B M"]:
        """Scalar gates; zero where a source is masked."""
        assert self.score is not None
        score = self.score(torch.tanh(sources.pooled)).squeeze(-1)
        read = self._read(sources)
        if self.gate == "sigmoid":
            return torch.sigmoid(score) * read
        return torch.softmax(score.masked_fill(~read, torch.finfo(score.dtype).min), dim=1)

    def _attended(self, sources: Sources) -> tuple[Float[Tensor, "B M D"], Float[Tensor, "B M M"]]:
        tokens, read = sources.pooled, self._read(sources)
        weights = torch.zeros(*tokens.shape[:2], tokens.shape[1], device=tokens.device)
        for block in self.blocks:
            tokens, weights = block(tokens, read)
        # The learned vector of what nobody may read goes to the last layer as it is.
        return torch.where(read.unsqueeze(-1), tokens, sources.pooled), weights

    def _read(self, sources: Sources) -> Bool[Tensor, "B M"]:
        """Which sources may be attended to; all where there is none, so that attention is defined."""
        if self.missing == "token":
            return torch.ones_like(sources.presence)
        return sources.presence | ~sources.presence.any(dim=1, keepdim=True)


class SourceBlock(nn.Module):
    """Attention and feed-forward with normalisation before each, as in a vision transformer, that also gives its attention.

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        dropout: Dropout of both outputs.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = feed_forward(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B M D"], read: Bool[Tensor, "B M"]) -> tuple[Float[Tensor, "B M D"], Float[Tensor, "B M M"]]:
        """The tokens after one round, and who attended to whom, the mean over heads.

        Args:
            tokens: The tokens.
            read: Which of them may be attended to, at least one a row.
        """
        inner = self.norm_attention(tokens)
        heard, weights = self.attention(inner, inner, inner, key_padding_mask=~read, need_weights=True)
        tokens = tokens + self.drop(heard)
        return tokens + self.drop(self.feed(self.norm_feed(tokens))), weights
