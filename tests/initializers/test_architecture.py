"""Networks as graphs: what is traced is what is computed, every parameter has its operation, and what has none is named."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphssl.encoders import GAT, GCN, GraphTransformer, ResNet, SegmentationAdapter, TableTransformer, VisionTransformer
from graphssl.errors import DataError
from graphssl.initializers import architecture_of


class Small(nn.Module):
    """A convolution, a bypass around another, and a classifier of what they give together."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, (1, 3), padding=(0, 1), bias=False)
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        before = F.relu(self.norm(self.first(images)))
        after = before + self.second(before)
        both = torch.cat([before, F.max_pool2d(after, 3, 1, 1)], dim=1)
        return self.head(F.adaptive_avg_pool2d(both, 1).flatten(1))


def named(architecture):
    return [operation.name for operation in architecture.operations]


def kinds(architecture):
    return Counter(operation.kind for operation in architecture.operations)


def test_a_network_is_traced_operation_by_operation():
    found = architecture_of(Small())
    assert [operation.kind for operation in found.operations] == [
        "input",
        "conv",
        "bias",
        "batch_norm",
        "conv",
        "sum",
        "max_pool",
        "concat",
        "global_pool",
        "linear",
        "bias",
    ]
    assert found.edges == ((0, 1), (1, 2), (2, 3), (3, 4), (3, 5), (3, 7), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10))
    assert found.distances[0].tolist() == [0, 1, 2, 3, 4, 4, 5, 4, 5, 6, 7]
    assert found.distances[5, 4] == -1
    assert repr(found) == "Architecture(11 operations, 12 edges, 7 tensors of 114 numbers)"


def test_weights_say_their_size_and_how_many_numbers_are_summed():
    weights = {weight.name: weight for weight in architecture_of(Small()).weights()}
    assert weights["first.weight"].size == (4, 1, 1, 3, 3)
    assert weights["first.weight"].fan_in == 9
    assert weights["first.weight"].gain == 1  # a single channel comes in
    assert weights["second.weight"].gain == 1  # wider than high
    assert weights["head.weight"].size == (2, 8, 1, 1, 1)
    assert weights["head.weight"].gain == 2
    assert [weights[f"norm.{name}"].role for name in ("weight", "bias")] == ["scale", "shift"]
    lifted = next(architecture_of(nn.ConvTranspose3d(6, 4, 2, stride=2, groups=2)).weights())
    assert lifted.size == (2, 6, 2, 2, 2)
    assert lifted.fan_in == 3  # each voxel of the output is of one voxel of the input
    assert lifted.transposed


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(4, 4, 3, groups=4), "depthwise_conv"),
        (nn.Conv3d(4, 4, 3, dilation=2), "dilated_conv"),
        (nn.ConvTranspose2d(4, 2, 2), "conv_transpose"),
        (nn.GroupNorm(2, 4), "group_norm"),
        (nn.InstanceNorm3d(4, affine=True), "instance_norm"),
        (nn.LayerNorm((4, 5)), "layer_norm"),
    ],
)
def test_layers_have_their_kind(module, kind):
    found = architecture_of(module)
    assert found.operations[1].kind == kind
    assert {weight.name: weight.shape for weight in found.weights()} == {name: tuple(p.shape) for name, p in module.named_parameters()}


def test_pooling_is_global_where_one_voxel_is_left():
    layers = [nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(2), nn.AvgPool2d(1), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d((1, 1))]
    assert kinds(architecture_of(nn.Sequential(*layers))) == {"input": 1, "conv": 1, "bias": 1, "avg_pool": 2, "upsample": 1, "global_pool": 1}


@pytest.mark.parametrize(
    "module",
    [
        ResNet(width=4, blocks=(1, 1)),
        ResNet(rank=3, width=4, blocks=(1, 1), norm="group"),
        VisionTransformer(width=12, depth=2, heads=2, n_maps=1),
        SegmentationAdapter(ResNet(width=4, blocks=(1, 1)), 2),
        nn.TransformerEncoderLayer(8, 2),
        nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
    ],
    ids=lambda module: type(module).__name__,
)
def test_every_parameter_of_a_network_belongs_to_an_operation(module):
    found = architecture_of(module)
    assert {weight.name: weight.shape for weight in found.weights()} == {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert found.unsupported == {}
    found.check_supported()


def test_an_encoder_of_images_keeps_its_bypasses():
    assert kinds(architecture_of(ResNet())) == {"input": 1, "conv": 20, "batch_norm": 20, "max_pool": 1, "sum": 8}


def test_attention_reads_what_is_projected_side_by_side():
    found = architecture_of(nn.MultiheadAttention(8, 2, kdim=4, vdim=6))
    names, places = named(found), {operation.kind: k for k, operation in enumerate(found.operations)}
    feeding = {names[start] for start, end in found.edges if end == places["attention"]}
    assert feeding == {"q_proj_weight", "k_proj_weight", "v_proj_weight"}
    assert found.distances[places["attention"], names.index("out_proj")] == 2  # after the bias of the projections


@pytest.mark.parametrize(("encoder", "kind"), [(GCN(width=8, depth=1), "graph_conv"), (GAT(width=8, depth=1, heads=2), "graph_attention")])
def test_graph_layers_are_operations(encoder, kind):
    found = architecture_of(encoder)
    assert kinds(found)[kind] == 1
    assert {weight.name for weight in found.weights()} | set(found.unsupported) == {name for name, _ in encoder.named_parameters()}
    assert set(found.unsupported) == {"tokens.unseen"}


def test_what_cannot_be_traced_is_walked_through_with_its_parts_traced():
    """`GraphTransformer.forward` asks its batch questions; its blocks can be traced, with the sum around attention."""
    found = architecture_of(GraphTransformer(width=8, depth=2, heads=2))
    assert kinds(found)["attention"] == 2
    assert kinds(found)["sum"] >= 4


class Branching(nn.Module):
    """Its own forward cannot be traced, and one of its parts neither."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.inner = Asking()

    def forward(self, values):
        return self.stem(values) + self.inner(values)


class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, values):
        return self.layer(values) if values.sum() > 0 else values


def test_a_part_that_cannot_be_traced_leaves_the_rest_traced():
    found = architecture_of(Branching())
    assert kinds(found) == {"input": 1, "linear": 2, "bias": 2, "sum": 1}
    total = named(found).index("add")
    assert {named(found)[start] for start, end in found.edges if end == total} == {"stem.bias", "inner.layer.bias"}


class Idle(nn.Module):
    """A layer that forward does not reach, and one that it uses twice."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, values):
        return self.used(self.used(values))


def test_idle_layers_stand_alone_and_shared_weights_have_one_owner():
    found = architecture_of(Idle())
    assert [weight.name for weight in found.weights()] == ["used.weight", "used.bias", "idle.weight", "idle.bias"]
    idle = named(found).index("idle")
    assert found.distances[0, idle] == -1
    assert kinds(found)["linear"] == 3


def test_an_operation_that_is_not_supported_is_named():
    found = architecture_of(nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)))
    assert set(found.unsupported.values()) == {"LSTM"}
    with pytest.raises(DataError, match=r"Expected every parameter to belong to an operation .*found 1.weight_ih_l0 \(LSTM\).*partial=True"):
        found.check_supported()


def test_a_module_without_weights_is_refused():
    with pytest.raises(DataError, match="Expected a module with parameters, found none in ReLU"):
        architecture_of(nn.ReLU())
    with pytest.raises(DataError, match="found 0.weight without a shape in Sequential. Run it once"):
        architecture_of(nn.Sequential(nn.LazyLinear(4)))


def test_networks_of_tables_are_read_too():
    found = architecture_of(TableTransformer(width=8, depth=1, heads=2, numbers=("age",), categories={"sex": ("f", "m")}))
    assert kinds(found)["attention"] == 1
    assert found.unsupported  # rows of columns and codes, which mean something only to their cohort
