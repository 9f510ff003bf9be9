"""The contrast of near and far regions: the published loops, dense graphs, mixed atlases, and what it learns."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphssl.data import ConnectomeBatch
from graphssl.encoders import Embedding
from graphssl.errors import ConfigError
from graphssl.graphs.sparsify import densest
from graphssl.objectives import JensenShannon
from graphssl.objectives import jensen_shannon as module
from graphssl.objectives.jensen_shannon import jensen_shannon, within_two_hops
from graphssl.training.meta import EncoderLoss, GradientStep, InnerLoop, as_function, choose_path, query_losses


class Table(nn.Module):
    """An encoder whose tokens are parameters."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = nn.Parameter(tokens)

    def forward(self, batch):
        return Embedding(self.tokens, batch.mask, self.tokens.mean(dim=1))


def by_loops(tokens, edges, mask, atlas):
    """Inside and between, pair of regions by pair of regions, from the paper's words."""
    n_graphs, n_regions = mask.shape
    unit = [[tokens[g, u] / tokens[g, u].norm() for u in range(n_regions)] for g in range(n_graphs)]

    def near(g, u, v):
        return bool(edges[g, u, v] or any(edges[g, u, w] and edges[g, w, v] for w in range(n_regions)))

    def loss(graph_pairs, leave_out_self):
        attracted, repelled = [], []
        for g, h in graph_pairs:
            for u in range(n_regions):
                for v in range(n_regions):
                    if not (mask[g, u] and mask[h, v]) or (leave_out_self and u == v):
                        continue
                    s = unit[g][u] @ unit[h][v]
                    if near(g, u, v) or near(h, u, v):
                        attracted.append(math.log(2) - F.softplus(-s))
                    else:
                        repelled.append(F.softplus(-s) + s - math.log(2))
        return sum(repelled) / max(1, len(repelled)) - sum(attracted) / max(1, len(attracted))

    between = [(g, h) for g in range(n_graphs) for h in range(n_graphs) if g < h and atlas[g] == atlas[h]]
    return loss([(g, g) for g in range(n_graphs)], True), loss(between, False)


@pytest.mark.parametrize("density", [0.1, 0.3, 1.0])
def test_it_is_the_published_loss_pair_by_pair(make_batch, density):
    batch = ConnectomeBatch.cat([make_batch(3, 7, seed=0, missing={1: [2]}), replace(make_batch(2, 5, seed=1), atlas=("other",) * 2)])
    tokens = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    found = JensenShannon(density=density, between=0.5)(Table(tokens), batch, torch.Generator())
    inside, between = by_loops(tokens, densest(batch, density), batch.mask, batch.atlas)
    assert torch.allclose(found.parts["inside"], torch.as_tensor(inside), atol=1e-5)
    assert torch.allclose(found.parts["between"], torch.as_tensor(between), atol=1e-5)
    assert torch.allclose(found.total, inside + 0.5 * between, atol=1e-5)


def test_dense_graphs_have_far_regions_and_finite_gradients(make_batch):
    batch = make_batch(3, 30)
    table = Table(torch.randn(3, 30, 4, generator=torch.Generator().manual_seed(0)))
    loss = JensenShannon()(table, batch, torch.Generator())
    assert 0.02 < loss.parts["near"] < 0.7
    dense = JensenShannon(density=1.0)(table, batch, torch.Generator())
    assert dense.parts["near"] == 1
    dense.total.backward()
    assert table.tokens.grad.isfinite().all()


@pytest.mark.parametrize("n_rows", [1, 2])
def test_few_and_lonely_connectomes_are_fine(make_batch, n_rows):
    batch = replace(make_batch(n_rows, 4), atlas=tuple("ab"[:n_rows]))
    loss = JensenShannon()(Table(torch.randn(n_rows, 4, 3)), batch, torch.Generator())
    assert loss.parts["between"] == 0
    assert loss.total.isfinite()
    assert "between" not in JensenShannon(between=0.0)(Table(torch.randn(n_rows, 4, 3)), batch, torch.Generator()).parts


def test_the_order_of_the_rows_does_not_matter(make_batch):
    batch, tokens = make_batch(4, 8), torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0))
    order = [2, 0, 3, 1]
    found, moved = (JensenShannon()(Table(t), b, torch.Generator()).total for t, b in ((tokens, batch), (tokens[order], batch[order])))
    assert torch.allclose(found, moved, atol=1e-6)


def test_means_within_groups_are_added_up(make_batch):
    vectors = F.normalize(torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    near = within_two_hops(densest(make_batch(4, 6), 0.2))
    first, second, group = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]), torch.tensor([0, 1, 0])
    found = jensen_shannon(vectors, near, first, second, group=group, n_groups=2)
    parts = [jensen_shannon(vectors, near, first[group == k], second[group == k]) for k in range(2)]
    assert torch.allclose(found, sum(parts), atol=1e-6)


@pytest.mark.parametrize("some", [False, True])
def test_first_and_second_derivatives_agree_with_finite_differences(make_batch, monkeypatch, some):
    monkeypatch.setattr(module, "_BLOCK", 50)  # two pairs of graphs a block
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    near = within_two_hops(densest(make_batch(4, 5), 0.2))
    first, second = torch.triu_indices(4, 4, offset=1)
    counted = torch.rand(6, 5, 5, generator=generator) < 0.7 if some else None

    def loss(vectors):
        return jensen_shannon(vectors, near, first, second, counted=counted, group=torch.tensor([0, 1, 0, 1, 1, 0]), n_groups=2)

    assert torch.autograd.gradcheck(loss, vectors)
    assert torch.autograd.gradgradcheck(loss, vectors)


def test_training_pulls_near_regions_together(make_batch):
    batch = make_batch(2, 20)
    table = Table(torch.randn(2, 20, 4, generator=torch.Generator().manual_seed(0)))
    optimiser = torch.optim.Adam(table.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        JensenShannon(between=0.0)(table, batch, torch.Generator()).total.backward()
        optimiser.step()
    unit = F.normalize(table.tokens.detach(), dim=-1)
    similarity, near = unit @ unit.mT, within_two_hops(densest(batch, 0.05))
    others = ~torch.eye(20, dtype=torch.bool)
    assert similarity[near & others].mean() > similarity[~near & others].mean() + 0.3


def test_it_can_be_mapped_over_tasks(make_batch, make_encoder):
    encoder = make_encoder(dropout=0.0)
    loss, parameters = as_function(EncoderLoss(encoder, JensenShannon(density=0.2), torch.Generator()))
    tasks = [make_batch(3, 8, seed=seed) for seed in range(4)]
    assert choose_path(loss, parameters, list(zip(tasks[:2], tasks[2:], strict=True))) == "vmap"
    found, expected = (
        query_losses(loss, parameters, tasks[:2], tasks[2:], InnerLoop(GradientStep(0.1)), path=path) for path in ("vmap", "sequential")
    )
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"density": 0.0}, {"density": 1.5}, {"between": -1.0}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"a density in \(0, 1\] and a weight from 0, found density="):
        JensenShannon(**arguments)
