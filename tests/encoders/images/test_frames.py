"""Clips frame by frame against their frames one at a time."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.encoders import FrameEncoder, ResNet
from graphssl.errors import ConfigError

SMALL = {"width": 4, "blocks": (1, 1), "stem": "small"}


def test_a_clip_is_the_mean_of_its_frames(make_images, randomised):
    encoder, clips = randomised(FrameEncoder(2, **SMALL)), make_images(3, 2, 5, 8, 8)
    found = encoder(clips)
    frames = [encoder(ImageBatch(clips.subject_ids, clips.images[:, :, t])) for t in range(5)]
    torch.testing.assert_close(found.pooled, torch.stack([frame.pooled for frame in frames]).mean(dim=0))
    for scale in range(2):
        torch.testing.assert_close(found.maps[scale], torch.stack([frame.maps[scale] for frame in frames], dim=2))


def test_an_image_is_what_it_is_to_the_network(make_images, randomised):
    encoder, images = randomised(FrameEncoder(**SMALL)), make_images(3, 1, 8, 8)
    network = ResNet(**SMALL).eval()
    network.load_state_dict(encoder.network.state_dict())
    torch.testing.assert_close(encoder(images).pooled, network(images).pooled)


def test_it_is_made_anew_from_its_arguments():
    encoder = FrameEncoder(1, **SMALL)
    assert FrameEncoder(**encoder.arguments()).state_dict().keys() == encoder.state_dict().keys()


def test_other_channels_are_refused(make_images):
    with pytest.raises(ConfigError, match=r"Expected images \[B, 3, H, W\], or frames .* found \[2, 1, 4, 8, 8\]"):
        FrameEncoder(3, **SMALL)(make_images(2, 1, 4, 8, 8))
