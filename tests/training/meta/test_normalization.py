"""Second derivatives of layers under vmap, against one task after the other in double precision."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphssl.training.meta import GradientStep, InnerLoop, as_function, query_losses
from graphssl.training.meta.normalization import ScaleAfterwards

ROWS, WIDTH = 5, 6


class Images(nn.Module):
    """A layer of images between layers of vectors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        grid = torch.linspace(-1, 1, 6, dtype=x.dtype).view(2, 3)
        return self.layer(torch.tanh(x.view(ROWS, WIDTH, 1, 1) + grid)).mean(dim=(2, 3)) + x


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x[None], x[None], x[None], need_weights=False)[0][0]


class LayerLoss(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, WIDTH, bias=False), layer, nn.Tanh(), nn.Linear(WIDTH, 3))

    def forward(self, batch):
        x, y = batch
        return (self.network(x) - y).square().sum()


LAYERS = {
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "layer norm without bias": lambda: nn.LayerNorm(WIDTH, bias=False),
    "layer norm without weights": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "batch norm": lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
    "batch norm of images": lambda: Images(nn.BatchNorm2d(WIDTH, track_running_stats=False)),
    "instance norm": lambda: Images(nn.InstanceNorm2d(WIDTH, affine=True)),
    "group norm": lambda: nn.GroupNorm(2, WIDTH),
    "root mean square norm": lambda: nn.RMSNorm(WIDTH),
    "convolution": lambda: Images(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)),
    "attention": Attention,
    "transformer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 8, 0.0, batch_first=True, norm_first=True),
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "softmax": lambda: nn.Softmax(dim=-1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_mapped_meta_gradient_is_that_of_one_task_after_the_other(name):
    torch.manual_seed(0)
    module = LayerLoss(LAYERS[name]()).double()
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    loss, parameters = as_function(module)
    tasks = [[(torch.randn(ROWS, 4).double(), torch.randn(ROWS, 3).double()) for _ in range(3)] for _ in range(2)]
    inner = InnerLoop(GradientStep(0.02), n_steps=2)
    found, expected = (
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(query_losses(loss, parameters, *tasks, inner, path=path).sum(), list(parameters.values()))]
        )
        for path in ("vmap", "sequential")
    )
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-9 * expected.abs().max())


def test_values_are_those_of_the_fused_form():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(4, 6, 3), torch.randn(3), torch.randn(3)
    channel = torch.randn(6)
    with ScaleAfterwards():
        layer, batch = F.layer_norm(x, (3,), weight, bias), F.batch_norm(x, None, None, channel, channel, training=True)
    assert torch.allclose(layer, F.layer_norm(x, (3,), weight, bias), atol=1e-6)
    assert torch.allclose(batch, F.batch_norm(x, None, None, channel, channel, training=True), atol=1e-6)
