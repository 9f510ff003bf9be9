"""Keep the strongest connections of a dense graph."""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import ConfigError


def densest(batch: ConnectomeBatch, density: float) -> Bool[Tensor, "B R R"]:
    """The strongest connections of each connectome by absolute weight, symmetric and without self-loops.

    Connections as strong as the last one kept are kept too, so the choice does not depend on the order of the regions.

    Args:
        batch: Connectomes.
        density: Share of the visible connections of a connectome that is kept, in (0, 1]; at least one is, where there is any.

    Raises:
        ConfigError: If the density is out of range.
    """
    if not 0 < density <= 1:
        raise ConfigError(f"Expected a density in (0, 1], found {density}. It is the share of the visible connections that is kept.")
    n_regions = batch.mask.shape[1]
    strength = batch.weights.abs().masked_fill(~batch.visible, -1.0)
    rows, columns = torch.triu_indices(n_regions, n_regions, offset=1, device=batch.device)
    if not len(batch) or not len(rows):
        return torch.zeros_like(batch.visible)
    pairs = strength[:, rows, columns]  # [B, R (R - 1) / 2]
    wanted = (density * (pairs >= 0).sum(dim=1)).round().long().clamp(min=1)
    strongest = pairs.topk(min(len(rows), math.ceil(density * len(rows))), dim=1).values  # no fewer than are wanted of any
    weakest_kept = strongest.gather(1, wanted.unsqueeze(1) - 1)  # [B, 1]
    return batch.visible & (strength >= weakest_kept.unsqueeze(2))
