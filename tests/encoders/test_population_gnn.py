"""Message passing between patients, against the formulae of two of the layers."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.encoders import PopulationGNN
from graphssl.errors import ConfigError


def make(population, **arguments):
    torch.manual_seed(0)
    return PopulationGNN(**{"width": 8, "depth": 1, "heads": 2, "dropout": 0.0, **arguments}).for_builder(population).eval()


def matrix(population, values):
    """Values of the population's edges as a matrix: who learns, then from whom."""
    graph = population.population_.graph
    source, target = graph.edge_index
    dense = torch.zeros(len(graph), len(graph))
    dense[target, source] = values
    return dense


def test_graph_convolution_by_hand(population, make_patients):
    encoder, batch = make(population, layer="gcn"), population.transform(make_patients(30))
    weights = matrix(population, population.population_.graph.similarity.mean(dim=1)) + torch.eye(30)
    root = weights.sum(dim=1).rsqrt()
    patients = encoder.patient(batch.read()).pooled
    layer = encoder.layers[0]
    passed = (root[:, None] * weights * root) @ layer.lin(encoder.norms[0](patients)) + layer.bias
    assert_close(encoder(batch).pooled, encoder.norm(patients + F.gelu(passed)), atol=1e-5, rtol=1e-4)


def test_means_over_neighbours_by_hand(population, make_patients):
    encoder, batch = make(population, layer="sage"), population.transform(make_patients(30))
    links = matrix(population, torch.ones(90))
    patients = encoder.patient(batch.read()).pooled
    x, layer = encoder.norms[0](patients), encoder.layers[0]
    passed = layer.lin_l(links @ x / links.sum(dim=1, keepdim=True)) + layer.lin_r(x)
    assert_close(encoder(batch).pooled, encoder.norm(patients + F.gelu(passed)), atol=1e-5, rtol=1e-4)


def test_without_a_layer_patients_stay_alone(population, make_patients):
    encoder, batch = make(population, layer="none"), population.transform(make_patients(30))
    hidden = torch.zeros(30, 4, dtype=torch.bool)
    hidden[:29] = True
    assert_close(encoder(batch.hide(hidden)).pooled[29], encoder(batch).pooled[29])


def test_an_unknown_layer_is_refused():
    with pytest.raises(ConfigError, match="Expected the layer to be one of gcn, gat, gin, sage, none; found 'gps'"):
        PopulationGNN(layer="gps")
