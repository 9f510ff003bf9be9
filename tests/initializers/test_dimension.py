"""From two dimensions to three: images as volumes, kernels of images as kernels of volumes, and checkpoints that do not fit."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import ImageBatch
from graphssl.encoders import ResNet, VisionTransformer
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.initializers import VariableDimension, inflated, inflated_kernel, initialise_from_2d, with_channels


def images_of(*shape):
    return ImageBatch(tuple(f"s{k}" for k in range(shape[0])), torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def randomised(network):
    """With every weight random, so that no block is the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return network.eval()


def test_colours_become_slices_in_an_order_of_their_own_for_each_image():
    batch = images_of(64, 3, 4, 5)
    view = VariableDimension()
    order = view.draw(batch, torch.Generator().manual_seed(0))
    volumes = view.apply(batch, order)
    assert volumes.images.shape == (64, 1, 3, 4, 5)
    for row in range(64):
        for k in range(3):
            assert volumes.images[row, 0, k].equal(batch.images[row, order[row, k]])
        assert sorted(order[row].tolist()) == [0, 1, 2]  # the same slices, in another order
    assert len({tuple(each) for each in order.tolist()}) == 6
    assert volumes.subject_ids == batch.subject_ids
    assert view(batch, torch.Generator().manual_seed(0)).images.equal(volumes.images)


def test_a_gray_image_is_every_slice():
    batch = images_of(2, 1, 4, 5)
    volumes = VariableDimension("repeat", n_slices=5)(batch, torch.Generator())
    assert volumes.images.equal(batch.images.unsqueeze(2).expand(-1, -1, 5, -1, -1))


def test_slices_of_a_gray_image_differ_in_contrast_alone():
    batch = images_of(3, 1, 4, 5)
    view = VariableDimension("multi_view", n_slices=3, gamma=2.0)
    volumes = view.apply(batch, torch.tensor([[0, 1, 2]] * 3)).images[:, 0]
    for row in range(3):
        image = batch.images[row, 0]
        low, high = image.min(), image.max()
        for k, exponent in enumerate((0.5, 1.0, 2.0)):
            assert_close(volumes[row, k], ((image - low) / (high - low)) ** exponent * (high - low) + low, rtol=1e-4, atol=1e-5)
    assert view.apply(replace(batch, images=torch.ones(3, 1, 4, 5)), torch.tensor([[2, 0, 1]] * 3)).images.equal(torch.ones(3, 1, 3, 4, 5))
    assert VariableDimension("multi_view", n_slices=1)(batch, torch.Generator()).images[:, :, 0].allclose(batch.images, atol=1e-5)


def test_masks_and_what_is_visible_come_along():
    batch = replace(images_of(2, 3, 4, 5), masks=torch.ones(2, 4, 5, dtype=torch.long)).hide(torch.zeros(2, 4, 5, dtype=torch.bool))
    volumes = VariableDimension()(batch, torch.Generator())
    assert volumes.masks.shape == volumes.visible.shape == (2, 3, 4, 5)


def test_volumes_and_colours_are_refused_where_they_do_not_fit():
    with pytest.raises(DataError, match=r"Expected images \[B, C, H, W\] for the mode 'channel_as_depth', found \[2, 1, 3, 4, 4\]"):
        VariableDimension()(images_of(2, 1, 3, 4, 4), torch.Generator())
    with pytest.raises(DataError, match=r"Expected images \[B, 1, H, W\] for the mode 'repeat', found \[2, 3, 4, 4\]. Take another mode"):
        VariableDimension("repeat")(images_of(2, 3, 4, 4), torch.Generator())


def test_strange_arguments_are_refused():
    with pytest.raises(ConfigError, match="Expected the mode 'channel_as_depth', 'repeat' or 'multi_view', found 'tile'"):
        VariableDimension("tile")
    with pytest.raises(ConfigError, match="Expected n_slices ≥ 1 and gamma ≥ 1, found 0 and 2.0"):
        VariableDimension("repeat", n_slices=0)


def test_a_volume_of_equal_slices_gives_what_the_image_did():
    network = randomised(ResNet(2, 2, 4, blocks=(1, 1)))
    volumes = inflated(network).with_depth_stride(False)
    images = images_of(2, 2, 32, 32).images
    deep = volumes.scales(images.unsqueeze(2).expand(-1, -1, 31, -1, -1))[-1]
    assert_close(deep[:, :, 15], network.scales(images)[-1], rtol=1e-4, atol=1e-4)


def test_the_centre_sees_each_slice_as_an_image():
    kernel, volume = torch.randn(4, 2, 3, 3), torch.randn(1, 2, 5, 6, 6)
    found = F.conv3d(volume, inflated_kernel(kernel, 3, "centre"), padding=1)
    for k in range(5):
        assert_close(found[:, :, k], F.conv2d(volume[:, :, k], kernel, padding=1), rtol=1e-4, atol=1e-4)


def test_the_centre_gives_a_network_that_sees_slices_alone():
    network = randomised(ResNet(2, 1, 4, blocks=(1, 1), stem="small"))
    volumes = inflated(network, "centre").with_depth_stride(False)
    volume = images_of(1, 1, 4, 16, 16).images
    by_slice = torch.stack([network.scales(volume[:, :, k])[-1] for k in range(4)], dim=2)
    assert_close(volumes.scales(volume)[-1], by_slice, rtol=1e-4, atol=1e-4)


def test_planes_along_three_axes_against_three_convolutions():
    kernel, volume = torch.randn(7, 2, 3, 3), torch.randn(1, 2, 5, 6, 7)
    found = F.conv3d(volume, inflated_kernel(kernel, 3, "acs"), padding=1)
    axial, coronal, sagittal = kernel[:3], kernel[3:5], kernel[5:]
    parts = [
        F.conv3d(volume, axial.unsqueeze(2), padding=(0, 1, 1)),
        F.conv3d(volume, coronal.unsqueeze(3), padding=(1, 0, 1)),
        F.conv3d(volume, sagittal.unsqueeze(4), padding=(1, 1, 0)),
    ]
    assert_close(found, torch.cat(parts, dim=1), rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"kernels as deep as high and wide for 'acs', found 1 × \[3, 3\]"):
        inflated_kernel(kernel, 1, "acs")


@pytest.mark.parametrize("how", ["mean", "centre", "acs"])
def test_every_weight_of_a_network_is_loaded(how):
    network = randomised(ResNet(2, 3, 4, blocks=(1, 1), norm="group"))
    volumes = inflated(network, how, in_channels=1)
    assert (volumes.rank, volumes.in_channels, volumes.norm) == (3, 1, "group")
    for name, weight in volumes.state_dict().items():
        given = network.state_dict()[name]
        assert_close(weight.sum(), given.sum(), rtol=1e-4, atol=1e-3)


def test_a_gray_image_gives_what_it_gave_as_a_colour_image():
    kernel, gray = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 6, 6)
    assert_close(F.conv2d(gray, with_channels(kernel, 1)), F.conv2d(gray.expand(-1, 3, -1, -1), kernel), rtol=1e-4, atol=1e-4)
    assert_close(F.conv2d(gray.expand(-1, 2, -1, -1), with_channels(kernel[:, :1], 2)), F.conv2d(gray, kernel[:, :1]), rtol=1e-4, atol=1e-4)
    assert with_channels(kernel, 3) is kernel


def test_a_checkpoint_of_other_channels_is_refused():
    with pytest.raises(CheckpointError, match="Expected a first kernel of 4 channels, or of one to spread over them, found 3"):
        inflated(ResNet(2, 3, 4, blocks=(1,)), in_channels=4)


def test_a_classifier_is_left_out_and_nothing_else():
    network, volumes = ResNet(2, 1, 4, blocks=(1,)), ResNet(3, 1, 4, blocks=(1,))
    weights = {**network.state_dict(), "fc.weight": torch.zeros(2, 4), "fc.bias": torch.zeros(2)}
    initialise_from_2d(volumes, weights)
    before = {name: weight.clone() for name, weight in volumes.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"found none of \[\] and, in excess, \['decoder.weight'\]"):
        initialise_from_2d(volumes, {**weights, "decoder.weight": torch.zeros(1)})
    weights.pop("bn1.weight")
    with pytest.raises(CheckpointError, match=r"found none of \['bn1.weight'\]"):
        initialise_from_2d(volumes, weights)
    with pytest.raises(CheckpointError, match=r"Expected bn1.weight of shape \[4\], found \[8\]. Take a checkpoint of the same size"):
        initialise_from_2d(volumes, {**weights, "bn1.weight": torch.zeros(8)})
    assert all(weight.equal(before[name]) for name, weight in volumes.state_dict().items())


def test_other_encoders_are_initialised_by_the_same_rule():
    arguments = {"width": 12, "depth": 1, "heads": 2, "n_maps": 1, "patch_size": 4}
    images, volumes = VisionTransformer(2, 3, **arguments), VisionTransformer(3, 1, **arguments)
    initialise_from_2d(volumes, images.state_dict())
    gray = torch.randn(1, 1, 8, 8)
    as_colour = F.conv2d(gray.expand(-1, 3, -1, -1), images.embed.weight, images.embed.bias, stride=4)
    assert_close(volumes.embed(gray.unsqueeze(2).expand(-1, -1, 4, -1, -1))[:, :, 0], as_colour, rtol=1e-4, atol=1e-4)


def test_unknown_variants_and_volumes_are_refused():
    with pytest.raises(ConfigError, match="Expected the inflation 'mean', 'centre' or 'acs', found 'max'"):
        inflated_kernel(torch.zeros(1, 1, 3, 3), 3, "max")
    with pytest.raises(ConfigError, match="Expected a network of rank 2 to inflate, found one of rank 3"):
        inflated(ResNet(3))


def test_a_module_without_kernels_is_loaded_as_it_is():
    layer, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    initialise_from_2d(layer, other.state_dict())
    assert layer.weight.equal(other.weight)
