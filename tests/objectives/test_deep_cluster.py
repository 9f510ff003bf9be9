"""DeepCluster-v2: cross-entropy with the clusters of the memory; both views get the assignment of one; clusters are found anew when it is time."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from graphssl.data import Cohort, ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import DeepCluster


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def prepared(encoder, n=6, **options):
    torch.manual_seed(1)
    rows = {f"patient-{k}": 1 for k in range(n)}
    return DeepCluster(**{"width": 6, "hidden": 8, "n_clusters": (3, 3, 2), "n_clusterings": 4, "rows": rows, **options}).prepare(encoder)


def slow_loss(projected, prototypes, assigned, places, temperature):
    """Mean over heads and views of the cross-entropy, one row at a time."""
    total = 0.0
    for head, centroids in enumerate(prototypes):
        for vectors in projected:
            for row, place in enumerate(places):
                cosines = [float(F.cosine_similarity(vectors[row], centroid, dim=0)) / temperature for centroid in centroids]
                total += math.log(sum(map(math.exp, cosines))) - cosines[assigned[head][place]]
    return total / len(prototypes) / len(projected) / len(places)


def test_the_loss_is_the_cross_entropy_with_the_clusters_of_the_memory(make_resnet, make_patients, noise):
    encoder, batch = make_resnet(norm="group"), make_patients()
    objective = prepared(encoder, view=noise())
    objective(encoder, batch, generator(1))
    objective.after_step(encoder, 0.25)  # the first clustering
    assert (objective.assigned >= 0).all()
    loss = objective(encoder, batch[[4, 1, 2]], generator(2))
    source = generator(2)
    with torch.no_grad():
        projected = [objective.projector(encoder(noise()(batch[[4, 1, 2]], source)).pooled) for _ in range(2)]
    prototypes = [head.directions.detach() for head in objective.prototypes]
    expected = slow_loss(projected, prototypes, objective.assigned.tolist(), [4, 1, 2], 0.1)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    loss.total.backward()
    assert encoder.conv1.weight.grad.abs().max() > 0
    assert all(head.directions.grad is not None for head in objective.prototypes)


def test_heads_take_turns_in_whose_memory_they_cluster(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, view=noise(1.0))
    objective(encoder, make_patients(), generator(1))
    objective.after_step(encoder, 0.25)
    for head, prototypes in enumerate(objective.prototypes):
        nearest = (objective.memory[:, head % 2] @ prototypes.directions.T).argmax(dim=1)
        assert torch.equal(objective.assigned[head], nearest)
        torch.testing.assert_close(prototypes.directions.norm(dim=1), torch.ones(len(prototypes.directions)))
    torch.testing.assert_close(objective.memory.norm(dim=2), torch.ones(6, 2))
    assert not torch.allclose(objective.memory[:, 0], objective.memory[:, 1])


def test_views_that_are_alike_belong_to_the_same_clusters(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, view=noise(0.0), n_clusters=(3, 3)).eval()
    objective.train()(encoder, make_patients(), generator())
    objective.after_step(encoder, 0.1)
    torch.testing.assert_close(objective.memory[:, 0], objective.memory[:, 1])
    objective.cluster(1)
    first = objective.memory[:, 0] @ objective.prototypes[0].directions.T
    second = objective.memory[:, 1] @ objective.prototypes[0].directions.T
    assert torch.equal(first.argmax(dim=1), second.argmax(dim=1))


def test_clusters_are_found_when_it_is_time_and_vectors_noted_after_the_step(make_resnet, make_patients, noise):
    encoder, batch = make_resnet(norm="group"), make_patients()
    objective = prepared(encoder, view=noise())
    objective.eval()(encoder, batch, generator())
    objective.after_step(encoder, 0.05)
    assert not objective.remembered.any()
    objective.train()
    first, again = (float(objective(encoder, batch[[0, 3]], generator(2)).total.detach()) for _ in range(2))
    assert first == again
    objective.after_step(encoder, 0.2)
    assert objective.remembered.tolist() == [True, False, False, True, False, False]
    assert (objective.assigned == -1).all()
    objective(encoder, batch, generator(3))
    objective.after_step(encoder, 0.25)
    assert (objective.assigned >= 0).all()
    before = objective.prototypes[0].directions.detach().clone()
    objective.after_step(encoder, 0.49)
    assert torch.equal(objective.prototypes[0].directions, before)
    objective.after_step(encoder, 0.5)
    assert not torch.equal(objective.prototypes[0].directions, before)


def test_who_is_not_remembered_belongs_to_the_nearest_prototype(make_resnet, make_patients, noise):
    encoder, batch = make_resnet(norm="group"), make_patients()
    objective = prepared(encoder, view=noise(0.0), n_clusters=(3,)).eval()
    loss = objective(encoder, batch, generator())
    with torch.no_grad():
        scores = objective.prototypes[0](objective.projector(encoder(batch).pooled)) / 0.1
    expected = (scores.logsumexp(dim=1) - scores.amax(dim=1)).mean()
    torch.testing.assert_close(loss.total.detach(), expected)


def test_prototypes_are_frozen_for_their_share(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, view=noise(), frozen=0.5)
    for progress, moves in ((0.2, False), (0.5, True)):
        objective.after_step(encoder, progress)
        objective(encoder, make_patients(), generator()).total.backward()
        assert (objective.prototypes[0].directions.grad is not None) == moves


def test_rows_of_a_subject_have_places_of_their_own(make_resnet):
    objective = prepared(make_resnet(norm="group"), rows={"a": 2, "b": 1, "c": 3}, n_clusters=(2,))
    batch = ImageBatch(("c", "a", "c", "b", "a"), torch.zeros(5, 1, 8, 8))
    assert objective.places(batch).tolist() == [3, 0, 4, 2, 1]
    assert objective.memory.shape == (6, 2, 6)
    with pytest.raises(DataError, match="Expected 1 rows of subject 'b' at most, found more"):
        objective.places(replace(batch, subject_ids=("b", "a", "b", "c", "a")))
    with pytest.raises(DataError, match="Expected 0 rows of subject 'd' at most"):
        objective.places(replace(batch, subject_ids=("d", "a", "b", "c", "a")))


def test_it_takes_the_rows_of_a_cohort(make_cohort):
    from graphssl.datasets.simulate_images import simulate_images

    cohort = simulate_images(4, size=8, images_per_subject=3)
    assert DeepCluster().for_cohort(cohort).rows == dict.fromkeys(cohort.ids, 3)
    connectomes: Cohort = make_cohort(n_subjects=6)
    assert DeepCluster().for_cohort(connectomes).rows == dict.fromkeys(connectomes.ids, 1)
    told = DeepCluster(rows={"a": 2})
    assert told.for_cohort(cohort) is told


def test_memory_and_clusters_belong_to_the_state(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="group")
    objective, other = (prepared(encoder, view=noise()) for _ in range(2))
    objective(encoder, make_patients(), generator())
    objective.after_step(encoder, 0.25)
    other.load_state_dict(objective.state_dict())
    found, expected = (float(each(encoder, make_patients(), generator(5)).total.detach()) for each in (other, objective))
    assert found == expected


def test_the_loss_falls_and_clusters_are_used(make_resnet, make_patients, noise, train):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, 12, view=noise(0.2), n_clusters=(4, 4), n_clusterings=10)
    assert not objective.selects_epoch
    losses = train(objective, encoder, make_patients(12), 30, 2e-2)
    parts = objective(encoder, make_patients(12), generator(30)).parts
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert parts["prototypes_used"] > 0.8
    assert parts["projected_spread"] > 0.1


def test_clusters_wait_until_enough_rows_are_remembered(make_resnet, make_patients, noise):
    encoder = make_resnet(norm="group")
    objective = prepared(encoder, view=noise(), n_clusters=(3, 4))
    objective(encoder, make_patients()[[0, 1, 2]], generator())
    objective.after_step(encoder, 0.3)
    assert (objective.assigned == -1).all()


def test_more_clusters_than_rows_are_refused(make_resnet):
    with pytest.raises(ConfigError, match="Expected at least as many rows as clusters, found 6 for 7"):
        prepared(make_resnet(norm="group"), n_clusters=(7,))


def test_one_that_knows_no_subjects_is_refused(make_resnet):
    with pytest.raises(ConfigError, match="Expected a DeepCluster that knows the subjects, found one without"):
        DeepCluster().prepare(make_resnet(norm="group"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_clusters": ()}, "number of clusters of at least one head, found none"),
        ({"n_clusters": (3, 0)}, r"above 0, found \{'n_clusters': 0\}"),
        ({"n_clusterings": 0}, "above 0"),
        ({"frozen": 2.0}, "share of the training"),
    ],
)
def test_impossible_arguments_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        DeepCluster(**wrong)
