"""Distillation of slices and volumes against the four terms written out; images train nothing that volumes alone have."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.encoders import PyramidTransformer
from graphssl.errors import DataError
from graphssl.objectives import SliceVolumeDistillation
from graphssl.objectives.slice_volume import slices_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def make_pyramid():
    def make():
        torch.manual_seed(0)
        sizes = {"image_size": (16, 16), "volume_size": (6, 16, 16)}
        return PyramidTransformer(1, 1, (8, 12), (1, 1), (1,), (1, 2), (2, 1), stem_width=4, drop_path=0.0, **sizes)

    return make


def prepared(encoder, view, **options):
    torch.manual_seed(1)
    return SliceVolumeDistillation(view, **{"n_prototypes": 7, "width": 6, "hidden": 8, **options}).prepare(encoder)


def cross_entropy(scores, taught, center):
    """One pair of views, row by row."""
    total = 0.0
    for mine, theirs in zip(scores, taught, strict=True):
        target = torch.softmax((theirs - center) / 0.04, dim=0)
        total -= float((target * torch.log_softmax(mine / 0.1, dim=0)).sum()) / len(scores)
    return total


def test_volumes_have_four_terms(make_pyramid, make_patients, noise):
    encoder, batch = make_pyramid(), make_patients(4, 3, 16)
    objective = prepared(encoder, noise()).eval()
    objective.center.copy_(torch.linspace(-0.1, 0.1, 7))
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.mul_(1.05)  # so that the teacher says something else
        loss = objective(encoder, batch, generator(2))
        source = generator(2)
        views = [noise()(batch, source) for _ in range(2)]

        def score(view, network, head):
            return head(network(view).pooled)

        student = (encoder, torch.nn.Sequential(objective.projector, objective.prototypes))
        teacher = (objective.teacher.encoder, objective.teacher.head)
        by_side = []
        for side in (student, teacher):
            volumes = [score(view, *side) for view in views]
            slices = []
            for view in views:  # slice by slice
                each = [score(ImageBatch(view.subject_ids, view.images[:, :, k]), *side) for k in range(6)]
                slices.append(torch.stack(each).mean(dim=0))
            by_side.append((volumes, slices))
    (volumes, slices), (taught_volumes, taught_slices) = by_side
    assert slices[0].shape == (4, 7)
    expected = 0.0
    for mine, theirs in ((volumes, taught_volumes), (slices, taught_volumes), (slices, taught_slices), (volumes, taught_slices)):
        expected += sum(cross_entropy(mine[1 - k], theirs[k], objective.center) for k in range(2)) / 2
    assert float(loss.total) == pytest.approx(expected, rel=1e-3)


def test_the_two_views_may_be_exchanged(make_pyramid, make_patients, noise):
    encoder, batch = make_pyramid(), make_patients(4, 3, 16)
    objective = prepared(encoder, noise()).eval()
    with torch.no_grad():
        views = objective.look(batch, generator(3))
        swapped = (views[1], views[0], views[3], views[2])
        losses = [objective.compare(tuple(map(objective.projector, objective.embedded(encoder, each))), each).total for each in (views, swapped)]
    torch.testing.assert_close(*losses)


def test_images_are_distilled_as_in_dino_and_leave_the_parts_of_volumes_without_a_gradient(make_pyramid, make_patients, noise):
    from graphssl.objectives import DINO

    encoder, batch = make_pyramid(), make_patients(4, 2, 16)
    objective = prepared(encoder, noise())
    torch.manual_seed(1)
    dino = DINO(noise(), n_prototypes=7, width=6, hidden=8).prepare(encoder)
    loss = objective(encoder, batch, generator(2)).total
    torch.testing.assert_close(loss.detach(), dino(encoder, batch, generator(2)).total.detach())
    loss.backward()
    frozen = set(encoder.volume_parameters)
    assert frozen
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name


def test_volumes_train_both_paths(make_pyramid, make_patients, noise):
    encoder = make_pyramid()
    prepared(encoder, noise())(encoder, make_patients(3, 3, 16), generator()).total.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_the_centre_follows_all_answers_of_the_teacher(make_pyramid, make_patients, noise):
    encoder = make_pyramid()
    objective = prepared(encoder, noise())
    batch = make_patients(3, 3, 16)
    objective(encoder, batch, generator(2))
    views = objective.look(batch, generator(2))
    answers = [objective.teacher(view) for view in views]
    slices = [each.unflatten(0, (3, 6)).mean(dim=1) for each in answers[2:]]
    expected = 0.1 * torch.cat([*answers[:2], *slices]).mean(dim=0)
    objective.after_step(encoder, 0.1)
    torch.testing.assert_close(objective.center, expected, rtol=1e-4, atol=1e-6)


def test_slices_of_a_volume_stand_one_after_the_other(make_patients):
    volumes = make_patients(2, 3, 4).hide(torch.zeros(2, 6, 4, 4, dtype=torch.bool))
    slices = slices_of(volumes)
    assert slices.shape == (12, 1, 4, 4)
    assert slices.rank == 2
    assert slices.subject_ids == ("patient-0",) * 6 + ("patient-1",) * 6
    assert torch.equal(slices.images[7, 0], volumes.images[1, 0, 1])
    assert slices.visible.shape == (12, 4, 4)


def test_the_loss_falls_on_images_and_volumes_in_turn(make_pyramid, make_patients, noise):
    encoder = make_pyramid()
    objective = prepared(encoder, noise(), momentum=0.9)
    optimizer = torch.optim.Adam([p for p in (*encoder.parameters(), *objective.parameters()) if p.requires_grad], lr=1e-2)
    losses = {2: [], 3: []}
    for step in range(30):
        rank = 2 + step % 2
        loss = objective(encoder, make_patients(6, rank, 16), generator(step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        objective.after_step(encoder, (step + 1) / 30)
        losses[rank].append(loss.total.item())
    for found in losses.values():
        assert sum(found[-4:]) < 0.95 * sum(found[:4])


def test_clips_and_connectomes_are_refused(make_pyramid, make_images, make_batch, noise):
    encoder = make_pyramid()
    objective = prepared(encoder, noise())
    for batch in (make_images(3, 1, 4, 16, 16, clip=True), make_batch(3)):
        with pytest.raises(DataError, match="Expected images or volumes to distil between, found"):
            objective(encoder, batch, generator())
