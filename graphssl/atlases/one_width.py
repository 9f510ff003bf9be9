"""Node features of one width for any atlas without training them beforehand: zero padding, and a linear map trained with the rest."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import AtlasError, ConfigError


class ZeroPadding(nn.Module):
    """Each region's connections, followed by zeros up to one width: connections at the same place stand for other regions in another atlas.

    Args:
        n_features: Width; no less than the regions of the largest atlas.

    Raises:
        ConfigError: If the width is below 1.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        _check_width(n_features)
        self.n_features = n_features

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B R r"]:
        """Features of every region.

        Raises:
            AtlasError: If an atlas has more regions than the width.
        """
        n_regions = int(batch.mask.any(dim=0).nonzero().max()) + 1 if batch.mask.any() else 0
        if n_regions > self.n_features:
            raise AtlasError(f"Expected atlases of at most {self.n_features} regions, found one of {n_regions}. Raise the width.")
        kept = batch.weights[:, :, : self.n_features]
        return nn.functional.pad(kept, (0, self.n_features - kept.shape[2]))


class LinearProjection(nn.Module):
    """Each region's connections times a matrix of its atlas, which is trained with whatever follows.

    Args:
        atlases: Number of regions of each atlas by name.
        n_features: Width.

    Raises:
        ConfigError: If there is no atlas, one has no region, or the width is below 1.
    """

    def __init__(self, atlases: Mapping[str, int], n_features: int) -> None:
        super().__init__()
        _check_width(n_features)
        if not atlases or min(atlases.values()) < 1:
            raise ConfigError(f"Expected the number of regions of one atlas or more, found {dict(atlases)}.")
        self.n_features = n_features
        self.atlases = tuple(atlases)
        # Names of atlases may hold what names of parameters may not.
        self.projections = nn.ModuleList(nn.Linear(n_regions, n_features, bias=False) for n_regions in atlases.values())

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B R r"]:
        """Features of every region; zero where it does not exist or was not observed.

        Raises:
            AtlasError: If an atlas is none of those that there are matrices for, or has more regions.
        """
        found = batch.weights.new_zeros(*batch.mask.shape, self.n_features)
        for name in dict.fromkeys(batch.atlas):
            rows = torch.tensor([row for row, atlas in enumerate(batch.atlas) if atlas == name], device=batch.device)
            weight = self._weight(name, batch.mask[rows])
            n_regions = min(weight.shape[1], batch.mask.shape[1])
            found = found.index_copy(0, rows, batch.weights[rows][:, :, :n_regions] @ weight[:, :n_regions].T)
        return found

    def _weight(self, name: str, mask: Tensor) -> Tensor:
        if name not in self.atlases:
            raise AtlasError(f"Expected connectomes in one of the atlases {', '.join(self.atlases)}; found {name!r}. Convert them, or add the atlas.")
        projection = self.projections[self.atlases.index(name)]
        assert isinstance(projection, nn.Linear)
        if mask[:, projection.in_features :].any():
            raise AtlasError(f"Expected {name!r} to have {projection.in_features} regions, found more. Give the number of the data's atlas.")
        return projection.weight


def _check_width(n_features: int) -> None:
    if n_features < 1:
        raise ConfigError(f"Expected a width of 1 or more, found {n_features}.")
