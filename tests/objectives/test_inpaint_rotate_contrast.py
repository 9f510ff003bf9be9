"""The three tasks of Swin UNETR's pre-training against their parts, one look at a time."""

import pytest
import torch
from torch.nn import functional as F

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import InpaintRotateContrast
from graphssl.objectives.contrastive import nt_xent


@pytest.mark.parametrize("read", ["tokens", "pooled"])
@pytest.mark.parametrize("rank", [2, 3])
def test_the_loss_is_the_sum_of_its_parts(read, rank, make_resnet, make_images):
    encoder, batch = make_resnet(rank).eval(), make_images(4, 1, *[8] * rank)
    weights = {"restoration_weight": 2.0, "rotation_weight": 3.0, "contrast_weight": 5.0}
    objective = InpaintRotateContrast(read=read, width=6, temperature=0.5, **weights).prepare(encoder).eval()
    found = objective(encoder, batch, torch.Generator().manual_seed(1))
    source, looks = torch.Generator().manual_seed(1), []
    for _ in range(2):
        drawn = objective.turn.draw(batch, source)
        turned = torch.stack([torch.rot90(image, int(n), (-2, -1)) for image, n in zip(batch.images, drawn.what[0], strict=True)])
        target = ImageBatch(batch.subject_ids, turned)
        seen = objective.corruption(target, source)
        assert not torch.equal(seen.images, turned)
        embedding = encoder(seen)
        heads = (embedding.tokens[:, 0], embedding.tokens[:, 1]) if read == "tokens" else (embedding.pooled, embedding.pooled)
        turn = F.cross_entropy(objective.rotation(heads[0]), drawn.what[0])
        error = (objective.decoder(embedding.maps, target.shape[2:]) - turned).abs().mean()
        looks.append((turn, error, objective.projector(heads[1])))
    contrast = nt_xent(looks[0][2], looks[1][2], torch.arange(4), 0.5)
    expected = 2 * (looks[0][1] + looks[1][1]) / 2 + 3 * (looks[0][0] + looks[1][0]) / 2 + 5 * contrast
    torch.testing.assert_close(found.total, expected)
    assert set(found.parts) == {"restoration_error", "rotation_loss", "contrast_loss", "rotation_accuracy", "accuracy"}


def test_restoration_falls_on_a_few_fixed_images(make_resnet, train):
    waves = torch.linspace(0, 6.28, 16)
    images = torch.stack([torch.sin((k + 1) * waves)[:, None] + torch.cos(waves)[None] for k in range(4)]).unsqueeze(1)
    batch, encoder = ImageBatch(tuple("abcd"), images), make_resnet()
    objective = InpaintRotateContrast(width=8).prepare(encoder)
    before = objective(encoder, batch, torch.Generator().manual_seed(99)).parts["restoration_error"]
    train(objective, encoder, batch, 40, 1e-2)
    assert objective(encoder, batch, torch.Generator().manual_seed(99)).parts["restoration_error"] < 0.7 * before


def test_every_part_of_encoder_and_heads_learns(make_resnet, make_images):
    encoder = make_resnet()
    objective = InpaintRotateContrast(width=4).prepare(encoder)
    objective(encoder, make_images(3, 1, 8, 8), torch.Generator()).total.backward()
    lacking = [name for part in (encoder, objective) for name, weight in part.named_parameters() if weight.grad is None]
    assert lacking == []


def test_clips_are_turned_in_space(make_resnet, make_images):
    encoder = make_resnet(3)
    objective = InpaintRotateContrast(width=4).prepare(encoder)
    assert objective(encoder, make_images(3, 1, 5, 8, 8, clip=True), torch.Generator()).total.isfinite()


def test_wrong_arguments_and_data_are_refused(make_resnet, make_images, make_encoder):
    with pytest.raises(ConfigError, match="heads to read 'tokens' or 'pooled', found 'mean'"):
        InpaintRotateContrast(read="mean")
    with pytest.raises(ConfigError, match="above 0, found"):
        InpaintRotateContrast(rotation_weight=0.0)
    with pytest.raises(ConfigError, match="encoder of images of one rank"):
        InpaintRotateContrast().prepare(make_encoder())
    encoder = make_resnet()
    objective = InpaintRotateContrast(width=4).prepare(encoder)
    with pytest.raises(DataError, match="at least two subjects"):
        objective(encoder, make_images(1, 1, 8, 8), torch.Generator())
    with pytest.raises(DataError, match="square plane"):
        objective(encoder, make_images(2, 1, 8, 12), torch.Generator())
    with pytest.raises(DataError, match="two tokens or more, found one"):
        objective(encoder, make_images(2, 1, 2, 2), torch.Generator())
