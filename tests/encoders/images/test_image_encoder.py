"""What every encoder of images keeps: shapes, arguments, its weights all in use, rows alone, and what is hidden is not read."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from graphssl.data import ImageBuilder
from graphssl.encoders import Embedding, PyramidTransformer, ResNet, SliceTransformer, SwinTransformer, TextureEncoder, VisionTransformer
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder

SMALL = {"widths": (8, 12, 16), "depths": (1, 1, 1), "decoder_depths": (1, 1), "heads": (1, 2, 2), "reductions": (2, 2, 1), "stem_width": 4}
PYRAMID = {**SMALL, "image_size": (32, 32), "volume_size": (8, 24, 24)}
SLICES = {"width": 12, "depth": 1, "heads": 2, "slice_width": 4, "blocks": (1, 1)}
CASES = {
    "resnet": (ResNet, {"width": 4, "blocks": (1, 1, 1)}, (3, 1, 32, 32)),
    "bottleneck": (ResNet, {"in_channels": 3, "width": 4, "blocks": (1, 1), "bottleneck": True, "norm": "group"}, (3, 3, 24, 16)),
    "resnet 3D": (ResNet, {"rank": 3, "width": 4, "blocks": (1, 1), "stem": "small"}, (3, 1, 6, 8, 8)),
    "vit": (VisionTransformer, {"width": 12, "depth": 2, "heads": 2, "n_maps": 2, "patch_size": 4}, (3, 1, 8, 12)),
    "vit 3D": (
        VisionTransformer,
        {"rank": 3, "width": 12, "depth": 2, "heads": 2, "n_maps": 1, "patch_size": (2, 4, 4), "readout": "class"},
        (3, 1, 4, 8, 8),
    ),
    "swin": (SwinTransformer, {"rank": 2, "width": 12, "depths": (1,) * 4, "heads": (1, 2, 3, 4), "window_size": 4}, (3, 1, 64, 64)),
    "pyramid": (PyramidTransformer, PYRAMID, (3, 1, 32, 32)),
    "pyramid 3D": (PyramidTransformer, PYRAMID, (3, 1, 8, 24, 24)),
    "slices": (SliceTransformer, SLICES, (3, 1, 7, 16, 16)),
    "slices along the feature": (SliceTransformer, {**SLICES, "axis": "feature", "n_slices": 6}, (3, 1, 6, 16, 16)),
    "gram": (TextureEncoder, {"width": 4, "blocks": (1, 1), "n_channels": 6}, (3, 1, 16, 16)),
    "residual": (TextureEncoder, {"width": 4, "blocks": (1,), "n_channels": 6, "descriptor": "residual", "n_words": 3}, (3, 1, 16, 16)),
    "statistics 3D": (TextureEncoder, {"rank": 3, "width": 4, "blocks": (1, 1), "n_channels": 6, "descriptor": "statistics"}, (3, 1, 6, 8, 8)),
}


@pytest.fixture(params=CASES)
def case(request, make_images):
    kind, arguments, shape = CASES[request.param]
    torch.manual_seed(0)
    return kind(**arguments).eval(), make_images(*shape)


def test_widths_are_those_of_the_embedding(case):
    encoder, batch = case
    found = encoder(batch)
    assert isinstance(found, Embedding)
    assert found.tokens.shape == (*found.mask.shape, encoder.token_width)
    assert found.pooled.shape == (3, encoder.pooled_width)
    assert found.mask.all()
    assert tuple(each.shape[1] for each in found.maps) == encoder.map_widths
    assert all(each.ndim == batch.images.ndim for each in found.maps)
    sizes = [each[0, 0].numel() for each in found.maps]
    assert sizes == sorted(sizes, reverse=True)
    for ours, again in zip(found.maps, encoder.scales(batch.images), strict=True):
        assert_close(ours, again)


def test_the_arguments_make_the_same_encoder_again(case):
    encoder, batch = case
    again = type(encoder)(**json.loads(json.dumps(encoder.arguments()))).eval()
    assert again.arguments() == encoder.arguments()
    again.load_state_dict(encoder.state_dict())
    assert again(batch).pooled.equal(encoder(batch).pooled)


def test_rows_do_not_see_each_other(case):
    encoder, batch = case
    together = encoder(batch)
    for row in range(3):
        alone = encoder(batch[[row]])
        assert_close(alone.pooled, together.pooled[[row]], rtol=1e-4, atol=1e-5)
        assert_close(alone.tokens, together.tokens[[row]], rtol=1e-4, atol=1e-5)


def test_what_is_hidden_is_not_read(case):
    encoder, batch = case
    hidden = torch.zeros_like(batch.images[:, 0], dtype=torch.bool)
    hidden[..., :4] = True
    other = replace(batch, images=torch.where(hidden.unsqueeze(1), 7.0, batch.images), visible=~hidden)
    found, again = encoder(batch.hide(hidden)), encoder(other)
    assert found.pooled.equal(again.pooled)
    assert found.tokens.equal(again.tokens)
    assert not torch.allclose(found.pooled, encoder(batch).pooled)


def test_gradients_reach_every_weight(case, randomised):
    encoder, batch = case
    if isinstance(encoder, SliceTransformer):
        batch = batch.hide(torch.arange(batch.shape[2])[:, None, None].expand(batch.images[:, 0].shape) == 2)
    found = randomised(encoder)(batch)
    sum(part.square().sum() for part in (found.tokens, found.pooled, *found.maps)).backward()
    unreached = {name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()}
    if isinstance(encoder, PyramidTransformer):
        other = "3D" if batch.images.ndim == 4 else "2D"
        unreached = {name for name in unreached if other not in name.split(".")}
    assert unreached == set()


def test_images_of_another_rank_or_with_other_channels_are_refused(case):
    encoder, batch = case
    for images in (batch.images.repeat(1, 2, *(1,) * (batch.images.ndim - 2)), batch.images[0]):
        with pytest.raises(ConfigError, match=rf"before {type(encoder).__name__}, found \[.*Give it"):
            encoder.check_images(images)


def test_it_takes_images_alone(case):
    encoder, _ = case
    assert isinstance(encoder.default_builder(), ImageBuilder)
    assert encoder.for_builder(encoder.default_builder()) is encoder
    with pytest.raises(ConfigError, match=f"Expected ImageBuilder before {type(encoder).__name__}, found ConnectomeBuilder. Give builder"):
        encoder.for_builder(ConnectomeBuilder())


def test_rank_is_two_or_three():
    with pytest.raises(ConfigError, match="Expected rank 2 for images or 3 for volumes and clips, found 4"):
        ResNet(rank=4)
