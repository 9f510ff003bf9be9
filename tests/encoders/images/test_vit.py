"""The vision transformer: patches against loops, hidden patches as good as absent, and the decoder of a masked autoencoder."""

import math

import pytest
import torch
from torch.testing import assert_close

from graphssl.encoders import PatchDecoder, VisionTransformer
from graphssl.encoders.images.vit import first_places, images_of, patches_of, sides, sines_of_places
from graphssl.errors import ConfigError, DataError

SMALL = {"width": 12, "depth": 3, "heads": 2, "patch_size": 4, "n_maps": 3}


def make(**changes):
    torch.manual_seed(0)
    return VisionTransformer(**{**SMALL, **changes}).eval()


def test_patches_against_loops():
    images = torch.randn(2, 3, 4, 6)
    found = patches_of(images, (2, 3))
    k = 0
    for row in range(2):
        for column in range(2):
            patch = images[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            assert found[:, k].equal(patch.permute(0, 2, 3, 1).flatten(start_dim=1))
            k += 1
    assert k == found.shape[1]
    assert images_of(found, (2, 3), (2, 2)).equal(images)


def test_patches_of_volumes_come_back():
    volumes = torch.randn(2, 2, 4, 6, 8)
    assert images_of(patches_of(volumes, (2, 3, 4)), (2, 3, 4), (2, 2, 2)).equal(volumes)


@pytest.mark.parametrize("readout", ["mean", "class"])
def test_hidden_patches_are_as_good_as_absent(make_images, readout):
    encoder, batch = make(readout=readout), make_images(3, 1, 12, 8)
    shown = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    hidden = ~shown.unflatten(1, (3, 2)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    found = encoder(batch.hide(hidden))
    assert found.mask.equal(shown)
    assert found.maps == ()
    assert not found.tokens[~shown].any()
    embedded = encoder.embed(batch.images).flatten(start_dim=2).transpose(1, 2) + sines_of_places((3, 2), 12)
    for row in range(3):  # one image at a time, with nothing but its visible patches
        tokens = embedded[row, shown[row]].unsqueeze(0)
        n = len(tokens[0])
        if readout == "class":
            tokens = torch.cat([encoder.token.expand(1, 1, -1), tokens], dim=1)
        for block in encoder.blocks:
            tokens = block(tokens, torch.ones(1, 1, 1, tokens.shape[1], dtype=torch.bool))
        tokens = encoder.norm(tokens)[0]
        assert_close(found.tokens[row, shown[row]], tokens[-n:], rtol=1e-4, atol=1e-5)
        assert_close(found.pooled[row], tokens[0] if readout == "class" else tokens.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_a_patch_with_one_hidden_voxel_is_hidden(make_images):
    encoder, batch = make(), make_images(1, 1, 8, 8)
    hidden = torch.zeros(1, 8, 8, dtype=torch.bool)
    hidden[0, 5, 1] = True
    assert encoder(batch.hide(hidden)).mask.tolist() == [[True, True, False, True]]


def test_visible_places_come_first_and_in_order():
    shown = torch.tensor([[False, True, False, True], [True, True, False, True]])
    places, present = first_places(shown)
    assert places[0, :2].tolist() == [1, 3]
    assert places[1].tolist() == [0, 1, 3]
    assert present.tolist() == [[True, True, False], [True, True, True]]


def test_maps_are_states_of_blocks_evenly_spaced(make_images):
    batch = make_images(2, 1, 8, 8)
    every, some = make(n_maps=3)(batch).maps, make(n_maps=2)(batch).maps
    assert [each.equal(every[k]) for each, k in zip(some, (1, 2), strict=True)] == [True, True]
    assert every[-1].flatten(start_dim=2).transpose(1, 2).equal(make()(batch).tokens)


def test_places_against_loops():
    found = sines_of_places((2, 3), 9)
    for row in range(2):
        for column in range(3):
            expected = []
            for place in (row, column):
                angles = [place * 10000 ** (-k / 2) for k in range(2)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert_close(found[3 * row + column], torch.tensor([*expected, 0.0]))


def test_any_size_that_patches_divide_is_read(make_images):
    encoder = make()
    assert encoder(make_images(1, 1, 4, 16)).tokens.shape == (1, 4, 12)
    with pytest.raises(DataError, match=r"size that patches of \[4, 4\] voxels divide, found \[6, 8\]. Crop, pad"):
        encoder(make_images(1, 1, 6, 8))
    with pytest.raises(DataError, match=r"found \[2, 8\]"):
        encoder(make_images(1, 1, 2, 8))


def test_an_image_without_a_visible_patch_is_refused(make_images):
    batch = make_images(2, 1, 8, 8)
    hidden = torch.zeros(2, 8, 8, dtype=torch.bool)
    hidden[1] = True
    with pytest.raises(DataError, match="Expected a visible patch in every image"):
        make()(batch.hide(hidden))


def test_the_decoder_reads_visible_tokens_only_and_knows_places():
    torch.manual_seed(0)
    decoder = PatchDecoder(6, 5, width=12, depth=1, heads=2)
    tokens, mask = torch.randn(2, 4, 6), torch.tensor([[True, False, True, True]] * 2)
    found = decoder(tokens, mask, (2, 2))
    assert found.shape == (2, 4, 5)
    assert decoder(torch.where(mask.unsqueeze(2), tokens, 9.0), mask, (2, 2)).equal(found)
    hidden = decoder(tokens, torch.zeros(2, 4, dtype=torch.bool), (2, 2))
    assert hidden[0].equal(hidden[1])
    assert (hidden[0, 0] - hidden[0, 1]).abs().max() > 1e-3


def test_a_masked_autoencoder_learns(make_images):
    torch.manual_seed(0)
    encoder, batch = make(), make_images(4, 1, 8, 8)
    decoder = PatchDecoder(12, 16, width=12, depth=1, heads=2)
    hidden = torch.zeros(4, 8, 8, dtype=torch.bool)
    hidden[:, :4, :4] = True
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        found = encoder(batch.hide(hidden))
        loss = (decoder(found.tokens, found.mask, (2, 2)) - patches_of(batch.images, (4, 4)))[~found.mask].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("patch_size", "rank"), [(0, 2), ((2, 2), 3), ((2, 0), 2)])
def test_strange_patches_are_refused(patch_size, rank):
    with pytest.raises(ConfigError, match=f"or of one for each of {rank} axes, above 0; found"):
        sides(patch_size, rank)


def test_strange_arguments_are_refused():
    with pytest.raises(ConfigError, match="Expected the readout 'mean' or 'class' and 1 to 3 maps, found 'max' and 3"):
        make(readout="max")
    with pytest.raises(ConfigError, match="1 to 3 maps, found 'mean' and 4"):
        make(n_maps=4)
    with pytest.raises(ConfigError, match="multiple of the 5 heads"):
        make(heads=5)
    with pytest.raises(ConfigError, match="multiple of the 5 heads"):
        PatchDecoder(6, 5, width=12, heads=5)
