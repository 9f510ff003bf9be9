"""Jigsaw: the laid patches against slices, the orders against all of them, and the losses against their parts."""

import itertools
import math

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError
from graphssl.objectives import Jigsaw
from graphssl.objectives.jigsaw import distant_orders


def test_orders_are_permutations_far_from_one_another():
    orders = distant_orders(8, 100)
    assert orders.shape == (100, 8)
    assert orders.sort(dim=1).values.unique(dim=0).tolist() == [list(range(8))]
    distance = (orders[:, None] != orders[None]).sum(dim=2)[~torch.eye(100, dtype=torch.bool)]
    anyhow = torch.rand(100, 8, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    assert distance.min() >= 1
    assert distance.float().mean() > (anyhow[:, None] != anyhow[None]).sum(dim=2).float().mean()


def test_orders_of_few_things_are_all_of_them_and_of_many_are_drawn():
    assert sorted(map(tuple, distant_orders(3, 100).tolist())) == sorted(itertools.permutations(range(3)))
    first, second = distant_orders(4, 2).tolist()
    assert all(a != b for a, b in zip(first, second, strict=True)), "the farthest of all differs everywhere"
    assert distant_orders(27, 5).sort(dim=1).values.unique(dim=0).tolist() == [list(range(27))]


@pytest.mark.parametrize(("rank", "flips"), [(2, [(-1,), (-2,)]), (3, [(-3, -1), (-3, -2)])])
def test_patches_are_laid_turned_and_blanked_one_by_one(rank, flips, make_images, make_resnet):
    batch = make_images(3, 1, *[12] * rank)
    objective = Jigsaw((2,) * rank, rotations=True, blanks=True, jitter=1).prepare(make_resnet(rank))
    drawn = objective.draw(batch, torch.Generator().manual_seed(0))
    laid = objective.lay(batch, drawn)
    assert drawn.turned.any()
    assert drawn.blanked.any()
    for row, k in itertools.product(range(3), range(2**rank)):
        cell = int(objective.orders[drawn.order[row], k])
        slices = tuple(slice(at, at + 5) for at in drawn.starts[row, cell].tolist())
        patch = batch.images[row][(slice(None), *slices)]
        for axis, flipped in enumerate(flips):
            if drawn.turned[row, k, axis]:
                patch = patch.flip(flipped)
        lost = drawn.lost[row, k]
        assert lost.any() == bool(drawn.blanked[row, k])
        assert torch.equal(laid[row, k], torch.where(lost, 0.0, patch))


def test_half_turns_about_both_axes_undo_themselves():
    volume = torch.randn(4, 4, 4)
    for flips in ((-3, -1), (-3, -2)):
        assert torch.equal(volume.flip(flips), torch.rot90(volume, 2, flips))


def test_time_of_clips_is_not_cut(make_resnet, make_images):
    objective = Jigsaw((1, 2, 2), n_orders=5).prepare(make_resnet(3))
    batch = make_images(2, 1, 3, 8, 8, clip=True)
    assert objective.lay(batch, objective.draw(batch, torch.Generator())).shape == (2, 4, 1, 3, 3, 3)
    assert torch.isfinite(objective(make_resnet(3), batch, torch.Generator()).total)


@pytest.mark.parametrize("rank", [2, 3])
def test_the_loss_is_the_sum_of_the_three_tasks(rank, make_resnet, make_images):
    encoder, batch = make_resnet(rank).eval(), make_images(4, 1, *[12] * rank)
    objective = Jigsaw(n_orders=7, rotations=True, blanks=True, width=5, hidden=6).prepare(encoder).eval()
    loss = objective(encoder, batch, torch.Generator().manual_seed(1))
    drawn = objective.draw(batch, torch.Generator().manual_seed(1))
    laid = objective.lay(batch, drawn)
    total = 0.0
    for row in range(4):
        vector = torch.cat([objective.projector(encoder.scales(patch[None])[-1].flatten(2).mean(dim=2))[0] for patch in laid[row]])
        scores = objective.order_head(vector)
        total += (torch.logsumexp(scores, 0) - scores[drawn.order[row]]).item() / 4
        for head, truth in ((objective.turn_head, drawn.turned[row].flatten()), (objective.blank_head, drawn.blanked[row])):
            chance = torch.sigmoid(head(vector))
            total -= torch.where(truth, chance, 1 - chance).log().mean().item() / 4
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert set(loss.parts) == {"order_accuracy", "turn_accuracy", "blank_accuracy"}


def test_the_order_is_learned_where_places_differ(make_resnet, train):
    brightness = torch.arange(4.0).view(2, 2).repeat_interleave(5, 0).repeat_interleave(5, 1)
    batch = ImageBatch(tuple(map(str, range(32))), brightness.expand(32, 1, 10, 10) + 0.01 * torch.randn(32, 1, 10, 10))
    encoder = make_resnet()
    objective = Jigsaw((2, 2), n_orders=4, width=8, hidden=16).prepare(encoder)
    losses = train(objective, encoder, batch, 40, 1e-2)
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    assert losses[0] == pytest.approx(math.log(4), rel=0.5)


def test_orders_are_saved_and_the_same_in_every_run(make_resnet):
    first, second = (Jigsaw(n_orders=9).prepare(make_resnet()) for _ in range(2))
    assert torch.equal(first.state_dict()["orders"], second.orders)


def test_wrong_arguments_are_refused(make_resnet, make_encoder):
    with pytest.raises(ConfigError, match=r"a grid of two cells or more, found \[1, 1\]"):
        Jigsaw((1, 1))
    with pytest.raises(ConfigError, match="above 0, found"):
        Jigsaw(n_orders=0)
    with pytest.raises(ConfigError, match=r"a grid of 3 axes for ResNet, found \[2, 2\]"):
        Jigsaw((2, 2)).prepare(make_resnet(3))
    with pytest.raises(ConfigError, match="encoder of images of one rank"):
        Jigsaw().prepare(make_encoder())


def test_a_turn_head_alone_has_two_answers_a_patch(make_resnet, make_images):
    objective = Jigsaw(rotations=True).prepare(make_resnet())
    assert objective.turn_head.out_features == 18
    loss = objective(make_resnet(), make_images(3, 1, 12, 12), torch.Generator())
    assert loss.total.isfinite()
    assert "blank_accuracy" not in loss.parts
