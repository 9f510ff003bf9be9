"""Restoration against its definition, and that it restores."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError
from graphssl.objectives import Restoration
from graphssl.views import Flip


def test_the_loss_is_the_error_of_the_image_before_it_was_corrupted(make_resnet, make_images):
    encoder, batch = make_resnet().eval(), make_images(3, 1, 8, 8)
    objective = Restoration(view=Flip((-1,)), skips=True).prepare(encoder)
    loss = objective(encoder, batch, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(0)
    target = objective.view(batch, source)
    seen = objective.corruption(target, source)
    restored = objective.decoder(encoder(seen).maps, (8, 8))
    assert loss.total.item() == pytest.approx(((restored - target.images) ** 2).mean().item(), rel=1e-5)
    assert float(loss.parts["corrupted_error"]) == pytest.approx(((seen.images - target.images) ** 2).mean().item(), rel=1e-5)


def test_most_images_are_corrupted_and_some_are_not(make_images):
    batch = make_images(400, 1, 12, 12)
    seen = Restoration().corruption(batch, torch.Generator().manual_seed(0))
    changed = (seen.images != batch.images).flatten(start_dim=1).any(dim=1).float().mean()
    assert 1 - 0.5 * 0.1 * 0.28 * 0.82 - 0.03 < float(changed) < 1  # shuffled, bent, painted outside or inside: at least one of them


@pytest.mark.parametrize("skips", [False, True])
def test_it_restores_what_it_has_seen_often(skips, make_resnet, train):
    waves = torch.linspace(0, 6.28, 12)
    images = torch.stack([torch.sin((k + 1) * waves)[:, None] * torch.cos(waves)[None] for k in range(4)]).unsqueeze(1)
    batch, encoder = ImageBatch(tuple("abcd"), images), make_resnet()
    objective = Restoration(skips=skips).prepare(encoder)
    train(objective, encoder, batch, 60, 1e-2)
    with torch.no_grad():
        found = [objective(encoder, batch, torch.Generator().manual_seed(1000 + k)) for k in range(20)]
    restored, corrupted = (sum(map(float, errors)) for errors in ([loss.total for loss in found], [loss.parts["corrupted_error"] for loss in found]))
    assert restored < 0.5 * corrupted


def test_encoders_of_other_data_are_refused(make_encoder, make_resnet, make_images):
    with pytest.raises(ConfigError, match="encoder of images of one rank"):
        Restoration().prepare(make_encoder())
    with pytest.raises(ConfigError, match="Call prepare"):
        Restoration()(make_resnet(), make_images(2, 1, 8, 8), torch.Generator())
