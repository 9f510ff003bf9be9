"""Rates of each source: those that the generator makes, averaged over draws."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.training.meta import JointTraining, MetaLearning, MetaSettings, SourceBatches, TaskSampler, meta_train, rates_by_source, sources_by_site
from graphssl.training.meta.labelled_loss import LabelledLoss

SETTINGS = MetaSettings(max_epochs=2, steps_per_epoch=2, n_support=3, n_query=3, learning_rate=3e-3, accelerator="cpu")


@pytest.fixture(scope="module")
def sources(make_cohort):
    return sources_by_site(make_cohort(n_subjects=36, n_sites=3, effect=2.0), target="diagnosis")


def test_rates_are_those_of_the_generator_at_the_gradients_of_each_source(sources, make_encoder):
    model = meta_train(sources, encoder=make_encoder(), strategy=MetaLearning(adaptive=True), settings=SETTINGS)
    found = rates_by_source(model, sources, n_support=3, n_draws=2)
    assert len(found) == 3 * len(model.update.names)
    module = LabelledLoss(model.encoder, 2)
    module.head.load_state_dict(model.head.state_dict())
    batches, sampler = SourceBatches(sources, model.builder, is_fitted=True), TaskSampler(sources, 3, 1)
    parameters, expected = {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}, []
    for step in range(2):
        loss = module(batches.support(sampler.draw(step)[1]))
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        expected.append(model.update.rates(parameters, dict(zip(parameters, gradients, strict=True)))[0])
    rows = found[found["source"] == sources[1].name].set_index("tensor")["learning_rate"]
    assert rows.index.tolist() == list(model.update.names)
    assert torch.allclose(torch.tensor(rows.to_list()), torch.stack(expected).mean(dim=0).detach(), rtol=1e-4)


def test_a_model_without_generated_rates_is_refused(sources, make_encoder):
    model = meta_train(sources, encoder=make_encoder(), strategy=JointTraining(), settings=SETTINGS)
    with pytest.raises(ConfigError, match="a model with a head and generated rates, found none"):
        rates_by_source(model, sources)
