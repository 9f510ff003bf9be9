"""The learner: schedule, decay, and where randomness comes from."""

import math

import pytest
import torch

from graphssl.errors import GraphSSLError
from graphssl.objectives import MaskedRegions
from graphssl.training import fit
from graphssl.training.learner import Learner


@pytest.fixture
def make_learner(make_encoder):
    def make(n_steps=40, **changes):
        encoder = make_encoder(**changes)
        torch.manual_seed(1)
        return Learner(encoder, MaskedRegions(rank=4).prepare(encoder), learning_rate=0.02, weight_decay=0.05, n_steps=n_steps, seed=3)

    return make


def test_matrices_decay_and_vectors_do_not(make_learner):
    learner = make_learner(learn_bias=True)
    groups = learner.configure_optimizers()["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert all(p.dim() > 1 for p in groups[0]["params"])
    assert all(p.dim() <= 1 for p in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(learner.parameters()))


def test_frozen_parameters_are_left_out(make_learner):
    learner = make_learner()
    learner.encoder.requires_grad_(False)
    groups = learner.configure_optimizers()["optimizer"].param_groups
    mine = {id(p) for p in learner.objective.parameters()}
    assert {id(p) for group in groups for p in group["params"]} == mine


def test_the_rate_warms_up_over_a_tenth_and_decays_as_a_cosine(make_learner):
    found = make_learner(n_steps=40).configure_optimizers()
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(41):
        rates.append(optimizer.param_groups[0]["lr"] / 0.02)
        optimizer.step()
        schedule.step()
    expected = [(k + 1) / 4 for k in range(4)] + [0.01 + 0.99 * (1 + math.cos(math.pi * (k - 4) / 36)) / 2 for k in range(4, 41)]
    assert rates == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("n_steps", [0, 1, 2])
def test_the_shortest_trainings_have_a_rate(make_learner, n_steps):
    optimizer = make_learner(n_steps=n_steps).configure_optimizers()["optimizer"]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


def test_a_step_depends_on_seed_and_number_only(make_learner, make_batch):
    learner, batch = make_learner(dropout=0.5).train(), make_batch(3, 8)
    learner.log = lambda *arguments, **options: None  # there is no trainer to log to
    totals = []
    for state in (0, 1):
        torch.manual_seed(state)
        torch.rand(state)
        totals.append(learner.training_step(batch, 0).item())
    assert totals[0] == totals[1]


def test_validation_draws_the_same_every_epoch(make_learner, make_batch):
    learner, batch = make_learner().eval(), make_batch(3, 8)
    learner.log = lambda *arguments, **options: None
    for _ in range(2):
        learner.on_validation_epoch_start()
        learner.validation_step(batch, 0)
        learner.validation_step(batch, 1)
        learner.on_train_epoch_end()
    first, second = ({k: v for k, v in row.items() if k != "epoch"} for row in learner.history)
    assert first == second


@pytest.mark.parametrize(("stage", "step"), [("training", "training_step"), ("validation", "validation_step")])
def test_a_loss_that_is_not_finite_names_the_step(make_learner, make_batch, stage, step):
    learner, batch = make_learner(), make_batch(3, 8)
    batch.weights[1] = float("inf")
    with pytest.raises(
        GraphSSLError, match=rf"Expected a finite {stage} loss at step 0, found (nan|inf) \(subjects \['sub-000'.*lower the learning rate"
    ):
        getattr(learner, step)(batch, 0)


def test_the_objective_is_told_of_every_step_of_the_optimiser(make_encoder, make_settings, make_batch):
    told = []

    class Noting(MaskedRegions):
        def after_step(self, encoder, progress):
            told.append((encoder.pool.project.weight.detach().clone(), progress))

    encoder = make_encoder()
    start = encoder.pool.project.weight.detach().clone()
    fit(encoder, Noting(rank=4).prepare(encoder), make_batch(8, 6), None, make_settings(max_epochs=2, batch_size=3))
    assert [progress for _, progress in told] == [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]
    assert not torch.equal(told[0][0], start), "the optimiser has stepped before"


def test_an_anchor_adds_half_the_squared_distance_of_the_encoder_alone(make_encoder, make_batch):
    encoder, batch = make_encoder(), make_batch(3, 8)
    torch.manual_seed(1)
    objective = MaskedRegions(rank=4).prepare(encoder)
    learners = [Learner(encoder, objective, learning_rate=0.02, weight_decay=0.0, n_steps=4, seed=3, anchor=anchor) for anchor in (0.0, 0.6)]
    with torch.no_grad():
        for parameter in learners[0].parameters():
            parameter += 0.1
    totals = []
    for learner in learners:
        learner.log = lambda *arguments, **options: None
        totals.append(learner.train().training_step(batch, 0).item())
    n = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    assert totals[1] - totals[0] == pytest.approx(0.3 * 0.01 * n, rel=1e-3)
    assert torch.stack(learners[1]._running["train_distance"]).item() == pytest.approx(0.01 * n, rel=1e-3)
    assert not [name for name in learners[1].state_dict() if "start" in name]
