"""MONAI's Swin transformer: its weights go to Swin UNETR and come from there, and give the same maps."""

import pytest
from torch.testing import assert_close

from graphssl.encoders import SwinTransformer
from graphssl.errors import ConfigError

SMALL = {"width": 12, "depths": (1, 1, 1, 1), "heads": (1, 2, 3, 4), "window_size": 4}


def test_weights_go_to_swin_unetr_and_give_the_same_maps(make_images):
    from monai.networks.nets import SwinUNETR

    encoder, batch = SwinTransformer(3, **SMALL).eval(), make_images(1, 1, 32, 32, 32)
    network = SwinUNETR(1, 3, depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), window_size=4, feature_size=12).eval()
    missing, strange = network.swinViT.load_state_dict(encoder.swin.state_dict())
    assert missing == strange == []
    for ours, theirs in zip(encoder(batch).maps, network.swinViT(batch.images), strict=True):
        assert_close(ours, theirs)


def test_tokens_are_the_places_of_the_last_map(make_images):
    encoder = SwinTransformer(2, **SMALL).eval()
    found = encoder(make_images(2, 1, 64, 64))
    assert [tuple(each.shape[1:]) for each in found.maps] == [(12, 32, 32), (24, 16, 16), (48, 8, 8), (96, 4, 4), (192, 2, 2)]
    assert found.tokens[:, 1].equal(found.maps[-1][:, :, 0, 1])


def test_strange_arguments_are_refused():
    with pytest.raises(ConfigError, match=r"Expected depths and heads of four stages, found \[1, 1\] and \[1, 2, 3, 4\]"):
        SwinTransformer(**{**SMALL, "depths": (1, 1)})
    with pytest.raises(ConfigError, match="multiple of the 5 heads, found 48"):
        SwinTransformer(**{**SMALL, "heads": (1, 2, 5, 4)})
    with pytest.raises(ConfigError, match="one for each of 3 axes"):
        SwinTransformer(3, **{**SMALL, "window_size": (4, 4)})
