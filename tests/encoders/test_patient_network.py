"""A patient alone."""

import pytest
import torch
from torch.testing import assert_close

from graphssl.encoders import PatientNetwork


@pytest.mark.parametrize("depth", [0, 2])
def test_patients_are_embedded_alone_and_by_what_can_be_read(population, make_patients, depth):
    patients = population.transform(make_patients(5, 1, "n")).patients
    torch.manual_seed(0)
    network = PatientNetwork(8, depth, 2).for_builder(population.tokenizer_).eval()
    tokens, mask, vectors, _ = network(patients)
    assert (tokens.shape, vectors.shape) == ((5, 4, 8), (5, 8))
    assert mask.all()
    assert_close(network(patients[[3]]).pooled, vectors[[3]])
    measured = patients.measured & (torch.arange(4) == 1)
    hidden = network(patients.hide(measured)).pooled
    assert ((hidden - vectors).abs().amax(dim=1) > 1e-6).tolist() == measured.any(dim=1).tolist()


@pytest.mark.parametrize("depth", [0, 2])
def test_gradients_reach_every_weight(population, make_patients, depth):
    patients = population.transform(make_patients(30)).patients
    patients = patients.hide(torch.rand(30, 4, generator=torch.Generator().manual_seed(0)) < 0.3)
    network = PatientNetwork(8, depth, 2, 0.0).for_builder(population.tokenizer_)
    network(patients).pooled.square().sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []
