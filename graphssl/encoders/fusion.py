"""Fusion: the embeddings of a patient's modalities in, one embedding of the patient out, whatever is missing."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.encoders.base import Embedding, check_heads
from graphssl.encoders.mlp import feed_forward
from graphssl.errors import ConfigError

Widths = Mapping[str, tuple[int, int]]
Missing = Literal["mask", "token"]
Gate = Literal["attention", "softmax", "sigmoid"]


class Sources(NamedTuple):
    """The modalities of patients, all of one width.

    Attributes:
        tokens: Tokens of each modality `[B, N_m, D]`, by name.
        masks: Which of them are real `[B, N_m]`, by name; none of a modality that is missing.
        pooled: One vector a modality `[B, M, D]`; what was learned for its absence where it is missing.
        presence: Which modalities there are `[B, M]`.
    """

    tokens: dict[str, Float[Tensor, "B N D"]]
    masks: dict[str, Bool[Tensor, "B N"]]
    pooled: Float[Tensor, "B M D"]
    presence: Bool[Tensor, "B M"]


class AbstractFusion(nn.Module):
    """What makes one embedding of several: each is brought to one width, what is missing gets a learned vector, then they are combined.

    A fusion is given without `widths` and made for those of the encoders by `for_widths`. Subclasses keep every constructor argument as an attribute
    of the same name and say in `combine` how they combine. Tokens of the result are those of all modalities behind one another.

    Attributes:
        width: Width of tokens and pooled vector of the result.
        widths: Width of tokens and of the pooled vector of each modality, by name.
        reads_tokens: Whether it reads tokens; else pooled vectors are all that it needs.
    """

    width: int
    widths: dict[str, tuple[int, int]]
    reads_tokens = False

    def set_sources(self, width: int, widths: Widths | None) -> None:
        """Keep the widths and make what brings every modality to one, for constructors.

        Args:
            width: Width of the result.
            widths: Width of tokens and of the pooled vector of each modality, by name.

        Raises:
            ConfigError: If the width is not positive.
        """
        if width < 1:
            raise ConfigError(f"Expected a width of at least 1, found {width}.")
        self.width, self.widths = width, {name: (int(token), int(pooled)) for name, (token, pooled) in (widths or {}).items()}
        self.of_tokens = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(token, width), nn.LayerNorm(width)) for name, (token, _) in self.widths.items()}
        )
        self.of_pooled = nn.ModuleDict({name: nn.Sequential(nn.Linear(n, width), nn.LayerNorm(width)) for name, (_, n) in self.widths.items()})
        self.absent = nn.ParameterDict({name: nn.Parameter(0.1 * torch.randn(width)) for name in self.widths})

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities `[M]`, in their order."""
        return tuple(self.widths)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def for_widths(self, widths: Widths) -> Self:
        """One of the same arguments, with new random weights, for modalities of these widths of tokens and pooled vectors."""
        return type(self)(**{**self.arguments(), "widths": dict(widths)})

    def forward(self, parts: Mapping[str, Embedding], presence: Bool[Tensor, "B M"]) -> Embedding:
        """As `fuse`."""
        return self.fuse(parts, presence)

    def fuse(self, parts: Mapping[str, Embedding], presence: Bool[Tensor, "B M"]) -> Embedding:
        """One embedding of the patients.

        Args:
            parts: Embedding of each modality with a row a patient, by name; rows of patients who lack it are not read.
            presence: Which modalities each patient has `[B, M]`, in the order of `widths`.

        Raises:
            ConfigError: If the modalities are others than the fusion was made for.
        """
        return self.combine(self.sources(parts, presence))

    @abstractmethod
    def combine(self, sources: Sources) -> Embedding:
        """One embedding of modalities that are of one width."""

    def sources(self, parts: Mapping[str, Embedding], presence: Bool[Tensor, "B M"]) -> Sources:
        """The modalities at one width, with learned vectors for what is missing.

        Raises:
            ConfigError: If the modalities are others than the fusion was made for.
        """
        if set(parts) != set(self.widths) or presence.shape[1] != len(self.widths):
            raise ConfigError(
                f"Expected the modalities {', '.join(self.widths) or 'none'} before a {type(self).__name__}, found {', '.join(parts)}. "
                "Make the fusion with for_widths."
            )
        tokens: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        pooled: list[Tensor] = []
        for number, name in enumerate(self.widths):
            part, there = parts[name], presence[:, number, None]
            if self.reads_tokens:
                tokens[name] = self.of_tokens[name](part.tokens)
                masks[name] = part.mask & there
            pooled.append(torch.where(there, self.of_pooled[name](part.pooled), self.absent[name]))
        if not self.reads_tokens:  # a token a modality, the vector itself
            tokens = {name: vector.unsqueeze(1) for name, vector in zip(self.widths, pooled, strict=True)}
            masks = {name: presence[:, number, None] for number, name in enumerate(self.widths)}
        return Sources(tokens, masks, torch.stack(pooled, dim=1), presence)


class Concatenation(AbstractFusion):
    """The vectors of all modalities side by side, through two layers; what is missing has its learned vector there.

    Args:
        width: Width of the result.
        dropout: Dropout between the two layers.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.
    """

    def __init__(self, width: int = 128, dropout: float = 0.1, widths: Widths | None = None) -> None:
        super().__init__()
        self.set_sources(width, widths)
        self.dropout = dropout
        n = max(1, len(self.widths))
        self.layers = nn.Sequential(nn.Linear(n * width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.LayerNorm(width))

    def combine(self, sources: Sources) -> Embedding:
        """Two layers over all vectors."""
        return _embedding(sources, self.layers(sources.pooled.flatten(start_dim=1)))


class Mean(AbstractFusion):
    """The mean of the vectors of those modalities that there are; what is missing says nothing. The simplest control of a fusion.

    Args:
        width: Width of the result.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.
    """

    def __init__(self, width: int = 128, widths: Widths | None = None) -> None:
        super().__init__()
        self.set_sources(width, widths)

    def combine(self, sources: Sources) -> Embedding:
        """The mean over what there is."""
        there = sources.presence.unsqueeze(-1).to(sources.pooled.dtype)
        return _embedding(sources, (sources.pooled * there).sum(dim=1) / there.sum(dim=1).clamp(min=1))


class GatedSum(AbstractFusion):
    """A sum of the modalities' vectors, each behind a gate that looks at all of them: the gated multimodal unit.

    Gates of what is missing are shut; the learned vector in its place tells the other gates so. Source: Arevalo et al., Gated Multimodal Units for
    Information Fusion (ICLR workshop 2017).

    Args:
        width: Width of the result.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.
    """

    def __init__(self, width: int = 128, widths: Widths | None = None) -> None:
        super().__init__()
        self.set_sources(width, widths)
        n = max(1, len(self.widths))
        self.inner = nn.ModuleDict({name: nn.Linear(width, width) for name in self.widths})
        self.gate = nn.Linear(n * width, n * width)
        self.norm = nn.LayerNorm(width)

    def gates(self, sources: Sources) -> Float[Tensor, "B M D"]:
        """How far each modality's vector is let through, in (0, 1), and 0 where it is missing."""
        opened = torch.sigmoid(self.gate(sources.pooled.flatten(start_dim=1))).unflatten(1, (len(self.widths), self.width))
        return opened * sources.presence.unsqueeze(-1)

    def combine(self, sources: Sources) -> Embedding:
        """The sum behind the gates."""
        inner = torch.stack([torch.tanh(self.inner[name](sources.pooled[:, number])) for number, name in enumerate(self.widths)], dim=1)
        return _embedding(sources, self.norm((self.gates(sources) * inner).sum(dim=1)))


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
            return _embedding(sources, (self._gates(sources).unsqueeze(-1) * sources.pooled).sum(dim=1))
        return _embedding(sources, self.out(self._attended(sources)[0].flatten(start_dim=1)))

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
        return _embedding(sources, self.out(torch.cat([mean, vector], dim=1)))


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
        return _embedding(sources._replace(tokens={**sources.tokens, name: tokens[:, n_front:]}), tokens[:, 0])


class Bilinear(AbstractFusion):
    """Products of all modalities, of low rank: each is mapped to as many factors, whose products are summed.

    With a one beside each vector, sums, products of two, and so on up to products of all are among them. Source: Liu et al., Efficient Low-rank
    Multimodal Fusion with Modality-Specific Factors (ACL 2018).

    Args:
        width: Width of the result.
        rank: Number of factors.
        widths: Width of tokens and of the pooled vector of each modality, by name; see `for_widths`.

    Raises:
        ConfigError: If the rank is not positive.
    """

    def __init__(self, width: int = 128, rank: int = 4, widths: Widths | None = None) -> None:
        super().__init__()
        if rank < 1:
            raise ConfigError(f"Expected a rank of at least 1, found {rank}.")
        self.set_sources(width, widths)
        self.rank = rank
        self.factors = nn.ModuleDict({name: nn.Linear(width, rank * width) for name in self.widths})
        for factor in self.factors.values():
            assert isinstance(factor, nn.Linear)
            nn.init.ones_(factor.bias)  # so that a product of many starts as their sum, and neither vanishes nor explodes
        self.out = nn.Linear(rank, 1)
        self.norm = nn.LayerNorm(width)

    def combine(self, sources: Sources) -> Embedding:
        """The weighted sum over factors of products over modalities."""
        factors = [self.factors[name](sources.pooled[:, number]) for number, name in enumerate(self.widths)]
        product = torch.stack(factors).prod(dim=0).unflatten(1, (self.rank, self.width))  # [B, R, D]
        return _embedding(sources, self.norm(self.out(product.transpose(1, 2)).squeeze(-1)))


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


def _embedding(sources: Sources, pooled: Float[Tensor, "B D"]) -> Embedding:
    """An embedding with the tokens of all modalities behind one another."""
    return Embedding(torch.cat(list(sources.tokens.values()), dim=1), torch.cat(list(sources.masks.values()), dim=1), pooled)
