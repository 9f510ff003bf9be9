"""SwAV against the pseudocode of the paper in loops: assignments fill all prototypes alike, and views predict those of each other."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.errors import ConfigError
from graphssl.objectives import SwAV
from graphssl.objectives.clustering import _sinkhorn_of_logarithms, sinkhorn
from graphssl.objectives.multi_crop import cross_entropies


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_sinkhorn(scores, epsilon, n_iterations):
    """Function sinkhorn of the appendix, one entry at a time in double precision; rows are samples here."""
    q = [[math.exp(value / epsilon) for value in row] for row in scores.tolist()]
    n, k = len(q), len(q[0])
    for _ in range(n_iterations):
        columns = [sum(row[j] for row in q) for j in range(k)]
        q = [[row[j] / columns[j] / k for j in range(k)] for row in q]
        q = [[value / sum(row) / n for value in row] for row in q]
    return [[value * n for value in row] for row in q]


def swapped(scores, assigned, temperature=0.1):
    """Cross-entropy of a view's softmax with the assignment of the other view, equation 2."""
    return cross_entropies([scores, scores], [assigned, assigned], temperature)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), k=st.integers(1, 5), n_iterations=st.integers(1, 4), seed=st.integers(0, 99))
def test_assignments_are_those_of_the_paper(n, k, n_iterations, seed):
    scores = 2 * torch.rand(n, k, generator=generator(seed)) - 1
    found = sinkhorn(scores, 0.1, n_iterations)
    torch.testing.assert_close(found, torch.tensor(slow_sinkhorn(scores, 0.1, n_iterations)), rtol=1e-3, atol=1e-5)


def test_many_rounds_fill_all_prototypes_alike():
    found = sinkhorn(torch.rand(12, 4, generator=generator()), 0.2, 200)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(12))
    torch.testing.assert_close(found.sum(dim=0), torch.full((4,), 3.0))


@pytest.mark.parametrize("epsilon", [0.03, 0.05, 0.5])
def test_both_ways_to_assign_are_one(epsilon):
    scores = 2 * torch.rand(9, 5, generator=generator(), dtype=torch.float64) - 1
    torch.testing.assert_close(sinkhorn(scores, epsilon), _sinkhorn_of_logarithms(scores / epsilon, 3))


def test_hard_assignments_stay_finite():
    found = sinkhorn(torch.eye(6), 1e-3)
    torch.testing.assert_close(found, torch.eye(6))


def test_the_swapped_loss_is_a_cross_entropy():
    scores, assigned = torch.rand(3, 4, generator=generator()), torch.softmax(torch.rand(3, 4, generator=generator(1)), dim=1)
    expected = 0.0
    for row, target in zip(scores.tolist(), assigned.tolist(), strict=True):
        total = sum(math.exp(value / 0.1) for value in row)
        expected -= sum(t * math.log(math.exp(value / 0.1) / total) for t, value in zip(target, row, strict=True)) / 3
    assert float(swapped(scores, assigned, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_each_view_predicts_the_other(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(5, 8)
    torch.manual_seed(1)
    objective = SwAV(n_prototypes=3, width=6, hidden=8).prepare(encoder)
    with torch.no_grad():
        loss = objective(encoder, batch, generator(2))
        source = generator(2)
        first, second = (objective.prototypes(objective.projector(encoder(objective.view(batch, source)).pooled)) for _ in range(2))
        assigned = [torch.tensor(slow_sinkhorn(each, 0.05, 3)) for each in (first, second)]
        expected = (swapped(first, assigned[1]) + swapped(second, assigned[0])) / 2
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-4)
    assert 0 <= float(loss.parts["prototypes_used"]) <= 1


def test_the_loss_falls_and_all_prototypes_are_used(make_encoder, scans_of_individuals, train):
    encoder = make_encoder(width=16)
    torch.manual_seed(1)
    objective = SwAV(n_prototypes=8, width=16, hidden=32).prepare(encoder)
    losses = train(objective, encoder, scans_of_individuals, 30, 3e-3)
    parts = objective(encoder, scans_of_individuals, generator(30)).parts
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert parts["prototypes_used"] > 0.8


def test_small_views_predict_the_assignments_of_the_whole_ones(make_resnet, make_patients, crops):
    encoder, batch = make_resnet(norm="group"), make_patients(5)
    torch.manual_seed(1)
    objective = SwAV(crops(2), n_prototypes=3, width=6, hidden=8).prepare(encoder).eval()
    with torch.no_grad():
        loss = objective(encoder, batch, generator(2))
        views = crops(2)(batch, generator(2))
        scores = [objective.prototypes(objective.projector(encoder(view).pooled)) for view in views]
    assigned = [torch.tensor(slow_sinkhorn(each, 0.05, 3)) for each in scores[:2]]
    by_whole = [sum(float(swapped(scores[v], assigned[w])) for v in range(4) if v != w) / 3 for w in range(2)]
    assert float(loss.total) == pytest.approx(sum(by_whole) / 2, rel=1e-4)


def test_no_gradient_goes_through_assignments(make_resnet, make_patients, noise):
    """Numbers moved a little by hand, with assignments held, give the gradient."""
    encoder, batch = make_resnet(norm="group").double(), make_patients(5)
    batch = replace(batch, images=batch.images.double())
    torch.manual_seed(1)
    objective = SwAV(noise(), n_prototypes=3, width=6, hidden=8).prepare(encoder).double()
    objective(encoder, batch, generator(2)).total.backward()
    source = generator(2)
    views = [noise()(batch, source) for _ in range(2)]
    directions = objective.prototypes.directions

    def held(assigned=None):
        with torch.no_grad():
            scores = [objective.prototypes(objective.projector(encoder(view).pooled)).float() for view in views]
            assigned = assigned or [torch.tensor(slow_sinkhorn(each, 0.05, 3)) for each in scores]
            return float(swapped(scores[0].double(), assigned[1].double()) + swapped(scores[1].double(), assigned[0].double())) / 2, assigned

    _, assigned = held()
    for row, column in ((0, 0), (2, 5)):
        values = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                directions[row, column] += step
            values.append(held(assigned)[0])
            with torch.no_grad():
                directions[row, column] -= step
        assert float(directions.grad[row, column]) == pytest.approx((values[0] - values[1]) / 2e-3, rel=2e-2, abs=1e-4)


def test_the_queue_is_assigned_with_the_minibatch_once_it_is_full(make_resnet, make_patients, noise):
    encoder, batch = make_resnet(norm="group"), make_patients(5)
    torch.manual_seed(1)
    objective = SwAV(noise(), n_prototypes=8, width=6, hidden=8, queue_size=12, queue_from=0.1).prepare(encoder)
    for progress, seen in ((0.1, 0), (0.2, 5), (0.3, 10), (0.4, 15)):
        objective(encoder, batch, generator(9))
        objective.after_step(encoder, progress)
        assert int(objective.queue.seen) == seen
    with torch.no_grad():
        loss = objective(encoder, batch, generator(2))
        source = generator(2)
        scores = [objective.prototypes(objective.projector(encoder(noise()(batch, source)).pooled)) for _ in range(2)]
        earlier = [objective.prototypes(objective.queue["vectors"][:, view]) for view in range(2)]
        assigned = [torch.tensor(slow_sinkhorn(torch.cat(both), 0.05, 3))[:5] for both in zip(scores, earlier, strict=True)]
        expected = (swapped(scores[0], assigned[1]) + swapped(scores[1], assigned[0])) / 2
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-4)


def test_one_prototype_a_group_is_found(make_resnet, noise, train):
    """Of two kinds of texture, each gets prototypes of its own."""
    from graphssl.data import ImageBatch

    stripes = torch.arange(8) % 2 * 2.0 - 1
    kinds = torch.stack([stripes.expand(8, 8), stripes.unsqueeze(1).expand(8, 8)]).repeat(8, 1, 1).unsqueeze(1)
    batch = ImageBatch(tuple(f"patient-{k}" for k in range(16)), kinds)
    encoder = make_resnet(norm="group")
    torch.manual_seed(1)
    objective = SwAV(noise(0.2), n_prototypes=2, width=6, hidden=8).prepare(encoder)
    train(objective, encoder, batch, 40, 2e-2)
    with torch.no_grad():
        nearest = objective.prototypes(objective.projector(encoder(noise(0.2)(batch, generator(99))).pooled)).argmax(dim=1)
    assert nearest[0] != nearest[1]
    assert torch.equal(nearest, nearest[:2].repeat(8))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"queue_size": -1}, "queue_size of 0 or more, found -1"), ({"queue_from": 2.0}, "share of the training")]
)
def test_an_impossible_queue_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SwAV(**wrong)


@pytest.mark.parametrize("name", ["n_prototypes", "temperature", "epsilon", "n_iterations"])
def test_impossible_arguments_are_refused(name):
    with pytest.raises(ConfigError, match=rf"above 0, found \{{'{name}': 0\}}"):
        SwAV(**{name: 0})
