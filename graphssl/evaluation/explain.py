"""Which connections a fine-tuned model reads, as tables of regions, connections and networks."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import DataError
from graphssl.evaluation.rollout import attention_rollout
from graphssl.progress import tracked
from graphssl.training.model import Model

_ROWS = 32
# Nearer to the plane between the hemispheres than this, a centroid is of neither.
_MIDLINE_MM = 3.0


@dataclass(frozen=True, eq=False)
class Saliency:
    """What a model reads in one atlas.

    Attributes:
        atlas: The atlas.
        connections: Effect of one standard deviation of each connection on the logit of the positive class `[R, R]`, signed.
        mean_connectome: Mean weight of each connection over the subjects, before centring `[R, R]`.
        attention: Roll-out of the attention, mean over subjects: share of each region in the token of each `[R, R]`; None without attention.
        regions: Regions by rank, with label, name, network, hemisphere, centroid (MNI mm), saliency and, where there is attention, its mean share.
        edges: Connections by rank, with both ends described as in `regions`.
        network_pairs: Pairs of networks by rank.
    """

    atlas: Atlas
    connections: npt.NDArray[np.float32]
    mean_connectome: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32] | None

    @cached_property
    def regions(self) -> pd.DataFrame:
        """One row a region."""
        table = _described(self.atlas).assign(saliency=np.abs(self.connections).mean(axis=1))
        if self.attention is not None:
            table["attention"] = self.attention.mean(axis=0)
        return _ranked(table)

    @cached_property
    def edges(self) -> pd.DataFrame:
        """One row a connection."""
        a, b = np.triu_indices(len(self.atlas), k=1)
        described = _described(self.atlas)
        ends = [described.iloc[end].reset_index(drop=True).add_suffix(suffix) for end, suffix in ((a, "_a"), (b, "_b"))]
        table = pd.concat(ends, axis=1).assign(effect=self.connections[a, b], saliency=np.abs(self.connections[a, b]))
        if self.attention is not None:
            table["attention"] = (self.attention[a, b] + self.attention[b, a]) / 2
        return _ranked(table)

    @cached_property
    def network_pairs(self) -> pd.DataFrame:
        """One row a pair of networks."""
        return _ranked(_network_table(self.atlas, self.connections))


def saliency(model: Model, cohort: Cohort, *, atlas: str | None = None, steps: int = 8) -> Saliency:
    """Integrated gradients over a cohort, brought to connections, regions and pairs of networks.

    For every subject the gradient of the positive class' logit is averaged along the straight path from the training mean to the subject's
    connectome (Sundararajan et al., ICML 2017). Its mean over subjects, times the spread of each connection, is the effect of one standard
    deviation. A pair of networks is as salient as the mean effect over its connections, so that what points one way adds up and noise does not.
    Where the encoder attends, roll-out (`attention_rollout`) stands beside it.

    Args:
        model: A fine-tuned model.
        cohort: Subjects to explain.
        atlas: Atlas to explain; the model's first when left out.
        steps: Points on the path.

    Raises:
        DataError: If the model has no head or no data in the atlas.
    """
    _check_head(model)
    name = atlas or next(iter(model.connectomes.atlases_))
    batch = model.connectomes.transform(cohort)
    rows = [k for k, row in enumerate(batch.atlas) if row == name]
    if not rows:
        raise DataError(f"Expected subjects with data in atlas {name!r} to explain, found atlases {sorted(set(batch.atlas))}.")
    chosen, regions = batch[rows], model.connectomes.atlases_[name]
    n = len(regions)
    mean = _padded((chosen.weights * chosen.visible).sum(dim=0) / chosen.visible.sum(dim=0).clamp(min=1), n)
    raw = mean * model.connectomes.scale_[name] + np.asarray(model.connectomes.mean_[name]) if model.connectomes.center else mean
    return Saliency(regions, _padded(connection_effects(model, chosen, steps), n), raw, _attention(model, chosen, n))


def connection_effects(model: Model, batch: ConnectomeBatch, steps: int = 8) -> npt.NDArray[np.float32]:
    """Effect of one standard deviation of each connection on the logit of the positive class `[R, R]`, mean over the rows of a batch in one atlas.

    Args:
        model: A fine-tuned model.
        batch: Connectomes of one atlas.
        steps: Points on the path.
    """
    total = torch.zeros(batch.weights.shape[1:])
    for rows in tracked(torch.arange(len(batch)).split(_ROWS), "Following connections to the prediction"):
        part = batch[rows.tolist()]
        width = part.weights.shape[1]
        total[:width, :width] += _path_gradients(model, part, steps).sum(dim=0)
    both = total + total.T  # a connection stands twice in the matrix
    count = batch.visible.sum(dim=0).clamp(min=1)
    mean = torch.where(batch.visible, batch.weights, 0.0).sum(dim=0) / count
    spread = (torch.where(batch.visible, batch.weights - mean, 0.0).square().sum(dim=0) / count).sqrt()
    return np.asarray(both.fill_diagonal_(0.0) / len(batch) * spread)


def integrated_gradients(model: Model, batch: ConnectomeBatch, steps: int = 32) -> Float[Tensor, "B R R"]:
    """Attribution of the logit of the positive class, against the mean of the others, to each entry of each connectome.

    The path is straight, from the training mean (all weights zero) to the connectome. The attributions of a connectome sum to the difference of
    the logit at its two ends (completeness; Sundararajan et al., ICML 2017), up to the error of the midpoint rule.

    Args:
        model: A fine-tuned model.
        batch: Connectomes.
        steps: Points on the path.

    Raises:
        DataError: If the model has no head.
    """
    _check_head(model)
    parts = []
    for rows in tracked(torch.arange(len(batch)).split(_ROWS), "Following connections to the prediction"):
        part = batch[rows.tolist()]
        room = batch.weights.shape[1] - part.weights.shape[1]
        parts.append(torch.nn.functional.pad(part.weights * _path_gradients(model, part, steps), (0, room, 0, room)))
    return torch.cat(parts)


def margins(model: Model, batch: ConnectomeBatch) -> Float[Tensor, "B"]:
    """Logit of the positive (last) class against the mean of the others."""
    assert model.head is not None
    logits = model.head(model.encoder(batch).pooled)
    return logits[:, -1] - logits[:, :-1].mean(dim=1)


def _check_head(model: Model) -> None:
    if model.head is None:
        raise DataError("Expected a fine-tuned model to explain, found one without a head. Call graphssl.finetune first.")


def _path_gradients(model: Model, batch: ConnectomeBatch, steps: int) -> Float[Tensor, "B R R"]:
    """Gradient of the margin, averaged along the path from the training mean to each connectome, in evaluation mode."""
    was_training = model.encoder.training
    model.encoder.eval()
    total = torch.zeros_like(batch.weights)
    for step in range(steps):
        weights = (batch.weights * ((step + 0.5) / steps)).requires_grad_()
        (gradient,) = torch.autograd.grad(margins(model, replace(batch, weights=weights)).sum(), weights)
        total += gradient / steps
    model.encoder.train(was_training)
    return total


def _attention(model: Model, batch: ConnectomeBatch, n: int) -> npt.NDArray[np.float32] | None:
    """Mean roll-out over subjects `[R, R]`, of regions observed; None where the encoder has no attention."""
    try:
        rolled = attention_rollout(model.encoder, batch)
    except DataError:
        return None
    seen = batch.mask.unsqueeze(1) & batch.mask.unsqueeze(2)
    return _padded((rolled * seen).sum(dim=0) / seen.sum(dim=0).clamp(min=1), n)


def _padded(matrix: Tensor | npt.NDArray[Any], n: int) -> npt.NDArray[np.float32]:
    """A matrix of all regions of an atlas; the last ones are missing from a batch in which nobody has them."""
    room = n - len(matrix)
    return np.pad(np.asarray(matrix, dtype=np.float32), ((0, room), (0, room)))


def _described(atlas: Atlas) -> pd.DataFrame:
    table = pd.DataFrame({"label": atlas.labels, "name": atlas.display_names, "network": atlas.networks})
    # In MNI space x rises from left to right.
    side = np.where(atlas.centroids[:, 0] < 0, "left", "right")
    table["hemisphere"] = np.where(np.abs(atlas.centroids[:, 0]) < _MIDLINE_MM, "midline", side)
    table[["x", "y", "z"]] = atlas.centroids
    return table


def _network_table(atlas: Atlas, effect: npt.NDArray[np.float32]) -> pd.DataFrame:
    networks = np.asarray(atlas.networks)
    records = []
    for a, b in combinations_with_replacement(atlas.network_names, 2):
        block = effect[np.ix_(networks == a, networks == b)]
        n = block.size if a != b else max(1, block.size - len(block))
        records.append({"network_a": a, "network_b": b, "effect": float(block.sum() / n), "n_connections": n if a != b else n // 2})
    table = pd.DataFrame(records, columns=["network_a", "network_b", "effect", "n_connections"])
    return table.assign(saliency=table["effect"].abs())


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    table = table.sort_values("saliency", ascending=False, ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))
