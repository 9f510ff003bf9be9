"""Regions that lie near in a graph are more alike than regions that do not, inside of a connectome and between connectomes."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.graphs.sparsify import densest
from graphssl.objectives.base import AbstractObjective, Loss

_BLOCK = 2**16  # numbers; a quarter of a MiB in single precision


class JensenShannon(AbstractObjective):
    """Contrast of near and far regions by a bound of the Jensen–Shannon divergence, in all pairs of connectomes of an atlas.

    The objective of PTGB (Yang et al., CHIL 2023), with the estimator of Nowozin et al. (NeurIPS 2016): a pair of regions is near if an edge or two
    lead from one to the other in either of the two connectomes. Edges are the strongest connections only, since in a dense graph all regions are near
    and nothing is left to shun. A region is not compared with itself, and pairs count alike, whatever the order of the rows.

    Args:
        density: Share of the visible connections that are edges, in (0, 1]. Two hops reach far: at 0.05 a quarter of the pairs of a random graph of
            84 regions is near, at 0.2 nearly all.
        between: Weight of the pairs of regions of two connectomes, beside 1 for those of one; zero leaves them out.

    Raises:
        ConfigError: If the density is out of range or the weight negative.
    """

    def __init__(self, density: float = 0.05, between: float = 1.0) -> None:
        super().__init__()
        if not 0 < density <= 1 or between < 0:
            raise ConfigError(f"Expected a density in (0, 1] and a weight from 0, found density={density} and between={between}.")
        self.density, self.between = density, between

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """The loss of both, how large each is, and the share of near pairs inside of the connectomes."""
        vectors = F.normalize(encoder(batch).tokens, dim=-1)  # [B, R, D]
        near = within_two_hops(densest(batch, self.density))
        itself = torch.eye(near.shape[-1], dtype=torch.bool, device=near.device)
        each = torch.arange(len(batch), device=batch.device)
        allowed = batch.mask.unsqueeze(1) & batch.mask.unsqueeze(2)  # [B, R, R]
        inside = jensen_shannon(vectors, near, each, each, counted=allowed & ~itself)
        share = (near & allowed & ~itself).sum() / (allowed & ~itself).sum().clamp(min=1)
        parts = {"inside": inside.detach(), "near": share.to(vectors.dtype)}
        if self.between == 0:
            return Loss(inside, parts)
        first, second = _pairs_of_one_atlas(batch)
        between = jensen_shannon(vectors, near, first, second, counted=batch.mask[first].unsqueeze(2) & batch.mask[second].unsqueeze(1))
        return Loss(inside + self.between * between, {**parts, "between": between.detach()})


def jensen_shannon(
    vectors: Float[Tensor, "B R D"],
    near: Bool[Tensor, "B R R"],
    first: Int[Tensor, "K"],
    second: Int[Tensor, "K"],
    *,
    counted: Bool[Tensor, "K R R"] | None = None,
    group: Int[Tensor, "K"] | None = None,
    n_groups: int = 1,
) -> Float[Tensor, ""]:
    """Mean over far pairs of `softplus(−s) + s` minus mean over near pairs of `−softplus(−s)`, less `2 log 2`; `s` is the product of two vectors.

    Of no near or no far pairs the mean is zero.

    Args:
        vectors: Vectors of the regions, of length 1.
        near: Which regions are near in each graph.
        first: Graph on one side of each pair of graphs.
        second: Graph on the other side.
        counted: Which pairs of regions count; all when left out.
        group: Means are taken within groups of pairs of graphs and added up; one group when left out.
        n_groups: Number of groups.
    """
    group = torch.zeros_like(first) if group is None else group
    positive = near[first] | near[second]
    n_pairs = torch.full_like(first, near.shape[-1] ** 2) if counted is None else _count(counted)
    n_near = _count(positive if counted is None else positive & counted)
    # How much a pair of regions counts, by pair of graphs.
    (near_weight, any_near), (far_weight, any_far) = (_weights(n.to(vectors.dtype), group, n_groups) for n in (n_near, n_pairs - n_near))
    total: Tensor = _PairsInBlocks.apply(vectors[first], vectors[second], positive, near_weight, far_weight, counted)
    return -total - math.log(2) * (any_near + any_far)


class _PairsInBlocks(torch.autograd.Function):
    """Weighted sum of `log σ(s)` over near and of `log σ(−s)` over far pairs of regions, a few pairs of graphs at a time.

    Products are never held but for a block, forward or backward, and a block stays in the processor's cache. The backward pass is made of operations
    with derivatives of their own, so that meta-learning may differentiate it again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(first: Tensor, second: Tensor, positive: Tensor, near_weight: Tensor, far_weight: Tensor, counted: Tensor | None) -> Tensor:
        total = first.new_zeros(())
        for block in _blocks(first, second, positive, near_weight, far_weight, counted):
            # log σ(−s) = log σ(s) − s
            total = total + torch.dot(block.weight.flatten(), F.logsigmoid(block.similarity).flatten())
            total = total - torch.dot((block.weight - block.near_weight).flatten(), block.similarity.flatten())
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, second, *others = ctx.saved_tensors
        to_first, to_second = [first[:0].mT], [second[:0].mT]
        for block in _blocks(first, second, *others):
            slope = torch.addcmul(block.near_weight, block.weight, torch.sigmoid(block.similarity), value=-1)
            to_first.append(torch.bmm(block.second.mT, slope.mT))  # [k, D, R]: three times faster than [k, R, D]
            to_second.append(torch.bmm(block.first.mT, slope))
        return gradient * torch.cat(to_first).mT, gradient * torch.cat(to_second).mT, None, None, None, None


class _Block(NamedTuple):
    """Some pairs of graphs: vectors on both sides, products, weights of all pairs of regions, and those of near ones with zero elsewhere."""

    first: Float[Tensor, "k R D"]
    second: Float[Tensor, "k R D"]
    similarity: Float[Tensor, "k R R"]
    weight: Float[Tensor, "k R R"]
    near_weight: Float[Tensor, "k R R"]


def _blocks(
    first: Tensor, second: Tensor, positive: Tensor, near_weight: Tensor, far_weight: Tensor, counted: Tensor | None = None
) -> Iterator[_Block]:
    size = max(1, _BLOCK // max(1, positive.shape[-1] ** 2))
    for start in range(0, len(first), size):
        rows = slice(start, start + size)
        similarity = torch.bmm(first[rows], second[rows].mT)
        chosen = positive[rows].to(first.dtype)
        weight = torch.addcmul(far_weight[rows], chosen, near_weight[rows] - far_weight[rows])
        of_near = chosen * near_weight[rows]
        if counted is not None:
            weight, of_near = weight * counted[rows], of_near * counted[rows]
        yield _Block(first[rows], second[rows], similarity, weight, of_near)


def within_two_hops(edges: Bool[Tensor, "B R R"]) -> Bool[Tensor, "B R R"]:
    """Which regions an edge or two lead to, the region itself among them if it has an edge."""
    steps = edges.float()
    return edges | (torch.bmm(steps, steps) > 0)


def _count(chosen: Bool[Tensor, "K R R"]) -> Int[Tensor, "K"]:
    """Number of pairs of regions that are chosen, by pair of graphs; bytes are summed several times faster than booleans."""
    return chosen.flatten(1).view(torch.uint8).sum(dim=1, dtype=torch.int32)


def _weights(counts: Float[Tensor, "K"], group: Int[Tensor, "K"], n_groups: int) -> tuple[Float[Tensor, "K 1 1"], Float[Tensor, ""]]:
    """One over the number of pairs in the group of each pair of graphs, and in how many groups there are any."""
    totals = torch.zeros(n_groups, device=counts.device, dtype=counts.dtype).index_add(0, group, counts)
    return totals.clamp(min=1).reciprocal()[group].view(-1, 1, 1), (totals > 0).to(counts.dtype).sum()


def _pairs_of_one_atlas(batch: ConnectomeBatch) -> tuple[Int[Tensor, "K"], Int[Tensor, "K"]]:
    """Rows of each pair of connectomes of one atlas; regions of two atlases have no common order."""
    names = list(dict.fromkeys(batch.atlas))
    atlas = torch.tensor([names.index(name) for name in batch.atlas], device=batch.device)
    first, second = torch.triu_indices(len(batch), len(batch), offset=1, device=batch.device)
    same = atlas[first] == atlas[second]
    return first[same], second[same]
