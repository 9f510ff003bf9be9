"""Decoders on the maps of any encoder, and windows that slide."""

import json

import pytest
import torch
from torch.testing import assert_close

from graphssl.encoders import (
    MLP,
    PyramidTransformer,
    ResNet,
    SegmentationAdapter,
    SegmentationDecoder,
    SliceTransformer,
    SwinTransformer,
    TextureEncoder,
    VisionTransformer,
)
from graphssl.encoders.images.segmentation import halvings
from graphssl.errors import ConfigError, DataError

PYRAMID = {"widths": (8, 12), "depths": (1, 1), "decoder_depths": (1,), "heads": (1, 2), "reductions": (2, 1), "stem_width": 4}
CASES = {
    "resnet": (ResNet, {"width": 4, "blocks": (1, 1)}, (2, 1, 20, 17)),
    "resnet 3D": (ResNet, {"rank": 3, "width": 4, "blocks": (1, 1), "stem": "small"}, (1, 1, 5, 8, 8)),
    "vit": (VisionTransformer, {"width": 12, "depth": 3, "heads": 2, "n_maps": 3, "patch_size": 8}, (2, 1, 16, 24)),
    "vit 3D": (VisionTransformer, {"rank": 3, "width": 12, "depth": 2, "heads": 2, "n_maps": 2, "patch_size": (2, 4, 6)}, (1, 1, 4, 8, 12)),
    "swin": (SwinTransformer, {"rank": 2, "width": 12, "depths": (1,) * 4, "heads": (1, 2, 3, 4), "window_size": 4}, (1, 1, 64, 64)),
    "pyramid": (PyramidTransformer, {**PYRAMID, "image_size": (32, 32), "volume_size": (8, 24, 24)}, (2, 1, 32, 32)),
    "pyramid 3D": (PyramidTransformer, {**PYRAMID, "image_size": (32, 32), "volume_size": (8, 24, 24)}, (1, 1, 8, 24, 24)),
    "slices": (SliceTransformer, {"width": 12, "depth": 1, "heads": 2, "slice_width": 4, "blocks": (1, 1)}, (1, 1, 5, 16, 16)),
    "texture": (TextureEncoder, {"width": 4, "blocks": (1,), "in_channels": 3}, (2, 3, 9, 9)),
}


@pytest.fixture(params=CASES)
def case(request, make_images):
    kind, arguments, shape = CASES[request.param]
    torch.manual_seed(0)
    encoder, images = kind(**arguments).eval(), make_images(*shape).images
    return encoder, SegmentationDecoder.for_encoder(encoder, 3, rank=len(shape) - 2, width=4), images


def test_every_voxel_gets_logits_of_every_class_and_coarser_scales_too(case):
    encoder, decoder, images = case
    logits = SegmentationAdapter(encoder, decoder)(images)
    assert logits[0].shape == (len(images), 3, *images.shape[2:])
    sizes = [each[0, 0].numel() for each in logits]
    assert sizes == sorted(sizes, reverse=True)
    assert len(logits) == decoder.n_scales
    sum(each.square().sum() for each in logits).backward()
    assert [name for name, weight in decoder.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_arguments_make_the_same_decoder_again(case):
    encoder, decoder, images = case
    again = SegmentationDecoder(**json.loads(json.dumps(decoder.arguments())))
    assert again.arguments() == decoder.arguments()
    again.load_state_dict(decoder.state_dict())
    ours, theirs = (SegmentationAdapter(encoder, each.eval())(images)[0] for each in (decoder, again))
    assert ours.equal(theirs)


def test_without_deep_supervision_there_is_one_scale(make_images):
    encoder = ResNet(2, 1, 4, (1, 1))
    decoder = SegmentationDecoder.for_encoder(encoder, 2, width=4, deep_supervision=False)
    assert len(SegmentationAdapter(encoder, decoder)(make_images(2, 1, 16, 16).images)) == 1


def test_one_window_that_covers_the_image_gives_what_the_image_gives(make_images, randomised):
    adapter = randomised(SegmentationAdapter(ResNet(2, 1, 4, (1, 1)), 3))
    images = make_images(2, 1, 16, 16).images
    whole = adapter.train().predict(images)
    assert adapter.training
    assert_close(whole.sum(dim=1), torch.ones(2, 16, 16))
    assert_close(adapter.predict(images, window=(16, 16)), whole, rtol=1e-4, atol=1e-5)


def test_windows_that_slide_are_weighted_by_how_near_their_middle_is(make_images):
    """A network that gives each voxel its own value: whatever the weights, their mean is that value."""

    class Copy(ResNet):
        def scales(self, images):
            return (images,)

    adapter = SegmentationAdapter(Copy(2, 1, 1, (1,)), SegmentationDecoder(2, 2, 1, (1,), width=4))
    adapter.decoder.forward = lambda images, maps: (torch.cat([images, -images], dim=1),)
    images = make_images(2, 1, 21, 19).images
    found = adapter.predict(images, window=(8, 8), overlap=0.5)
    assert_close(found, torch.cat([images, -images], dim=1).softmax(dim=1), rtol=1e-4, atol=1e-5)


def test_window_and_overlap_are_checked(make_images):
    adapter, images = SegmentationAdapter(ResNet(2, 1, 4, (1,)), 2), make_images(1, 1, 16, 16).images
    with pytest.raises(ConfigError, match=r"Expected a window of 2 sides and an overlap in \[0, 1\), found \[8\] and 0.5"):
        adapter.predict(images, window=(8,))
    with pytest.raises(ConfigError, match=r"found \[8, 8\] and 1"):
        adapter.predict(images, window=(8, 8), overlap=1)
    with pytest.raises(ConfigError, match=r"before ResNet, found \[1, 1, 1, 16, 16\]"):
        adapter(images.unsqueeze(0))


def test_shallow_maps_of_one_scale_become_finer(make_images):
    encoder = VisionTransformer(width=12, depth=3, heads=2, n_maps=3, patch_size=8)
    decoder = SegmentationDecoder.for_encoder(encoder, 2, width=4)
    logits = SegmentationAdapter(encoder, decoder)(make_images(1, 1, 16, 16).images)
    assert [tuple(each.shape[2:]) for each in logits] == [(16, 16), (8, 8), (4, 4)]
    assert [halvings(patch) for patch in ((1, 1), (2, 4), (8, 8), (6, 6), (16, 4))] == [0, 2, 3, 2, 4]


def test_what_does_not_fit_is_refused(make_images):
    with pytest.raises(ConfigError, match="Expected an encoder of images with maps, found MLP"):
        SegmentationDecoder.for_encoder(MLP(), 2)
    with pytest.raises(ConfigError, match="Expected the decoder 'unetr' behind VisionTransformer, found 'unet'"):
        SegmentationDecoder.for_encoder(VisionTransformer(), 2, kind="unet")
    with pytest.raises(ConfigError, match="Expected rank 2 or 3 of the images that PyramidTransformer reads, found None"):
        SegmentationDecoder.for_encoder(PyramidTransformer(**PYRAMID), 2)
    with pytest.raises(ConfigError, match="Expected rank 2 of the images that ResNet reads, found 3"):
        SegmentationDecoder.for_encoder(ResNet(), 2, rank=3)
    encoder, batch = VisionTransformer(width=12, depth=2, heads=2, n_maps=2, patch_size=4), make_images(1, 1, 8, 8)
    hidden = torch.zeros(1, 8, 8, dtype=torch.bool)
    hidden[0, 0, 0] = True
    with pytest.raises(DataError, match="Expected 2 maps of the encoder, found 0. Give it images with nothing hidden"):
        SegmentationDecoder.for_encoder(encoder, 2)(batch.images, encoder(batch.hide(hidden)).maps)
