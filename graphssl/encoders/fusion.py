"""Fusion: the embeddings of a patient's modalities in, one embedding of the patient out, whatever is missing."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.encoders.base import Embedding
from graphssl.errors import ConfigError

Widths = Mapping[str, tuple[int, int]]


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


def joined_embedding(sources: Sources, pooled: Float[Tensor, "B D"]) -> Embedding:
    """An embedding with the tokens of all modalities behind one another."""
    return Embedding(torch.cat(list(sources.tokens.values()), dim=1), torch.cat(list(sources.masks.values()), dim=1), pooled)


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
        return joined_embedding(sources, self.layers(sources.pooled.flatten(start_dim=1)))


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
        return joined_embedding(sources, (sources.pooled * there).sum(dim=1) / there.sum(dim=1).clamp(min=1))


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
        return joined_embedding(sources, self.norm((self.gates(sources) * inner).sum(dim=1)))


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
        return joined_embedding(sources, self.norm(self.out(product.transpose(1, 2)).squeeze(-1)))
