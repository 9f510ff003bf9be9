"""The network over architectures: what it predicts fits, does not depend on order or company, and can be learned through."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from graphssl.encoders import GAT, ResNet, SegmentationAdapter, VisionTransformer
from graphssl.errors import ConfigError
from graphssl.initializers import ArchitectureBatch, HyperNetwork, architecture_of


def small(seed=0):
    torch.manual_seed(seed)
    return HyperNetwork(width=8, depth=2, heads=2, side=3)


class Branches(nn.Module):
    """Two unlike branches side by side, named in one order or the other."""

    def __init__(self, order):
        super().__init__()
        made = {"wide": nn.Conv2d(4, 4, 5, padding=2), "narrow": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))}
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.branches = nn.ModuleDict({name: made[name] for name in order})
        self.order = order

    def forward(self, images):
        before = self.stem(images)
        first, second = (self.branches[name](before) for name in self.order)
        return first + second


@pytest.mark.parametrize(
    "module",
    [
        ResNet(width=4, blocks=(1, 2), bottleneck=True),
        ResNet(rank=3, width=4, blocks=(1, 1)),
        VisionTransformer(rank=3, patch_size=(2, 4, 4), width=12, depth=1, heads=2, n_maps=1),
        SegmentationAdapter(VisionTransformer(patch_size=4, width=12, depth=2, heads=2, n_maps=2), 3),
        GAT(width=8, depth=1, heads=2),
        nn.Sequential(nn.ConvTranspose3d(4, 6, (1, 2, 2), groups=2), nn.Conv1d(6, 2, 3)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_predicted_tensors_have_the_shapes_of_their_targets(module):
    architecture = architecture_of(module)
    (weights,) = small().predict([architecture])
    wanted = {name: p.shape for name, p in module.named_parameters() if name not in architecture.unsupported}
    assert {name: weight.shape for name, weight in weights.items()} == wanted
    assert all(weight.isfinite().all() for weight in weights.values())


def test_gradients_of_two_different_networks_reach_every_part():
    hypernetwork = small()
    networks = [nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)), nn.Conv3d(1, 2, 3)]
    images = [torch.randn(2, 1, 6, 6), torch.randn(2, 1, 4, 6, 6)]
    predicted = hypernetwork.predict([architecture_of(network) for network in networks])
    losses = [functional_call(network, w, (x,)).square().mean() for network, w, x in zip(networks, predicted, images, strict=True)]
    gradients = []
    for loss in losses:
        hypernetwork.zero_grad()
        loss.backward(retain_graph=True)
        gradients.append({name: p.grad.abs().sum().item() for name, p in hypernetwork.named_parameters() if p.grad is not None})
    assert set(gradients[1]) == {name for name, _ in hypernetwork.named_parameters()}  # the second has a volume kernel
    for name in ("kind.weight", "blocks.0.qkv.weight", "bias.mix.0.weight", "decoder.spread.weight", "decoder.pairs.weight"):
        assert gradients[0][name] > 0
        assert gradients[1][name] > 0


def test_the_order_of_branches_side_by_side_changes_nothing():
    hypernetwork = small()
    architectures = [architecture_of(Branches(order)) for order in (("wide", "narrow"), ("narrow", "wide"))]
    assert [operation.name for operation in architectures[0].operations] != [operation.name for operation in architectures[1].operations]
    one, other = hypernetwork.predict(architectures)
    for name, weight in one.items():
        assert_close(weight, other[name], rtol=1e-5, atol=1e-6)


def test_a_prediction_does_not_depend_on_who_else_is_in_the_batch():
    hypernetwork = small()
    short, long = (architecture_of(ResNet(width=4, blocks=blocks)) for blocks in ((1,), (2, 1, 1)))
    (alone,) = hypernetwork.predict([short])
    together = hypernetwork.predict([long, short])[1]
    for name, weight in alone.items():
        assert_close(weight, together[name], rtol=1e-4, atol=1e-5)
    embedding = hypernetwork(ArchitectureBatch.of([long, short]))
    assert embedding.tokens.shape == (2, len(long), 8)
    assert_close(embedding.pooled[1], embedding.tokens[1, : len(short)].mean(dim=0))


def test_place_in_the_network_tells_layers_of_one_size_apart():
    (weights,) = small().predict([architecture_of(nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)]))])
    assert not weights["0.weight"].allclose(weights["1.weight"])
    assert not weights["1.weight"].allclose(weights["2.weight"])


def test_edges_count():
    """The same operations, one behind or beside the other."""

    class Beside(nn.Module):
        def __init__(self, *, beside):
            super().__init__()
            self.first, self.second, self.beside = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), beside

        def forward(self, values):
            return self.first(values) + self.second(values if self.beside else self.first(values))

    (beside, behind) = small().predict([architecture_of(Beside(beside=beside)) for beside in (True, False)])
    assert beside["first.weight"].allclose(beside["second.weight"], rtol=1e-4, atol=1e-5)  # nothing tells them apart
    assert not behind["first.weight"].allclose(behind["second.weight"], rtol=1e-2, atol=1e-2)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="Expected the width to be a multiple of the 3 heads, found 8"):
        HyperNetwork(width=8, heads=3)
