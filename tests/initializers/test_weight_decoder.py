"""Tensors of any shape from a vector: sizes, repetition, normalisation, and against a decoder that predicts the whole block and cuts it."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.initializers.architecture import Weight
from graphssl.initializers.weight_decoder import WeightDecoder

WIDTH, SIDE = 4, 5


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return WeightDecoder(WIDTH, SIDE)


def kernel(*shape, **more):
    outgoing, incoming, *voxels = shape
    size = (outgoing, incoming, *[1] * (3 - len(voxels)), *voxels)
    return Weight("kernel", "kernel", shape, size, incoming * math.prod(voxels), **more)


def whole_block(decoder, vector):
    """A kernel of the full size, layer by layer as GHN-2 does it: all voxels, all pairs, then the cut."""
    grid = decoder.spread(vector).reshape(-1, SIDE, SIDE)
    hidden = F.relu(torch.einsum("dc,cyx->dyx", decoder.mix.weight, F.relu(grid)) + decoder.mix.bias[:, None, None])
    pairs = torch.einsum("pd,dyx->pyx", decoder.pairs.weight, hidden) + decoder.pairs.bias[:, None, None]
    return pairs.reshape(2 * WIDTH, 2 * WIDTH, SIDE, SIDE)


def test_a_kernel_is_cut_from_the_middle_of_the_block(decoder):
    vectors = torch.randn(2, WIDTH)
    torch.nn.init.normal_(decoder.pairs.bias)
    torch.nn.init.normal_(decoder.spread.bias)
    found = decoder(vectors, [kernel(3, 7, 3, 1), kernel(8, 8, 5, 5)])
    assert_close(found[0], whole_block(decoder, vectors[0])[:3, :7, 1:4, 2:3] * math.sqrt(2 / 21))
    assert_close(found[1], whole_block(decoder, vectors[1]) * math.sqrt(2 / 200))


def test_what_is_larger_than_the_block_is_repeated(decoder):
    found = decoder(torch.randn(1, WIDTH), [kernel(20, 11, 3, 3)])[0]
    assert found.shape == (20, 11, 3, 3)
    assert found[8:16].equal(found[:8])
    assert found[16:].equal(found[:4])
    assert found[:, 8:].equal(found[:, :3])
    assert not found[1].equal(found[0])


def test_slices_of_a_volume_kernel_differ_and_the_middle_row_of_an_image_kernel_does_not(decoder):
    found = decoder(torch.randn(1, WIDTH), [kernel(4, 4, 3, 3, 3)])[0]
    assert found.shape == (4, 4, 3, 3, 3)
    assert not found[:, :, 0].allclose(found[:, :, 1])


def test_large_kernels_are_interpolated(decoder):
    vector = torch.randn(1, WIDTH)
    large = decoder(vector, [kernel(4, 4, 9, 9)])[0]
    block = whole_block(decoder, vector[0])[:4, :4]
    assert_close(large, F.interpolate(block, size=(9, 9), mode="bilinear") * math.sqrt(2 / (4 * 81)))
    assert decoder(vector, [kernel(2, 2, 7, 8, 9)])[0].shape == (2, 2, 7, 8, 9)


def test_transposed_kernels_have_what_comes_in_first(decoder):
    vector = torch.randn(1, WIDTH)
    weight = Weight("w", "kernel", (6, 3, 3, 3), (3, 6, 1, 3, 3), 54, transposed=True)
    assert decoder(vector, [weight])[0].equal(decoder(vector, [kernel(3, 6, 3, 3)])[0].transpose(0, 1))


def test_scales_and_shifts_are_bounded(decoder):
    vectors = torch.randn(1, WIDTH).expand(3, -1) * 500
    shape = (7, 3)
    scale, shift, first = decoder(
        vectors, [Weight("s", "scale", shape, (21, 0, 0, 0, 0)), Weight("b", "shift", shape, (21, 0, 0, 0, 0)), kernel(3, 3)]
    )
    assert scale.shape == shift.shape == shape
    scale, shift = scale.detach(), shift.detach()
    row, other = decoder.rows(vectors[0]).detach().reshape(2, 8)
    assert_close(scale.flatten(), 2 * torch.sigmoid(row[torch.arange(21) % 8] / 2))
    assert_close(shift.flatten(), torch.tanh(other[torch.arange(21) % 8] / 5))
    assert 0 <= float(scale.min()) < 0.1
    assert 1.9 < float(scale.max()) <= 2
    assert -1 <= float(shift.min()) < -0.9 < 0.9 < float(shift.max()) <= 1
    assert first.shape == (3, 3)


def test_kernels_start_with_the_variance_of_kaiming():
    torch.manual_seed(0)
    decoder = WeightDecoder(32, 7)
    vectors = F.layer_norm(torch.randn(40, 32), (32,))
    found = torch.stack(decoder(vectors, [kernel(64, 48, 3, 3)] * 40))
    assert float(found.detach().std()) == pytest.approx(math.sqrt(2 / (48 * 9)), rel=0.15)
