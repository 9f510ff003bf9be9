"""Relative position: which neighbour is which, and that it can be learned where places differ."""

import math

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.objectives import RelativePosition


@pytest.mark.parametrize("rank", [2, 3])
def test_the_second_patch_lies_where_the_label_says(rank, make_images):
    batch = make_images(600, 1, *[12] * rank)
    drawn = RelativePosition(jitter=1).draw(batch, torch.Generator().manual_seed(0))
    cells = torch.div(drawn.starts, 4, rounding_mode="floor")
    assert (cells[:, 0] == 1).all(), "the first patch is the middle one"
    flat = (cells[:, 1] * torch.tensor([3**k for k in reversed(range(rank))])).sum(dim=1)
    middle = 3**rank // 2
    assert torch.equal(flat, drawn.neighbour + (drawn.neighbour >= middle))
    assert sorted(set(drawn.neighbour.tolist())) == list(range(3**rank - 1))


def test_the_loss_is_that_of_its_parts(make_resnet, make_images):
    encoder, batch = make_resnet().eval().requires_grad_(False), make_images(4, 1, 15, 15)
    objective = RelativePosition(jitter=2, width=6).prepare(encoder).eval()
    loss = objective(encoder, batch, torch.Generator().manual_seed(3))
    drawn = objective.draw(batch, torch.Generator().manual_seed(3))
    total = 0.0
    for row in range(4):
        vectors = []
        for k in range(2):
            top, left = drawn.starts[row, k].tolist()
            patch = batch.images[row : row + 1, :, top : top + 3, left : left + 3]
            vectors.append(objective.projector(encoder.scales(patch)[-1].mean(dim=(2, 3))))
        scores = objective.head(torch.cat(vectors, dim=1))[0].tolist()
        total += math.log(sum(map(math.exp, scores))) - scores[int(drawn.neighbour[row])]
    assert loss.total.item() == pytest.approx(total / 4, rel=1e-4)


def test_places_of_a_gradient_are_learned(make_resnet, train):
    """Every image grows brighter to the right and downwards, so a patch tells its place."""
    from graphssl.data import ImageBatch

    ramp = torch.linspace(0, 2, 18)
    images = (ramp[:, None] + 3 * ramp[None, :]).expand(64, 1, 18, 18) + 0.01 * torch.randn(64, 1, 18, 18, generator=torch.Generator().manual_seed(0))
    batch = ImageBatch(tuple(map(str, range(64))), images)
    encoder = make_resnet()
    objective = RelativePosition(jitter=1, width=16).prepare(encoder)
    losses = train(objective, encoder, batch, 60, 1e-2)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])


def test_wrong_arguments_are_refused(make_encoder, make_resnet, make_images):
    with pytest.raises(ConfigError, match="above 0, found"):
        RelativePosition(jitter=-1)
    with pytest.raises(ConfigError, match="encoder of images of one rank"):
        RelativePosition().prepare(make_encoder())
    with pytest.raises(ConfigError, match="Call prepare"):
        RelativePosition()(make_resnet(), make_images(2, 1, 18, 18), torch.Generator())
