"""The family of networks: what is drawn lies in it, runs in 2D and 3D, and can be read by a hypernetwork."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from graphssl.errors import ConfigError
from graphssl.initializers import ArchitectureSampler, Blueprint, SampledNetwork, architecture_of
from graphssl.initializers.sampler import ChannelNorm, PlaceAttention

KINDS = ("conv3", "conv5", "separable", "dilated", "pool", "attention")


def blueprint(**changes):
    return replace(Blueprint((8, 16), (1, 1), ("conv3", "conv3"), "batch", True), **changes)


def test_what_is_drawn_lies_in_the_family_and_comes_from_the_generator():
    sampler = ArchitectureSampler(stages=(2, 3), blocks=(1, 2), widths=(8, 24), norms=("batch", "group"))
    drawn = [sampler.draw(torch.Generator().manual_seed(seed)) for seed in range(200)]
    for each in drawn:
        assert len(each.widths) == len(each.blocks) == len(each.kinds)
        assert list(each.widths) == sorted(each.widths)
        assert each.kinds[0] != "attention"
    assert {len(each.widths) for each in drawn} == {2, 3}
    assert {n for each in drawn for n in each.blocks} == {1, 2}
    assert {width for each in drawn for width in each.widths} == {8, 24}
    assert {kind for each in drawn for kind in each.kinds} == set(KINDS)
    assert {each.norm for each in drawn} == {"batch", "group"}
    assert {each.residual for each in drawn} == {True, False}
    assert sampler.draw(torch.Generator().manual_seed(3)) == drawn[3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [2, 3])
def test_every_kind_of_block_runs_and_is_an_architecture(kind, rank):
    network = SampledNetwork(blueprint(rank=rank, kinds=("conv3", kind), norm="layer", n_outputs=3))
    assert network(torch.randn(2, 1, *[8] * rank)).shape == (2, 3)
    found = architecture_of(network)
    assert {weight.name for weight in found.weights()} == {name for name, _ in network.named_parameters()}
    assert sum(operation.kind == "sum" for operation in found.operations) == 2
    wanted = {"separable": "depthwise_conv", "dilated": "dilated_conv", "pool": "max_pool", "attention": "attention"}.get(kind, "conv")
    assert wanted in {operation.kind for operation in found.operations}


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_a_decoder_gives_every_voxel_a_class_whatever_the_size(norm):
    network = SampledNetwork(blueprint(rank=3, widths=(8, 8, 16), blocks=(1, 1, 1), kinds=("pool",) * 3, norm=norm, n_outputs=4, decoder=True))
    assert network(torch.randn(2, 1, 5, 7, 6)).shape == (2, 4, 5, 7, 6)
    kinds = [operation.kind for operation in architecture_of(network).operations]
    assert kinds.count("upsample") == kinds.count("concat") == 2


def test_without_classes_it_gives_the_pooled_vector():
    network = SampledNetwork(blueprint(residual=False))
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 16)
    assert not any(name.startswith("head") for name, _ in network.named_parameters())
    assert "sum" not in {operation.kind for operation in architecture_of(network).operations}


def test_layer_normalisation_is_over_the_channels_of_each_place():
    norm, features = ChannelNorm(6), torch.randn(2, 6, 3, 4)
    found = norm(features)
    assert_close(found[1, :, 2, 3], torch.nn.functional.layer_norm(features[1, :, 2, 3], (6,)))


def test_attention_knows_no_order_of_places():
    attend, features = PlaceAttention(8), torch.randn(1, 8, 3, 3)
    order = torch.randperm(9)
    moved = features.flatten(2)[:, :, order].reshape(features.shape)
    assert_close(attend(moved).flatten(2), attend(features).flatten(2)[:, :, order], rtol=1e-4, atol=1e-5)


def test_families_without_members_are_refused():
    with pytest.raises(ConfigError, match="Expected stages as fewest and most, from 1 on, found 3 and 2"):
        ArchitectureSampler(stages=(3, 2))
    with pytest.raises(ConfigError, match=r"Expected widths that are multiples of 8, found \[12\]"):
        ArchitectureSampler(widths=(12,))
    with pytest.raises(ConfigError, match=r"Expected norms among batch, group, layer, found \['weight'\]"):
        ArchitectureSampler(norms=("weight",))
    with pytest.raises(ConfigError, match="Expected a kind of block beside 'attention'"):
        ArchitectureSampler(kinds=("attention",))
