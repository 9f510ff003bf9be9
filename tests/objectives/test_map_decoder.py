"""The decoder against its published shape, and against what it must be able to do."""

import pytest
import torch
from torch import nn

from graphssl.errors import ConfigError, DataError
from graphssl.objectives.map_decoder import MapDecoder, decoder_for, of_images


def test_widths_are_those_of_the_publication():
    """Tang et al.: five convolutions, 768 → 384 → 192 → 96 → 48 → 48, then one to the channels of the image."""
    decoder = MapDecoder((48, 96, 192, 384, 768), 1, rank=3)
    widths = [(step[0].in_channels, step[0].out_channels) for step in decoder.steps]
    assert widths == [(768, 384), (384, 192), (192, 96), (96, 48), (48, 48)]
    assert all(isinstance(step[1], nn.InstanceNorm3d) for step in decoder.steps)
    assert (decoder.leave.in_channels, decoder.leave.out_channels, decoder.leave.kernel_size) == (48, 1, (1, 1, 1))


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize(("rank", "size"), [(2, (12, 20)), (3, (8, 12, 10)), (2, (13, 9))])
def test_any_size_comes_back(skips, rank, size, make_resnet, make_images):
    encoder = make_resnet(rank, in_channels=2, blocks=(1, 1, 1))
    batch = make_images(3, 2, *size)
    assert decoder_for(encoder, skips)(encoder(batch).maps, size).shape == batch.images.shape


def test_skips_carry_what_the_coarsest_map_has_lost(make_resnet, make_images):
    encoder, batch = make_resnet(), make_images(2, 1, 16, 16)
    fine, coarse = encoder(batch).maps
    for skips in (False, True):
        found = decoder_for(encoder, skips)((fine.requires_grad_(), coarse.detach()), (16, 16))
        (gradient,) = torch.autograd.grad(found.sum(), fine, allow_unused=True)
        assert (gradient is not None) == skips


def test_one_place_cannot_be_normalised(make_resnet, make_images):
    encoder = make_resnet(blocks=(1, 1, 1))
    with pytest.raises(DataError, match=r"more than one place is left on the coarsest map, found size \[4, 4\]"):
        decoder_for(encoder)(encoder(make_images(2, 1, 4, 4)).maps, (4, 4))


def test_encoders_of_other_data_are_refused(make_encoder):
    with pytest.raises(ConfigError, match="Expected an encoder of images of one rank, such as ResNet, for a jigsaw; found GraphTransformer"):
        of_images(make_encoder(), "a jigsaw")
