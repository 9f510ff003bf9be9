"""Learning rates by layer: the formula of the publication, for encoders that call their layers differently."""

import pytest
import torch

from graphssl.encoders import GCN, MLP, ResNet, TableTransformer, VisionTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import MaskedPatches
from graphssl.training.layer_decay import layer_scales
from graphssl.training.learner import Learner


def test_a_transformer_of_images_has_the_rates_of_the_publication():
    """Bao et al.: patches and tokens 0, block k at k + 1, the rest at the top."""
    encoder = VisionTransformer(patch_size=4, width=8, depth=3, heads=2, n_maps=1, readout="class")
    found = layer_scales(encoder, 0.5)
    assert found["embed.weight"] == found["token"] == 0.5**4
    assert [found[f"blocks.{k}.norm_attention.weight"] for k in range(3)] == [0.5**3, 0.5**2, 0.5]
    assert found["norm.weight"] == 1.0


@pytest.mark.parametrize(
    ("encoder", "first", "expected"),
    [
        (
            ResNet(width=4, blocks=(2, 1), stem="small"),
            "conv1.weight",
            {"layer1.0.conv1.weight": 3, "layer1.1.conv1.weight": 2, "layer2.0.conv1.weight": 1},
        ),
        (GCN(width=8, depth=2), "tokens.unseen", {"layers.0.bias": 2, "layers.1.bias": 1, "norms.0.weight": 0}),
        (MLP(width=8, depth=2), "tokens.unseen", {"blocks.0.0.weight": 2, "blocks.1.0.weight": 1, "norm.weight": 0}),
        (TableTransformer(width=8, depth=1, heads=2), "patient", {"blocks.0.norm_attention.weight": 1, "norm.weight": 0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rates_rise_from_layer_to_layer(encoder, first, expected):
    scales = layer_scales(encoder, 0.5)
    assert list(scales) == [name for name, _ in encoder.named_parameters()]
    assert {name: scales[name] for name in expected} == {name: 0.5**below for name, below in expected.items()}
    assert scales[first] == min(scales.values()) == 0.5 ** (max(expected.values()) + 1)


def test_the_optimiser_takes_them_and_the_head_has_the_full_rate():
    encoder = VisionTransformer(patch_size=4, width=8, depth=2, heads=2, n_maps=1)
    objective = MaskedPatches(width=8, depth=1, heads=2).prepare(encoder)
    learner = Learner(encoder, objective, learning_rate=0.01, weight_decay=0.05, n_steps=10, seed=0, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    groups = learner.configure_optimizers()["optimizer"].param_groups
    rates = {names[id(parameter)]: group["initial_lr"] for group in groups for parameter in group["params"]}
    assert set(rates) == {name for name, parameter in learner.named_parameters() if parameter.requires_grad}
    assert all(rate == pytest.approx(0.01) for name, rate in rates.items() if name.startswith("objective."))
    scales = layer_scales(encoder, 0.5)
    assert all(rates[f"encoder.{name}"] == pytest.approx(0.01 * scale) for name, scale in scales.items() if f"encoder.{name}" in rates)
    assert all(parameter.dim() > 1 for group in groups if group["weight_decay"] for parameter in group["params"])


def test_one_rate_for_all_by_default():
    encoder = VisionTransformer(patch_size=4, width=8, depth=2, heads=2, n_maps=1)
    learner = Learner(encoder, MaskedPatches(width=8, depth=1, heads=2).prepare(encoder), learning_rate=0.01, weight_decay=0.05, n_steps=10, seed=0)
    assert len(learner.configure_optimizers()["optimizer"].param_groups) == 2
    assert set(layer_scales(encoder, 1.0).values()) == {1.0}


def test_a_layer_moves_less_the_lower_it_is():
    """One step of AdamW moves every weight by about its rate."""
    encoder = VisionTransformer(patch_size=4, width=8, depth=2, heads=2, n_maps=1)
    learner = Learner(encoder, MaskedPatches().prepare(encoder), learning_rate=0.01, weight_decay=0.0, n_steps=1, seed=0, layer_decay=0.1)
    optimizer = learner.configure_optimizers()["optimizer"]
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    sum(parameter.sum() for parameter in encoder.parameters()).backward()
    optimizer.step()
    moved = {name: float((parameter.detach() - before[name]).abs().max()) for name, parameter in encoder.named_parameters()}
    assert moved["embed.weight"] == pytest.approx(0.01 * 0.1**3, rel=0.05)
    assert moved["norm.weight"] == pytest.approx(0.01, rel=0.05)
    assert torch.isfinite(torch.tensor(list(moved.values()))).all()


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_an_impossible_share_is_refused(decay):
    with pytest.raises(ConfigError, match=rf"Expected layer_decay in \(0, 1\], found {decay}"):
        layer_scales(MLP(width=8, depth=1), decay)
