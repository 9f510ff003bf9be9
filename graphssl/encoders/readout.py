"""From tokens to one vector a sample, as wide for every atlas."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.tokens import SpatialBasis
from graphssl.errors import ConfigError

ReadoutKind = Literal["mean", "anchors", "attention", "clusters"]


class AbstractReadout(nn.Module, ABC):
    """Sums over the observed regions with a few kinds of weights, side by side, mapped to one vector.

    Args:
        width: Width `D` of the tokens.
        n_sums: Number of sums `K`.
        pooled_width: Width of the result; the sums themselves when left out.
        channels: Width of each token after a linear map before the sums; all of it when left out.
    """

    def __init__(self, width: int, n_sums: int, pooled_width: int | None = None, channels: int | None = None) -> None:
        super().__init__()
        self.channels = nn.Identity() if channels is None else nn.Linear(width, channels)
        wide = n_sums * (channels or width)
        self.project = nn.Identity() if pooled_width is None else nn.Linear(wide, pooled_width)
        self.pooled_width = pooled_width or wide

    @abstractmethod
    def shares(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B R K"]:
        """Weight of each region in each sum; zero for regions that were not observed."""

    def forward(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B P"]:
        """One vector a sample."""
        sums = torch.matmul(self.shares(tokens, batch).transpose(1, 2), self.channels(tokens))  # [B, K, C]
        return self.project(sums.flatten(start_dim=1))


class MeanReadout(AbstractReadout):
    """The mean over observed regions; keeps what the regions share and forgets where it was.

    Args:
        width: Width of the tokens, and of the result.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def shares(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B R 1"]:
        """The same for each observed region."""
        observed = batch.mask.unsqueeze(-1).to(tokens.dtype)
        return observed / observed.sum(dim=1, keepdim=True).clamp(min=1)


class AnchorReadout(AbstractReadout):
    """Means around fixed points of MNI space, side by side: keeps where things are, for any atlas.

    Args:
        width: Width of the tokens.
        pooled_width: Width of the result.
        channels: Width of each token after a linear map; `anchors × channels` numbers are then mapped to the result.
        spacing_mm: Spacing of the anchor points in mm.
    """

    def __init__(self, width: int, pooled_width: int = 128, channels: int = 8, spacing_mm: float = 24.0) -> None:
        basis = SpatialBasis(spacing_mm)
        super().__init__(width, len(basis), pooled_width, channels)
        self.basis = basis

    def shares(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B R K"]:
        """Nearness to each anchor."""
        basis = self.basis(batch.centroids) * batch.mask.unsqueeze(-1)  # [B, R, K]
        return basis / basis.sum(dim=1, keepdim=True).clamp(min=1e-2)


class AttentionReadout(AbstractReadout):
    """Means weighted by what a few learned queries look for, as in the pooling of the Set Transformer (Lee et al., ICML 2019).

    Args:
        width: Width of the tokens.
        pooled_width: Width of the result.
        n_queries: Number of queries.
    """

    def __init__(self, width: int, pooled_width: int = 128, n_queries: int = 4) -> None:
        super().__init__(width, n_queries, pooled_width)
        self.queries = nn.Parameter(torch.randn(n_queries, width) / width**0.5)

    def shares(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B R K"]:
        """Softmax over the observed regions of how well each fits a query."""
        observed = batch.mask.unsqueeze(-1)
        fit = torch.matmul(tokens, self.queries.T).masked_fill(~observed, torch.finfo(tokens.dtype).min)
        return torch.softmax(fit, dim=1) * observed  # no region observed gives zeros


class ClusterReadout(AbstractReadout):
    """Means over soft clusters of regions whose centres start orthonormal: the readout of Kan et al. (NeurIPS 2022).

    A region belongs to clusters in the softmax of its products with their centres. Centres start orthonormal, so that they tell tokens apart from the
    first step, and are trained. Sums are divided by the number of observed regions, so that atlases of any size agree.

    Args:
        width: Width of the tokens.
        pooled_width: Width of the result.
        n_clusters: Number of clusters, cut down to the width: no more vectors can be orthonormal.
    """

    def __init__(self, width: int, pooled_width: int = 128, n_clusters: int = 16) -> None:
        n_clusters = min(n_clusters, width)
        super().__init__(width, n_clusters, pooled_width)
        self.centres = nn.Parameter(nn.init.orthogonal_(torch.empty(n_clusters, width)))

    def shares(self, tokens: Float[Tensor, "B R D"], batch: ConnectomeBatch) -> Float[Tensor, "B R K"]:
        """How far a region belongs to each cluster, in shares of the observed regions."""
        observed = batch.mask.unsqueeze(-1).to(tokens.dtype)
        return torch.softmax(torch.matmul(tokens, self.centres.T), dim=-1) * observed / observed.sum(dim=1, keepdim=True).clamp(min=1)


_READOUTS: dict[ReadoutKind, type[MeanReadout | AnchorReadout | AttentionReadout | ClusterReadout]] = {
    "mean": MeanReadout,
    "anchors": AnchorReadout,
    "attention": AttentionReadout,
    "clusters": ClusterReadout,
}


def make_readout(kind: ReadoutKind, width: int) -> AbstractReadout:
    """The readout of that name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if kind not in _READOUTS:
        raise ConfigError(f"Expected the readout to be one of {', '.join(_READOUTS)}; found {kind!r}.")
    return _READOUTS[kind](width)
