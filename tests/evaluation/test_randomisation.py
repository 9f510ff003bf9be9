"""The check finds out an explanation that ignores the weights, and lets one pass that is made of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import spearmanr
from torch import nn

from graphssl.encoders import GraphTransformer
from graphssl.errors import DataError
from graphssl.evaluation import randomisation_check, saliency
from graphssl.training import untrained
from graphssl.training.model import fresh


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=12, n_regions=10, n_timepoints=20)


@pytest.fixture(scope="module")
def model(cohort):
    made = untrained(cohort, encoder=GraphTransformer(8, 2, 2), seed=7)
    torch.manual_seed(7)
    return made.with_head(nn.Linear(made.encoder.pooled_width, 2), ("a", "b"), "diagnosis")


def edge_detector(model, batch):
    """A map that only the data make."""
    return np.asarray(batch.weights.abs().mean(dim=0))


def of_weights(model, batch):
    """A map that only the weights make."""
    n = batch.weights.shape[1]
    total = sum(parameter.detach().double().sum() for parameter in model.encoder.parameters())
    return np.random.default_rng(int(1e6 * abs(total))).random((n, n))


def test_an_edge_detector_keeps_its_map(cohort, model):
    found = randomisation_check(model, cohort, measure=edge_detector)
    assert_allclose(found["rank_correlation"], 1.0)


def test_a_map_of_the_weights_loses_its_likeness(cohort, model):
    found = randomisation_check(model, cohort, measure=of_weights)
    assert found["rank_correlation"].iloc[0] == pytest.approx(1.0), "the head is no part of that map"
    assert found["rank_correlation"].iloc[1:].abs().max() < 0.5


def test_layers_become_random_from_the_head_to_the_input(cohort, model):
    """At every stage the weights are those of a new encoder above, and the model's own below."""
    seen = []

    def keep(one, batch):
        seen.append((one.head.weight.detach().clone(), {k: v.clone() for k, v in one.encoder.state_dict().items()}))
        return edge_detector(one, batch)

    layers = randomisation_check(model, cohort, measure=keep, seed=3)["layer"].tolist()
    assert layers[0] == "head"
    assert layers[-1] == "tokens"
    assert layers.index("blocks.1") < layers.index("blocks.0")
    own, new = model.encoder.state_dict(), fresh(model.encoder, 3).state_dict()
    assert torch.equal(seen[0][0], model.head.weight)
    for k, (head, state) in enumerate(seen[1:]):
        assert not torch.equal(head, model.head.weight)
        above = tuple(f"{layer}." for layer in layers[1 : k + 1])
        for name, value in state.items():
            assert torch.equal(value, new[name] if name.startswith(above) else own[name]) or name not in dict(model.encoder.named_parameters())
    assert all(torch.equal(seen[-1][1][name], new[name]) for name, _ in model.encoder.named_parameters())


def test_the_correlation_is_spearmans_over_connections(cohort, model):
    found = randomisation_check(model, cohort, n_subjects=100, seed=1)
    random = replace(model, encoder=fresh(model.encoder, 1))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        random = replace(random, head=nn.Linear(model.head.in_features, 2))
    upper = np.triu_indices(10, k=1)
    maps = [np.abs(saliency(one, cohort).connections[upper]) for one in (model, random)]
    assert found["rank_correlation"].iloc[-1] == pytest.approx(spearmanr(*maps).statistic, abs=1e-6)


def test_subjects_are_spread_over_the_cohort(cohort, model):
    seen = []
    randomisation_check(model, cohort, n_subjects=3, measure=lambda one, batch: seen.append(batch.subject_ids) or edge_detector(one, batch))
    assert set(seen) == {("sub-000", "sub-006", "sub-011")}


def test_errors(cohort, model):
    with pytest.raises(DataError, match="fine-tuned model to check, found one without a head"):
        randomisation_check(untrained(cohort, encoder=GraphTransformer(8, 1, 2)), cohort)
    with pytest.raises(DataError, match="data in atlas 'other' to check"):
        randomisation_check(model, cohort, atlas="other")
