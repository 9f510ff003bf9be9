"""learn2learn's algorithms on our encoders, and our meta-gradients against its own."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphssl.encoders import MLP, GraphTransformer
from graphssl.errors import ConfigError, MissingExtraError
from graphssl.objectives import MaskedRegions
from graphssl.training.meta import MAML, GradientStep, InnerLoop, MetaSGD, as_function, learn2learn_algorithm, load_learn2learn, query_losses


@pytest.fixture(scope="module")
def learn2learn():
    try:
        return load_learn2learn()
    except MissingExtraError as error:
        pytest.skip(str(error))


class HeadLoss(nn.Module):
    """Cross-entropy of a fixed head on an encoder."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, labelled):
        return head_loss(self.encoder, self.head, labelled)


def head_loss(encoder, head, labelled):
    return F.cross_entropy(head(encoder(labelled[0]).pooled), labelled[1])


def made(kind):
    torch.manual_seed(0)
    encoder = kind(width=8, depth=1, spacing_mm=40.0, dropout=0.0)
    return encoder, nn.Linear(encoder.pooled_width, 2).requires_grad_(False)


def tasks(make_batch, seeds):
    return [(make_batch(4, 6, seed=seed), torch.tensor([0, 1, 1, 0])) for seed in seeds]


def loop(maml, head, support, query, n_steps):
    """Sum of the gradients of each task, in the way of learn2learn's examples."""
    for task, asked in zip(support, query, strict=True):
        learner = maml.clone()
        for _ in range(n_steps):
            learner.adapt(head_loss(learner, head, task))
        head_loss(learner, head, asked).backward()
    return [parameter.grad.clone() for parameter in maml.parameters()]


def same(found, expected):
    return all(torch.allclose(f, e, rtol=1e-4, atol=1e-6) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", [GraphTransformer, MLP])
def test_our_meta_gradients_are_those_of_its_maml(learn2learn, make_batch, kind, first_order):
    support, query = tasks(make_batch, (0, 1, 2)), tasks(make_batch, (3, 4, 5))
    encoder, head = made(kind)
    theirs = loop(learn2learn_algorithm("MAML", encoder, lr=0.5, first_order=first_order), head, support, query, n_steps=2)
    encoder.zero_grad()
    assert same(loop(MAML(encoder, lr=0.5, first_order=first_order), head, support, query, n_steps=2), theirs)
    loss, parameters = as_function(HeadLoss(encoder, head), first_order=first_order)
    for path in ("vmap", "sequential"):
        losses = query_losses(loss, parameters, support, query, InnerLoop(GradientStep(0.5), n_steps=2, first_order=first_order), path=path)
        assert same(torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True), theirs)


@pytest.mark.parametrize("first_order", [False, True])
def test_our_meta_sgd_is_its_own(learn2learn, make_batch, first_order):
    support, query = tasks(make_batch, (0, 1)), tasks(make_batch, (2, 3))
    encoder, head = made(GraphTransformer)
    theirs = loop(learn2learn_algorithm("MetaSGD", encoder, lr=0.5, first_order=first_order), head, support, query, n_steps=1)
    encoder.zero_grad()
    assert same(loop(MetaSGD(encoder, lr=0.5, first_order=first_order), head, support, query, n_steps=1), theirs)


def test_its_gbml_runs_on_an_encoder_and_an_objective(learn2learn, make_batch, make_encoder):
    encoder = make_encoder(dropout=0.0)
    objective = MaskedRegions().prepare(encoder)
    transform = learn2learn.optim.ModuleTransform(learn2learn.nn.Scale)
    gbml = learn2learn_algorithm("GBML", encoder, transform=transform, lr=0.1)
    batch = make_batch(4, 8)
    learner = gbml.clone()
    before = objective(learner, batch, torch.Generator().manual_seed(0)).total
    learner.adapt(before)
    after = objective(learner, batch, torch.Generator().manual_seed(0)).total
    assert after < before
    after.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_it_leaves_nothing_empty_behind(learn2learn):
    assert "learn2learn.vision" not in sys.modules
    assert "learn2learn.gym" not in sys.modules


def test_without_it_the_error_says_how_to_install_it(monkeypatch, make_encoder):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(MissingExtraError, match="`make learn2learn`.*--no-build-isolation.*learn2learn==0.2.0"):
        learn2learn_algorithm("MAML", make_encoder(), lr=0.1)
    with pytest.raises(ConfigError, match="'MAML', 'MetaSGD' or 'GBML', found 'Reptile'"):
        learn2learn_algorithm("Reptile", make_encoder())
