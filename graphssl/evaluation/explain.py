"""Which connections a fine-tuned model reads, as tables of regions and networks."""

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import DataError
from graphssl.training.model import ConnectomeModel

_ROWS = 32


@dataclass(frozen=True, eq=False)
class Saliency:
    """What a model reads in one atlas.

    Attributes:
        atlas: The atlas.
        connections: Effect of one standard deviation of each connection on the logit of the positive class `[R, R]`, signed.
        mean_connectome: Mean weight of each connection over the subjects, before centring `[R, R]`.
        regions: Regions by rank, with label, name, network, centroid and saliency.
        network_pairs: Pairs of networks by rank.
    """

    atlas: Atlas
    connections: npt.NDArray[np.float32]
    mean_connectome: npt.NDArray[np.float32]
    regions: pd.DataFrame
    network_pairs: pd.DataFrame


def saliency(model: ConnectomeModel, cohort: Cohort, *, atlas: str | None = None, steps: int = 8) -> Saliency:
    """Integrated gradients over a cohort, brought to connections, regions and pairs of networks.

    For every subject the gradient of the positive class' logit is averaged along the straight path from the training mean to the subject's
    connectome (Sundararajan et al., ICML 2017). Its mean over subjects, times the spread of each connection, is the effect of one standard
    deviation. A pair of networks is as salient as the mean effect over its connections, so that what points one way adds up and noise does not.

    Args:
        model: A fine-tuned model.
        cohort: Subjects to explain.
        atlas: Atlas to explain; the model's first when left out.
        steps: Points on the path.

    Raises:
        DataError: If the model has no head or no data in the atlas.
    """
    if model.head is None:
        raise DataError("Expected a fine-tuned model to explain, found one without a head. Call graphssl.finetune first.")
    name = atlas or next(iter(model.builder.atlases_))
    batch = model.builder.transform(cohort)
    rows = [k for k, row in enumerate(batch.atlas) if row == name]
    if not rows:
        raise DataError(f"Expected subjects with data in atlas {name!r} to explain, found atlases {sorted(set(batch.atlas))}.")
    chosen = batch[rows]
    regions = model.builder.atlases_[name]
    n = len(regions)
    gradient = _mean_gradient(model, chosen, steps)[:n, :n]
    weights, visible = chosen.weights[:, :n, :n], chosen.visible[:, :n, :n]
    count = visible.sum(dim=0).clamp(min=1)
    mean = torch.where(visible, weights, 0.0).sum(dim=0) / count
    spread = (torch.where(visible, weights - mean, 0.0).square().sum(dim=0) / count).sqrt()
    effect = np.asarray(gradient * spread)
    raw = np.asarray(mean * model.builder.scale_[name] + model.builder.mean_[name]) if model.builder.center else np.asarray(mean)
    return Saliency(regions, effect, raw, _region_table(regions, effect), _network_table(regions, effect))


def _mean_gradient(model: ConnectomeModel, batch: ConnectomeBatch, steps: int) -> torch.Tensor:
    assert model.head is not None
    was_training = model.encoder.training
    model.encoder.eval()
    total = torch.zeros(batch.weights.shape[1:])
    for rows in torch.arange(len(batch)).split(_ROWS):
        part = batch[rows.tolist()]
        width = part.weights.shape[1]
        for step in range(steps):
            weights = (part.weights * ((step + 0.5) / steps)).requires_grad_()
            logits = model.head(model.encoder(replace(part, weights=weights)).pooled)
            margin = logits[:, -1] - logits[:, :-1].mean(dim=1)
            (gradient,) = torch.autograd.grad(margin.sum(), weights)
            total[:width, :width] += gradient.sum(dim=0) / steps
    model.encoder.train(was_training)
    both = total + total.T  # a connection stands twice in the matrix
    return both.fill_diagonal_(0.0) / len(batch)


def _region_table(atlas: Atlas, effect: npt.NDArray[np.float32]) -> pd.DataFrame:
    table = pd.DataFrame({"label": atlas.labels, "name": atlas.display_names, "network": atlas.networks})
    table[["x", "y", "z"]] = atlas.centroids
    table["saliency"] = np.abs(effect).mean(axis=1)
    return _ranked(table)


def _network_table(atlas: Atlas, effect: npt.NDArray[np.float32]) -> pd.DataFrame:
    networks = np.asarray(atlas.networks)
    records = []
    for a, b in combinations_with_replacement(atlas.network_names, 2):
        block = effect[np.ix_(networks == a, networks == b)]
        n = block.size if a != b else max(1, block.size - len(block))
        records.append({"network_a": a, "network_b": b, "effect": float(block.sum() / n), "n_connections": n if a != b else n // 2})
    table = pd.DataFrame(records, columns=["network_a", "network_b", "effect", "n_connections"])
    table["saliency"] = table["effect"].abs()
    return _ranked(table)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    table = table.sort_values("saliency", ascending=False, ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))
