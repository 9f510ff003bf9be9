"""The slice transformer: slices alone, deformable attention against loops, and slices that are hidden."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.encoders import ResNet, SliceTransformer
from graphssl.encoders.images.slices import DeformableAttention, interpolated
from graphssl.errors import ConfigError

SMALL = {"width": 12, "depth": 2, "heads": 2, "slice_width": 4, "blocks": (1, 1)}


def make(**changes):
    torch.manual_seed(0)
    return SliceTransformer(**{**SMALL, **changes}).eval()


def test_slices_are_embedded_alone_so_their_order_moves_with_them(make_images, randomised):
    encoder, volumes = randomised(make()), make_images(2, 1, 6, 16, 16).images
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(encoder.slice_tokens(volumes[:, :, order]), encoder.slice_tokens(volumes)[:, order], rtol=1e-4, atol=1e-5)
    moved = encoder.scales(volumes[:, :, order])[-1]
    assert_close(moved, encoder.scales(volumes)[-1][:, :, order], rtol=1e-4, atol=1e-5)


def test_slice_tokens_against_loops(make_images, randomised):
    encoder, volumes = randomised(make()), make_images(2, 1, 3, 16, 16).images
    found = encoder.slice_tokens(volumes)
    for row in range(2):
        for k in range(3):
            maps = encoder.network.scales(volumes[row : row + 1, :, k])[1:]  # without the stem
            means = [each[0].mean(dim=(1, 2)) for each in maps]
            together = torch.cat([*(mean / mean.norm() for mean in means), means[-1]])
            assert_close(found[row, k], encoder.gather(together), rtol=1e-4, atol=1e-5)


def test_a_network_of_images_is_its_network_of_slices():
    network = ResNet(2, 1, 4, blocks=(1, 1))
    missing, strange = make().network.load_state_dict(network.state_dict())
    assert missing == strange == []


def test_hidden_slices_are_all_one_vector(make_images):
    encoder, batch = make(), make_images(2, 1, 6, 16, 16)
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, 2] = hidden[1, 4] = hidden[1, 0] = True
    found = encoder(batch.hide(hidden[:, :, None, None].expand(-1, -1, 16, 16)))
    tokens = torch.where(hidden.unsqueeze(2), encoder.hidden, encoder.slice_tokens(batch.images))
    assert_close(found.tokens, encoder.mix(tokens))
    assert_close(encoder.mix(encoder.slice_tokens(batch.images), hidden), encoder.mix(tokens))


@pytest.mark.parametrize(("n", "stride"), [(12, 4), (9, 3), (5, 1), (7, 4), (2, 4), (1, 4)])
def test_keys_that_do_not_move_are_those_of_every_so_many_places(n, stride):
    torch.manual_seed(0)
    attention = DeformableAttention(6, 2, stride)
    torch.nn.init.zeros_(attention.offset.weight)
    sequence = torch.randn(2, n, 6)
    rows = list(range(min(stride // 2, n - 1), n, stride))
    found = attention(sequence)
    for k in range(2):
        query, kept = attention.query(sequence[k]), sequence[k, rows]
        key, value = attention.key(kept), attention.value(kept)
        mixed = torch.zeros(n, 6)
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            for i in range(n):
                logits = []
                for j, place in enumerate(rows):
                    apart = math.copysign(math.log1p(abs(i - place)), i - place)
                    logits.append(query[i, part] @ key[j, part] / 3**0.5 + attention.distance(torch.tensor([apart]))[head])
                mixed[i, part] = F.softmax(torch.stack(logits), dim=0) @ value[:, part]
        assert_close(found[k], attention.out(mixed), rtol=1e-4, atol=1e-5)


def test_keys_move_at_most_their_reach_and_stay_in_the_sequence():
    torch.manual_seed(0)
    attention = DeformableAttention(6, 2, 4, reach=2.0)
    with torch.no_grad():
        attention.offset.weight.mul_(1000)
    places = attention.places(torch.randn(3, 2, 16, 3))
    start = torch.tensor([2.0, 6.0, 10.0, 14.0])
    assert ((places - start).abs() <= 2).all()
    assert (places - start).abs().max() > 1.5
    assert places.min() >= 0
    assert places.max() <= 15
    attention(torch.randn(1, 16, 6)).sum().backward()
    assert attention.offset.weight.grad.abs().max() > 0


def test_interpolation_against_loops():
    sequence, places = torch.randn(2, 1, 5, 3), torch.tensor([[[0.0, 1.25, 4.0]], [[3.5, 2.0, 3.999]]])
    found = interpolated(sequence, places)
    for row in range(2):
        for k, place in enumerate(places[row, 0].tolist()):
            below, share = int(place), place - int(place)
            expected = (1 - share) * sequence[row, 0, below] + share * sequence[row, 0, min(below + 1, 4)]
            assert_close(found[row, 0, k], expected)


def test_along_the_feature_slices_are_channels(make_images):
    encoder = make(axis="feature", n_slices=6)
    assert encoder.layers[0].attention.query.in_features == 6
    assert encoder(make_images(2, 1, 6, 16, 16)).tokens.shape == (2, 6, 12)
    with pytest.raises(ConfigError, match="Expected 6 slices, found 5. Crop the volumes, or take the axis 'slice'"):
        encoder(make_images(2, 1, 5, 16, 16))


@pytest.mark.parametrize("changes", [{"axis": "feature"}, {"n_slices": 6}, {"axis": "row"}])
def test_axis_and_number_of_slices_go_together(changes):
    with pytest.raises(ConfigError, match="Expected the axis 'slice', or 'feature' with n_slices; found"):
        make(**changes)


def test_heads_share_the_width_or_the_slices():
    with pytest.raises(ConfigError, match="multiple of the 5 heads, found 12"):
        make(heads=5)
    with pytest.raises(ConfigError, match="multiple of the 4 heads, found 6"):
        make(heads=4, axis="feature", n_slices=6)
