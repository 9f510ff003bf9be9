"""The pyramid transformer: one module for images and volumes, what volumes alone train, and attention to fewer keys against loops."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.encoders import PyramidTransformer
from graphssl.encoders.images.pyramid import PyramidBlock, half
from graphssl.errors import ConfigError, DataError

SMALL = {"widths": (8, 12, 16), "depths": (1, 2, 1), "decoder_depths": (1, 1), "heads": (1, 2, 2), "reductions": (3, 2, 1), "stem_width": 4}


def make(**changes):
    torch.manual_seed(0)
    return PyramidTransformer(**{**SMALL, "image_size": (32, 32), "volume_size": (8, 24, 24), **changes}).eval()


def test_the_same_module_reads_images_and_volumes(make_images):
    encoder = make()
    images, volumes = encoder(make_images(2, 1, 32, 32)), encoder(make_images(2, 1, 8, 24, 24))
    assert [tuple(each.shape[1:]) for each in images.maps] == [(4, 16, 16), (8, 8, 8), (12, 4, 4), (16, 2, 2)]
    assert [tuple(each.shape[1:]) for each in volumes.maps] == [(4, 8, 12, 12), (8, 4, 6, 6), (12, 2, 3, 3), (16, 1, 2, 2)]
    assert images.pooled.shape == volumes.pooled.shape == (2, encoder.pooled_width)


def test_images_train_nothing_that_belongs_to_volumes(make_images):
    encoder = make()
    names = encoder.volume_parameters
    assert {name.split(".")[0] for name in names} == {"stem", "encoder", "decoder"}
    encoder(make_images(2, 1, 32, 32)).pooled.sum().backward()
    weights = dict(encoder.named_parameters())
    assert {name for name, weight in weights.items() if weight.grad is None} == set(names)
    encoder.zero_grad(set_to_none=True)
    encoder(make_images(2, 1, 8, 24, 24)).pooled.sum().backward()
    untrained = {name for name, weight in weights.items() if weight.grad is None}
    assert untrained == {name for name in weights if "2D" in name.split(".")}
    shared = set(weights) - set(names) - untrained
    assert any("query" in name for name in shared)
    assert any("feed" in name for name in shared)


@pytest.mark.parametrize("size", [(33, 40), (9, 25, 30), (1, 32, 32), (40, 24, 24)])
def test_other_sizes_are_read(make_images, size):
    encoder = make()
    found = encoder(make_images(1, 1, *size))
    stem = [half(n) for n in size] if len(size) == 2 else [size[0], half(size[1]), half(size[2])]
    assert list(found.maps[0].shape[2:]) == stem
    assert list(found.maps[1].shape[2:]) == [half(n) for n in stem]
    assert found.pooled.isfinite().all()


@pytest.mark.parametrize(("rank", "grid"), [("2D", (4, 6)), ("3D", (2, 4, 4))])
def test_attention_to_fewer_keys_against_loops(rank, grid):
    torch.manual_seed(0)
    block = PyramidBlock(6, 2, 2, drop_path=0.0)
    n = torch.tensor(grid).prod().item()
    tokens = torch.randn(2, 1 + n, 6)
    found = block._attend(tokens, grid, rank)
    features = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
    reduce = block.reduce[rank]
    for row in range(2):
        boxes = []
        places = [(i, j) for i in range(grid[0] // 2) for j in range(grid[1] // 2)] if rank == "2D" else None
        places = places or [(i, j, k) for i in range(grid[0] // 2) for j in range(grid[1] // 2) for k in range(grid[2] // 2)]
        for place in places:
            box = features[row][(slice(None), *(slice(2 * p, 2 * p + 2) for p in place))]
            boxes.append((reduce.weight * box).flatten(start_dim=1).sum(dim=1) + reduce.bias)
        keys = block.norm_keys(torch.stack([tokens[row, 0], *boxes]))
        key, value = block.key_value(keys).chunk(2, dim=1)
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            weights = F.softmax(block.query(tokens[row])[:, part] @ key[:, part].T / 3**0.5, dim=1)
            assert_close(found[row, :, part], weights @ value[:, part], rtol=1e-4, atol=1e-5)


def test_drop_path_keeps_the_mean_and_drops_whole_rows():
    block = PyramidBlock(4, 1, 1, drop_path=0.25).train()
    torch.manual_seed(0)
    found = block._dropped(torch.ones(4000, 2, 4))
    assert set(found.flatten(start_dim=1).std(dim=1).tolist()) == {0.0}
    assert_close(found.mean(), torch.tensor(1.0), rtol=0.05, atol=0.0)
    assert block.eval()._dropped(torch.ones(3)).equal(torch.ones(3))


def test_what_is_too_small_is_refused(make_images):
    with pytest.raises(DataError, match=r"Expected images larger than 16 voxels for 3 stages, found \[16, 16\]. Resize them"):
        make()(make_images(1, 1, 16, 16))
    with pytest.raises(DataError, match=r"found \[8, 12, 12\]"):
        make()(make_images(1, 1, 8, 12, 12))


def test_stages_must_agree():
    with pytest.raises(ConfigError, match="Expected depths, heads and reductions for 3 stages, and decoder_depths for 2; found 3, 3, 3 and 3"):
        make(decoder_depths=(1, 1, 1))
    with pytest.raises(ConfigError, match="multiple of the 5 heads"):
        make(heads=(1, 2, 5))
    with pytest.raises(ConfigError, match=r"Expected a share drop_path of branches in \[0, 1\), found 1.0"):
        make(drop_path=1.0)


def test_images_and_volumes_may_have_other_channels(make_images):
    encoder = make(in_channels=3)
    assert encoder(make_images(1, 3, 32, 32)).pooled.shape == encoder(make_images(1, 1, 8, 24, 24)).pooled.shape
    with pytest.raises(
        ConfigError, match=r"Expected images \[B, 3, H, W\] or volumes \[B, 1, D, H, W\] before PyramidTransformer, found \[1, 1, 32, 32\]"
    ):
        encoder(make_images(1, 1, 32, 32))
