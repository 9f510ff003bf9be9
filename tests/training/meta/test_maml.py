"""Clone and adapt: against closed forms, plain gradient descent and the functional inner loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphssl.errors import ConfigError, GraphSSLError
from graphssl.objectives import MaskedRegions
from graphssl.training.meta import ANIL, MAML, GradientStep, InnerLoop, MetaSGD, as_function, query_losses


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


class ClassifierLoss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return F.cross_entropy(self.model(batch[0]), batch[1])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier().double()


def tasks(n_tasks=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(6, 3, generator=generator).double(), torch.tensor([0, 1, 1, 0, 1, 0])) for _ in range(n_tasks)]


def loop(maml, support, query, n_steps=2):
    """Gradients of the sum of the queries' losses with respect to the algorithm's parameters, one task after the other."""
    maml.zero_grad()
    for (x, y), (x_query, y_query) in zip(support, query, strict=True):
        learner = maml.clone()
        for _ in range(n_steps):
            learner.adapt(F.cross_entropy(learner(x), y))
        F.cross_entropy(learner(x_query), y_query).backward()
    return {name: parameter.grad for name, parameter in maml.named_parameters()}


@pytest.mark.parametrize("first_order", [False, True])
def test_clones_give_the_gradients_of_the_functional_loop(model, first_order):
    maml = MAML(model, lr=0.2, first_order=first_order)
    support, query = tasks(seed=1), tasks(seed=2)
    found = loop(maml, support, query)
    loss, parameters = as_function(ClassifierLoss(model), first_order=first_order)
    losses = query_losses(loss, parameters, support, query, InnerLoop(maml.update(), n_steps=2, first_order=first_order), path="vmap")
    expected = torch.autograd.grad(losses.sum(), list(parameters.values()))
    assert all(torch.allclose(f, e) for f, e in zip(found.values(), expected, strict=True))


def test_a_clone_adapts_as_gradient_descent_and_leaves_the_model_alone(model):
    maml, (x, y) = MAML(model, lr=0.1), tasks()[0]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learner = maml.clone()
    learner.adapt(F.cross_entropy(learner(x), y))
    loss = F.cross_entropy(model(x), y)
    for parameter, gradient, moved in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), learner.parameters(), strict=True):
        assert torch.allclose(moved, parameter - 0.1 * gradient)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert torch.equal(learner.module.head.weight, learner.adapted_parameters()["head.weight"])
    again = learner.clone()
    assert torch.equal(again(x), learner(x))


def test_a_clone_stands_in_for_an_encoder(make_batch, make_encoder):
    encoder = make_encoder(dropout=0.0)
    objective = MaskedRegions().prepare(encoder)
    maml, batch = MAML(encoder, lr=0.5), make_batch(4, 8)
    learner = maml.clone()
    assert learner.pooled_width == encoder.pooled_width
    losses = []
    for _ in range(3):
        total = objective(learner, batch, torch.Generator().manual_seed(0)).total
        losses.append(total.item())
        learner.adapt(total)
    assert losses[2] < losses[0]
    objective(learner, batch, torch.Generator().manual_seed(1)).total.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_of_attention_in_training_and_evaluation(make_batch, make_encoder, training):
    encoder = make_encoder(dropout=0.0).train(training)
    maml = MAML(encoder, lr=0.5)
    learner = maml.clone()
    learner.adapt(learner(make_batch()).pooled.square().mean())
    learner(make_batch()).pooled.square().mean().backward()
    assert encoder.blocks[0].qkv.weight.grad.isfinite().all()


def test_anil_adapts_the_head_alone_and_trains_the_body(model):
    anil, (x, y) = ANIL(model, "head", lr=0.3), tasks()[0]
    learner = anil.clone()
    learner.adapt(F.cross_entropy(learner(x), y))
    assert torch.equal(learner.module.body.weight, model.body.weight)
    assert not torch.equal(learner.module.head.weight, model.head.weight)
    found = loop(anil, tasks(seed=1), tasks(seed=2))
    loss, parameters = as_function(ClassifierLoss(model))
    inner = InnerLoop(GradientStep(0.3), n_steps=2, adapted=["model.head.weight", "model.head.bias"])
    losses = query_losses(loss, parameters, tasks(seed=1), tasks(seed=2), inner)
    expected = torch.autograd.grad(losses.sum(), list(parameters.values()))
    assert all(torch.allclose(f, e) for f, e in zip(found.values(), expected, strict=True))
    with pytest.raises(ConfigError, match=r"found 'tail'. Its parts are \['body', 'head'\]"):
        ANIL(model, "tail")


@pytest.mark.parametrize("first_order", [False, True])
def test_meta_sgd_learns_a_rate_for_every_weight(model, first_order):
    meta = MetaSGD(model, lr=0.1, first_order=first_order)
    support, query = tasks(seed=1), tasks(seed=2)
    found = loop(meta, support, query, n_steps=1)
    assert found["lrs.0"].shape == model.body.weight.shape
    # With one step of first order dL/dα = −g · dL/dθ', which is a closed form; a small change of one rate tells the same at any order.
    for sign in (1, -1):
        with torch.no_grad():
            meta.lrs[0][1, 2] += sign * 1e-5
            value = sum(_query_loss(meta, *pair) for pair in zip(support, query, strict=True))
            meta.lrs[0][1, 2] -= sign * 1e-5
        above, below = (value, None) if sign == 1 else (above, value)
    assert torch.allclose(found["lrs.0"][1, 2], (above - below) / 2e-5, rtol=1e-5)
    assert set(meta.learning_rates()) == set(dict(model.named_parameters()))


def _query_loss(maml, support, query):
    with torch.enable_grad():
        learner = maml.clone()
        learner.adapt(F.cross_entropy(learner(support[0]), support[1]))
        return F.cross_entropy(learner(query[0]), query[1]).detach()


def test_tied_and_recurrent_parameters_stay_what_they_are():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    learner = MAML(tied, lr=0.1).clone()
    learner.adapt(learner(torch.ones(2, 3)).square().sum())
    assert learner.module[0].weight is learner.module[1].weight
    recurrent = nn.GRU(3, 2)
    learner = MAML(recurrent, lr=0.5).clone()
    before = learner(torch.ones(4, 1, 3))[0].detach()
    learner.adapt(learner(torch.ones(4, 1, 3))[0].sum())
    assert not torch.allclose(learner(torch.ones(4, 1, 3))[0], before)


def test_what_would_go_wrong_is_refused(model):
    maml = MAML(model)
    with pytest.raises(ConfigError, match=r"Expected a clone to adapt.*maml.clone\(\)"):
        maml.adapt(model(torch.ones(1, 3).double()).sum())
    with pytest.raises(GraphSSLError, match="Expected a finite loss to adapt to, found nan"):
        maml.clone().adapt(torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(ConfigError, match="found BatchNorm1d in '0'"):
        MAML(nn.Sequential(nn.BatchNorm1d(3)))
    assert maml.clone(first_order=True).first_order
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        maml.nothing_of_this_name  # noqa: B018
