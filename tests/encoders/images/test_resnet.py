"""Residual networks: the same numbers as MONAI's, depth without strides, standardised weights, and gradients of parts of a batch."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.encoders import ResNet
from graphssl.encoders.images.resnet import StandardizedConv2d, StandardizedConv3d, standardized
from graphssl.errors import ConfigError


@pytest.mark.parametrize(("rank", "bottleneck"), [(2, False), (2, True), (3, False)])
def test_same_names_and_numbers_as_those_of_monai(rank, bottleneck, randomised):
    from monai.networks.nets.resnet import ResNet as Peer

    ours = randomised(ResNet(rank, 2, 4, (1, 2, 1, 1), bottleneck=bottleneck))
    kind, widths = "bottleneck" if bottleneck else "basic", [4, 8, 16, 32]
    peer = Peer(kind, [1, 2, 1, 1], widths, rank, 2, conv1_t_stride=2, bias_downsample=False, feed_forward=False).eval()
    peer.load_state_dict(ours.state_dict())
    images = torch.randn(2, 2, *(32,) * rank, generator=torch.Generator().manual_seed(0))
    assert_close(ours.scales(images)[-1].mean(dim=tuple(range(2, 2 + rank))), peer(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stem", ["large", "small"])
def test_a_depth_of_three_lives_to_the_end_without_strides_along_it(stem):
    pretrained = ResNet(3, 1, 4, stem=stem, depth_stride=False)
    maps = pretrained.scales(torch.randn(1, 1, 3, 64, 64))
    assert [each.shape[2] for each in maps] == [3] * len(maps)
    if stem == "large":
        assert [tuple(each.shape[1:]) for each in maps] == [(4, 3, 32, 32), (4, 3, 16, 16), (8, 3, 8, 8), (16, 3, 4, 4), (32, 3, 2, 2)]


def test_weights_fit_with_and_without_strides_along_depth():
    pretrained = ResNet(3, 1, 4, blocks=(1, 1), depth_stride=False)
    other = pretrained.with_depth_stride()
    missing, strange = other.load_state_dict(pretrained.state_dict())
    assert missing == strange == []
    assert other.depth_stride
    assert not pretrained.depth_stride
    assert all(weight.equal(pretrained.state_dict()[name]) for name, weight in other.state_dict().items())
    assert other.scales(torch.zeros(2, 1, 16, 16, 16))[-1].shape == (2, 8, 2, 2, 2)


def test_every_slice_of_a_kernel_learns_from_a_depth_of_three():
    network = ResNet(3, 1, 4, blocks=(1, 1), depth_stride=False)
    network.scales(torch.randn(2, 1, 3, 32, 32))[-1].square().sum().backward()
    kernel = network.conv1.weight.grad
    assert (kernel[:, :, 1:6].abs().amax(dim=(0, 1, 3, 4)) > 0).all()


def test_a_block_starts_as_the_identity():
    network = ResNet(2, 1, 4, blocks=(2,), stem="small").eval()
    images = torch.randn(2, 1, 8, 8)
    assert_close(network.scales(images)[0], F.relu(network.bn1(network.conv1(images))))


def test_standardised_weights_against_loops():
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64) * 5 + 1
    found = standardized(weight)
    for row in range(3):
        values = weight[row].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        assert_close(found[row], (weight[row] - mean) / variance**0.5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("convolution", "shape"), [(StandardizedConv2d(1, 2, 3), (1, 1, 4, 4)), (StandardizedConv3d(1, 2, 3), (1, 1, 4, 4, 4))])
def test_standardised_convolution_does_not_see_scale_and_offset_of_its_weights(convolution, shape):
    images = torch.randn(shape)
    found = convolution(images)
    with torch.no_grad():
        convolution.weight.mul_(3.0).add_(1.0)
    assert_close(convolution(images), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_gradients_of_halves_are_those_of_the_batch_with_group_normalisation_alone(norm):
    torch.manual_seed(0)
    network = ResNet(2, 1, 4, blocks=(1, 1), stem="small", norm=norm).double()
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)

    def gradients(parts):
        network.zero_grad()
        for part in parts:
            network.scales(part)[-1].square().sum().backward()
        return torch.cat([weight.grad.flatten() for weight in network.parameters()])

    whole, halves = gradients([images]), gradients([images[:2], images[2:]])
    assert torch.allclose(whole, halves, rtol=1e-5, atol=1e-8) == (norm == "group")


def test_strange_arguments_are_refused():
    with pytest.raises(ConfigError, match="Expected the stem 'large' or 'small' and the norm 'batch' or 'group', found 'tiny' and 'batch'"):
        ResNet(stem="tiny")
    with pytest.raises(ConfigError, match=r"Expected one block or more at every scale, found \[2, 0\]"):
        ResNet(blocks=(2, 0))
