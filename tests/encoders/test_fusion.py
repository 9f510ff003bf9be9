"""Fusion: every form answers from any mix, does not read what is missing, and is what its equation says."""

import pytest
import torch

from graphssl.encoders import AbstractFusion, Bilinear, Concatenation, Embedding, Mean
from graphssl.errors import ConfigError

# Those of the fixture `make_fusion`.
FORMS = (
    "concatenation",
    "mean",
    "gated_sum",
    "film",
    "daft",
    "cross_attention",
    "bilinear",
    "attention",
    "attention_of_tokens",
    "softmax",
    "sigmoid",
)


@pytest.mark.parametrize("form", FORMS)
def test_every_mix_gives_one_embedding(form, make_fusion, parts, presence):
    fused = make_fusion(form)(parts, presence)
    assert fused.pooled.shape == (5, 8)
    assert fused.tokens.shape[:2] == fused.mask.shape
    assert fused.tokens.shape[2] == 8
    assert bool(torch.isfinite(fused.pooled).all())
    assert bool(fused.mask.any(dim=1).all())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_missing_is_not_read(form, make_fusion, random_sources, parts, presence, widths):
    fusion, others = make_fusion(form), random_sources(widths, 1)
    fused = fusion(parts, presence)
    for number, name in enumerate(widths):
        gone = ~presence[:, number]
        mixed = Embedding(
            *(torch.where(gone.view(-1, *[1] * (mine.ndim - 1)), new, mine) for mine, new in zip(parts[name][:3], others[name][:3], strict=True))
        )
        again = fusion({**parts, name: mixed}, presence)
        assert torch.equal(again.pooled, fused.pooled)
        assert torch.equal(again.mask, fused.mask)
    everything = fusion(parts, torch.ones_like(presence))
    assert (everything.pooled - fused.pooled).abs().amax(dim=1).gt(1e-4).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("form", FORMS)
def test_a_patient_does_not_depend_on_the_others_of_the_batch(form, make_fusion, parts, presence):
    fusion = make_fusion(form)
    alone = fusion({name: Embedding(*(each[[3]] for each in part[:3])) for name, part in parts.items()}, presence[[3]])
    assert torch.allclose(alone.pooled, fusion(parts, presence).pooled[[3]], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_reaches_every_source_that_is_there_and_what_stands_for_the_others(form, make_fusion, parts, presence, widths):
    fusion = make_fusion(form)
    fusion(parts, presence).pooled.square().sum().backward()
    assert all(bool(fusion.of_pooled[name][0].weight.grad.abs().sum() > 0) for name in widths)
    if form in ("film", "daft", "cross_attention"):
        modalities = {"film": ["image"], "daft": ["table"], "cross_attention": widths}[form]
        assert all(bool(fusion.of_tokens[name][0].weight.grad.abs().sum() > 0) for name in modalities)
    if form not in ("mean", "softmax", "sigmoid"):  # in which nothing is said of what is missing
        assert all(bool(fusion.absent[name].grad.abs().sum() > 0) for name in widths)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_made_again_from_its_arguments(form, make_fusion, parts, presence):
    fusion = make_fusion(form)
    again = type(fusion)(**fusion.arguments()).eval()
    again.load_state_dict(fusion.state_dict())
    assert torch.equal(again(parts, presence).pooled, fusion(parts, presence).pooled)
    assert fusion.modalities == ("image", "table", "graph")


def test_the_mean_is_that_of_what_there_is(make_fusion, parts, presence, widths):
    fusion = make_fusion("mean")
    by_name = {name: fusion.of_pooled[name](parts[name].pooled) for name in widths}
    rows = [torch.stack([by_name[name][k] for m, name in enumerate(widths) if presence[k, m]]).mean(dim=0) for k in range(5)]
    assert torch.allclose(fusion(parts, presence).pooled, torch.stack(rows), atol=1e-6)


def test_gates_of_what_is_missing_are_shut(make_fusion, parts, presence):
    fusion = make_fusion("gated_sum")
    gates = fusion.gates(fusion.sources(parts, presence))
    assert gates.shape == (5, 3, 8)
    assert torch.equal((gates > 0).all(dim=2), presence)
    assert bool((gates <= 1).all())


def test_low_rank_products_are_those_of_the_full_tensor(make_fusion, parts, presence):
    """The outer product of all vectors, each with a one beside it, against the tensor that the factors make."""
    fusion = make_fusion("bilinear")
    sources = fusion.sources(parts, presence)
    ones = [torch.cat([sources.pooled[:, m], torch.ones(5, 1)], dim=1) for m in range(3)]
    factors = [torch.cat([f.weight, f.bias[:, None]], dim=1).view(3, 8, 9) for f in fusion.factors.values()]
    tensor = torch.einsum("r,rdi,rdj,rdk->dijk", fusion.out.weight[0], *factors)
    full = torch.einsum("bi,bj,bk,dijk->bd", *ones, tensor) + fusion.out.bias
    assert torch.allclose(fusion(parts, presence).pooled, fusion.norm(full), atol=1e-4)


def test_nobody_to_attend_to_is_no_nan(make_fusion, parts):
    nothing = torch.zeros(5, 3, dtype=torch.bool)
    for form in FORMS:
        assert bool(torch.isfinite(make_fusion(form)(parts, nothing).pooled).all())


def test_other_modalities_and_impossible_choices_are_refused(make_fusion, parts, presence):
    with pytest.raises(ConfigError, match="Expected the modalities image, table, graph before a Mean, found image, table"):
        make_fusion("mean")({name: parts[name] for name in ("image", "table")}, presence[:, :2])
    with pytest.raises(ConfigError, match="Expected a rank of at least 1, found 0"):
        Bilinear(8, rank=0)
    with pytest.raises(ConfigError, match="Expected a width of at least 1, found 0"):
        Concatenation(0)
    assert issubclass(Mean, AbstractFusion)
