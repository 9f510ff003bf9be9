"""Attention along edges: against the dense transformer with everything else masked, and DGL against PyTorch Geometric."""

import pytest
import torch
from torch.testing import assert_close

from graphssl.encoders import SparsePopulationTransformer
from graphssl.encoders.sparse_population_transformer import EdgeBlock
from graphssl.errors import ConfigError, MissingExtraError
from graphssl.graphs import population_graph
from graphssl.objectives import MaskedColumns


def make(population, **arguments):
    torch.manual_seed(0)
    return SparsePopulationTransformer(**{"width": 8, "heads": 2, "dropout": 0.0, **arguments}).for_builder(population).eval()


def test_it_is_attention_with_all_but_neighbours_masked(population, make_patients):
    encoder, table = make(population), make_patients(4, 1, "n")
    batch = population.transform(table)
    graph = population_graph(population.index_, table)
    source, target = graph.edge_index
    bias = torch.full((2, 34, 34), float("-inf"))
    bias[:, torch.arange(34), torch.arange(34)] = 0.0
    bias[:, target, source] = (graph.similarity @ encoder.slopes).T
    patients = encoder.patient(batch.with_everybody()[0]).pooled
    for block in encoder.blocks:
        patients = block(patients.unsqueeze(0), bias.unsqueeze(0)).squeeze(0)  # that of the dense graph transformer
    assert_close(encoder(batch).pooled, encoder.norm(patients)[30:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("whole_limit", [0, 100])
@pytest.mark.parametrize("edges", [True, False])
def test_both_backends_give_the_same_values_and_gradients(population, make_patients, whole_limit, edges):
    pytest.importorskip("dgl", reason="DGL is not installed (the extra dgl)")
    batch = population.transform(make_patients(30))
    found = []
    for backend in ("pyg", "dgl"):
        encoder = make(population, backend=backend, learn_bias=True, whole_limit=whole_limit, edges=edges)
        torch.manual_seed(1)
        loss = MaskedColumns().prepare(encoder)(encoder, batch, torch.Generator().manual_seed(0)).total
        loss.backward()
        gradients = {name: weight.grad for name, weight in encoder.named_parameters() if weight.grad is not None}
        found.append((loss.detach(), encoder(batch).pooled.detach(), gradients))
    (loss, pooled, gradients), (other_loss, other_pooled, other_gradients) = found
    assert_close(loss, other_loss)
    assert_close(pooled, other_pooled)
    assert gradients.keys() == other_gradients.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, other_gradients[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_second_derivatives_are_right_with_pytorch_geometric():
    """The reason why DGL is not to be taken there; see the class."""
    torch.manual_seed(0)
    block = EdgeBlock(4, 2, 0.0, "pyg").double()
    edge_index = torch.tensor([[0, 1, 2, 0, 1, 2], [1, 2, 0, 0, 1, 2]])
    bias = torch.randn(6, 2, dtype=torch.double)
    patients = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: block.along(x, edge_index, bias), patients)


def test_what_is_wrong_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="Expected the backend to be one of pyg, dgl; found 'jax'"):
        SparsePopulationTransformer(backend="jax")
    monkeypatch.setitem(__import__("sys").modules, "dgl", None)
    with pytest.raises(MissingExtraError, match="dgl"):
        SparsePopulationTransformer(backend="dgl")
