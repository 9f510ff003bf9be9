"""The objective of segmentation: it learns, by all scales, with the encoder frozen or not."""

import pytest
import torch
from torch.testing import assert_close

from graphssl.data import ImageBatch
from graphssl.encoders import ResNet, VisionTransformer
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import Segmentation, SegmentationLoss
from graphssl.objectives.segmentation import overlap
from graphssl.views import ForegroundCrop


def discs(n=4, size=16):
    """Images of noise with a bright square, the masks of which are its places."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(n, size, size, dtype=torch.long)
    for row in range(n):
        a, b = torch.randint(0, size - 6, (2,), generator=generator).tolist()
        masks[row, a : a + 6, b : b + 6] = 1
    images = 0.3 * torch.randn(n, 1, size, size, generator=generator) + masks.unsqueeze(1)
    return ImageBatch(tuple(f"s{k}" for k in range(n)), images, masks)


def make(encoder=None, **changes):
    torch.manual_seed(0)
    encoder = encoder or ResNet(2, 1, 4, (1, 1), stem="small", norm="group")
    return encoder, Segmentation(**{"n_classes": 2, "width": 4, **changes}).prepare(encoder)


@pytest.mark.parametrize("encoder", [None, VisionTransformer(width=12, depth=2, heads=2, patch_size=4, n_maps=2)])
@pytest.mark.parametrize("frozen", [False, True])
def test_it_learns_where_the_squares_are(encoder, frozen):
    encoder, objective = make(encoder, frozen=frozen)
    batch, before = discs(), {name: weight.clone() for name, weight in encoder.state_dict().items()}
    trained = [*objective.parameters(), *([] if frozen else encoder.parameters())]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    found = []
    for _ in range(25):
        loss = objective(encoder, batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        found.append(loss.parts["overlap"].item())
    assert found[-1] > max(0.8, found[0])
    assert frozen == all(weight.equal(before[name]) for name, weight in encoder.state_dict().items())
    assert frozen == all(weight.grad is None for weight in encoder.parameters())
    encoder.zero_grad(set_to_none=True)


def test_the_loss_is_that_of_all_scales_coarser_ones_counting_half():
    encoder, objective = make(losses={"ce": 1.0})
    batch = discs()
    found = objective(encoder, batch, torch.Generator())
    logits = objective.decode(batch.images, encoder(batch).maps)
    one = SegmentationLoss({"ce": 1.0})
    assert [each.shape[2] for each in logits] == [16, 16]
    assert_close(found.total, (one(logits[0], batch.masks)[0] + 0.5 * one(logits[1], batch.masks)[0]) / 1.5)
    assert set(found.parts) == {"overlap"}
    assert set(make()[1](encoder, batch, torch.Generator()).parts) == {"dice", "ce", "overlap"}


def test_a_view_is_applied_to_images_and_masks():
    encoder, objective = make(view=ForegroundCrop((8, 8)))
    batch = discs()
    found = objective(encoder, batch, torch.Generator().manual_seed(3)).total
    windows = ForegroundCrop((8, 8))(batch, torch.Generator().manual_seed(3))
    plain = Segmentation(2, width=4).prepare(encoder)
    plain.decode.load_state_dict(objective.decode.state_dict())
    assert_close(found, plain(encoder, windows, torch.Generator()).total)


def test_overlap_against_loops():
    generator = torch.Generator().manual_seed(0)
    predicted, masks = (torch.randint(low, 3, (2, 4, 5), generator=generator) for low in (0, -1))
    values = []
    for k in (1, 2):
        hit = a = b = 0
        for p, t in zip(predicted.flatten().tolist(), masks.flatten().tolist(), strict=True):
            if t >= 0:
                hit, a, b = hit + (p == t == k), a + (p == k), b + (t == k)
        values.append(2 * hit / (a + b))
    assert overlap(predicted, masks, 3).item() == pytest.approx(sum(values) / 2)
    assert overlap(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.long), 3) == 0


def test_arguments_make_a_fresh_one():
    _, objective = make(losses={"focal": 2.0}, view=ForegroundCrop((8, 8)), deep_supervision=False)
    assert objective.fresh().arguments() == objective.arguments()
    assert "ForegroundCrop" in repr(objective)


def test_what_cannot_be_learned_is_refused():
    encoder, objective = make()
    batch = discs()
    with pytest.raises(DataError, match="Expected images with segmentation masks, found none"):
        objective(encoder, ImageBatch(batch.subject_ids, batch.images), torch.Generator())
    with pytest.raises(ConfigError, match="Call prepare"):
        Segmentation(2)(encoder, batch, torch.Generator())
    with pytest.raises(ConfigError, match="Expected the decoder 'unet' behind ResNet, found 'unetr'"):
        make(decoder="unetr")
