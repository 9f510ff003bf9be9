"""Fusion: every form answers from any mix, does not read what is missing, and is what its equation says."""

import pytest
import torch
from torch import nn

from graphssl.encoders import AbstractFusion, Bilinear, Concatenation, CrossAttention, DynamicMetaEmbedding, Embedding, FiLM, GatedSum, Mean
from graphssl.errors import ConfigError

WIDTHS = {"image": (6, 10), "table": (4, 4), "graph": (5, 7)}
FORMS = {
    "concatenation": lambda: Concatenation(8),
    "mean": lambda: Mean(8),
    "gated_sum": lambda: GatedSum(8),
    "film": lambda: FiLM(8, "image", dynamic=False),
    "daft": lambda: FiLM(8, "table"),
    "cross_attention": lambda: CrossAttention(8, "table", heads=2),
    "bilinear": lambda: Bilinear(8, rank=3),
    "attention": lambda: DynamicMetaEmbedding(8, heads=2),
    "attention_of_tokens": lambda: DynamicMetaEmbedding(8, heads=2, layers=2, missing="token"),
    "softmax": lambda: DynamicMetaEmbedding(8, heads=2, gate="softmax"),
    "sigmoid": lambda: DynamicMetaEmbedding(8, heads=2, gate="sigmoid"),
}
SOME = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, True], [True, True, False]])


@pytest.fixture
def make_fusion():
    def make(form, widths=WIDTHS):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return FORMS[form]().for_widths(widths).eval()

    return make


@pytest.fixture
def parts():
    return random_parts(0)


def random_parts(seed, n=5):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    n_tokens = {"image": 4, "table": 3, "graph": 6}
    mask = {name: torch.arange(n_tokens[name]) < torch.randint(1, n_tokens[name] + 1, (n, 1), generator=generator) for name in WIDTHS}
    return {name: Embedding(drawn(n, n_tokens[name], token), mask[name], drawn(n, pooled)) for name, (token, pooled) in WIDTHS.items()}


@pytest.mark.parametrize("form", FORMS)
def test_every_mix_gives_one_embedding(form, make_fusion, parts):
    fused = make_fusion(form)(parts, SOME)
    assert fused.pooled.shape == (5, 8)
    assert fused.tokens.shape[:2] == fused.mask.shape
    assert fused.tokens.shape[2] == 8
    assert bool(torch.isfinite(fused.pooled).all())
    assert bool(fused.mask.any(dim=1).all())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_missing_is_not_read(form, make_fusion, parts):
    fusion, others = make_fusion(form), random_parts(1)
    fused = fusion(parts, SOME)
    for number, name in enumerate(WIDTHS):
        gone = ~SOME[:, number]
        mixed = Embedding(
            *(torch.where(gone.view(-1, *[1] * (mine.ndim - 1)), new, mine) for mine, new in zip(parts[name][:3], others[name][:3], strict=True))
        )
        again = fusion({**parts, name: mixed}, SOME)
        assert torch.equal(again.pooled, fused.pooled)
        assert torch.equal(again.mask, fused.mask)
    everything = fusion(parts, torch.ones_like(SOME))
    assert (everything.pooled - fused.pooled).abs().amax(dim=1).gt(1e-4).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("form", FORMS)
def test_a_patient_does_not_depend_on_the_others_of_the_batch(form, make_fusion, parts):
    fusion = make_fusion(form)
    alone = fusion({name: Embedding(*(each[[3]] for each in part[:3])) for name, part in parts.items()}, SOME[[3]])
    assert torch.allclose(alone.pooled, fusion(parts, SOME).pooled[[3]], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_reaches_every_source_that_is_there_and_what_stands_for_the_others(form, make_fusion, parts):
    fusion = make_fusion(form)
    fusion(parts, SOME).pooled.square().sum().backward()
    assert all(bool(fusion.of_pooled[name][0].weight.grad.abs().sum() > 0) for name in WIDTHS)
    if form in ("film", "daft", "cross_attention"):
        modalities = {"film": ["image"], "daft": ["table"], "cross_attention": WIDTHS}[form]
        assert all(bool(fusion.of_tokens[name][0].weight.grad.abs().sum() > 0) for name in modalities)
    if form not in ("mean", "softmax", "sigmoid"):  # in which nothing is said of what is missing
        assert all(bool(fusion.absent[name].grad.abs().sum() > 0) for name in WIDTHS)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_made_again_from_its_arguments(form, make_fusion, parts):
    fusion = make_fusion(form)
    again = type(fusion)(**fusion.arguments()).eval()
    again.load_state_dict(fusion.state_dict())
    assert torch.equal(again(parts, SOME).pooled, fusion(parts, SOME).pooled)
    assert fusion.modalities == ("image", "table", "graph")


def test_the_mean_is_that_of_what_there_is(make_fusion, parts):
    fusion = make_fusion("mean")
    by_name = {name: fusion.of_pooled[name](parts[name].pooled) for name in WIDTHS}
    rows = [torch.stack([by_name[name][k] for m, name in enumerate(WIDTHS) if SOME[k, m]]).mean(dim=0) for k in range(5)]
    assert torch.allclose(fusion(parts, SOME).pooled, torch.stack(rows), atol=1e-6)


def test_gates_of_what_is_missing_are_shut(make_fusion, parts):
    fusion = make_fusion("gated_sum")
    gates = fusion.gates(fusion.sources(parts, SOME))
    assert gates.shape == (5, 3, 8)
    assert torch.equal((gates > 0).all(dim=2), SOME)
    assert bool((gates <= 1).all())


@pytest.mark.parametrize(("form", "modulated"), [("film", "image"), ("daft", "table")])
def test_modulation_scales_and_shifts_every_channel_of_the_tokens(form, modulated, make_fusion, parts):
    """One patient after the other, from the equation."""
    fusion = make_fusion(form)
    sources = fusion.sources(parts, SOME)
    expected = []
    for k in range(5):
        seen = [sources.pooled[k, m] for m, name in enumerate(WIDTHS) if form == "daft" or name != modulated]
        scale, shift = fusion.condition(torch.cat(seen)).split(8)
        own = [*WIDTHS].index(modulated)
        vector = (1 + scale) * sources.pooled[k, own] + shift
        tokens = [
            (1 + scale) * token + shift for token, there in zip(sources.tokens[modulated][k], sources.masks[modulated][k], strict=True) if there
        ]
        expected.append(fusion.out(torch.cat([torch.stack(tokens).mean(dim=0) if tokens else vector, vector])))
    assert torch.allclose(fusion(parts, SOME).pooled, torch.stack(expected), atol=1e-5)


def test_low_rank_products_are_those_of_the_full_tensor(make_fusion, parts):
    """The outer product of all vectors, each with a one beside it, against the tensor that the factors make."""
    fusion = make_fusion("bilinear")
    sources = fusion.sources(parts, SOME)
    ones = [torch.cat([sources.pooled[:, m], torch.ones(5, 1)], dim=1) for m in range(3)]
    factors = [torch.cat([f.weight, f.bias[:, None]], dim=1).view(3, 8, 9) for f in fusion.factors.values()]
    tensor = torch.einsum("r,rdi,rdj,rdk->dijk", fusion.out.weight[0], *factors)
    full = torch.einsum("bi,bj,bk,dijk->bd", *ones, tensor) + fusion.out.bias
    assert torch.allclose(fusion(parts, SOME).pooled, fusion.norm(full), atol=1e-4)


def test_the_order_of_tokens_that_are_asked_says_nothing(make_fusion, parts):
    fusion = make_fusion("cross_attention")
    order = torch.tensor([2, 0, 3, 1])
    image = Embedding(parts["image"].tokens[:, order], parts["image"].mask[:, order], parts["image"].pooled)
    fused, again = fusion(parts, SOME), fusion({**parts, "image": image}, SOME)
    assert torch.allclose(fused.pooled, again.pooled, atol=1e-6)
    changed = Embedding(parts["image"].tokens + 1.0 * parts["image"].mask.unsqueeze(-1), parts["image"].mask, parts["image"].pooled)
    louder = fusion({**parts, "image": changed}, SOME)
    assert torch.equal((louder.pooled - fused.pooled).abs().amax(dim=1) > 1e-6, SOME[:, 0])


@pytest.mark.parametrize("form", ["attention", "attention_of_tokens", "softmax", "sigmoid"])
def test_rows_of_the_attention_map_sum_to_one(form, make_fusion, parts):
    weights = make_fusion(form).attention(parts, SOME)
    assert weights.shape == (5, 3, 3)
    assert torch.allclose(weights.sum(dim=2), torch.ones(5, 3), atol=1e-6)
    if form != "attention_of_tokens":
        assert bool((weights.transpose(1, 2)[~SOME] == 0).all())


def test_permuting_sources_with_their_projections_changes_nothing_but_the_order_of_the_last_layer(make_fusion, parts):
    """The test of the facts sheet: attention knows a source by its projection alone."""
    fusion = make_fusion("attention")
    order = [2, 0, 1]
    names = [list(WIDTHS)[k] for k in order]
    other = fusion.for_widths({name: WIDTHS[name] for name in names}).eval()
    state = fusion.state_dict()
    state["out.weight"] = state["out.weight"].unflatten(1, (3, 8))[:, order].flatten(1)
    other.load_state_dict(state)
    assert torch.allclose(other(parts, SOME[:, order]).pooled, fusion(parts, SOME).pooled, atol=1e-6)
    assert torch.allclose(other.attention(parts, SOME[:, order]), fusion.attention(parts, SOME)[:, order][:, :, order], atol=1e-6)


def test_one_source_is_linear_attention_linear(make_fusion, parts):
    """With one source everything it can attend to is itself: attention is its linear map of values."""
    fusion = make_fusion("attention", {"image": WIDTHS["image"]})
    block = fusion.blocks[0]
    token = fusion.of_pooled["image"](parts["image"].pooled)
    attention, width = block.attention, 8
    value = nn.functional.linear(block.norm_attention(token), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])
    token = token + attention.out_proj(value)
    expected = fusion.out(token + block.feed(block.norm_feed(token)))
    everybody = torch.ones(5, 1, dtype=torch.bool)
    assert torch.allclose(fusion({"image": parts["image"]}, everybody).pooled, expected, atol=1e-6)
    assert torch.allclose(fusion.attention({"image": parts["image"]}, everybody), torch.ones(5, 1, 1))


def test_a_missing_source_equals_masking(make_fusion, parts):
    """What the other sources become is what they become where there is no such source at all."""
    fusion = make_fusion("attention")
    names = ["image", "graph"]
    without = fusion.for_widths({name: WIDTHS[name] for name in names}).eval()
    state = {name: value for name, value in fusion.state_dict().items() if "table" not in name}
    state["out.weight"] = state["out.weight"].unflatten(1, (3, 8))[:, [0, 2]].flatten(1)
    without.load_state_dict(state)
    gone = torch.tensor([[True, False, True]]).expand(5, 3)
    constant = fusion.out.weight.unflatten(1, (3, 8))[:, 1] @ fusion.absent["table"]
    alone = without({name: parts[name] for name in names}, gone[:, [0, 2]]).pooled
    assert torch.allclose(fusion(parts, gone).pooled, alone + constant, atol=1e-6)


def test_nobody_to_attend_to_is_no_nan(make_fusion, parts):
    nothing = torch.zeros(5, 3, dtype=torch.bool)
    for form in FORMS:
        assert bool(torch.isfinite(make_fusion(form)(parts, nothing).pooled).all())


def test_other_modalities_and_impossible_choices_are_refused(make_fusion, parts):
    with pytest.raises(ConfigError, match="Expected the modalities image, table, graph before a Mean, found image, table"):
        make_fusion("mean")({name: parts[name] for name in ("image", "table")}, SOME[:, :2])
    with pytest.raises(ConfigError, match="Expected the width to be a multiple of the 3 heads"):
        DynamicMetaEmbedding(8, heads=3)
    for choice in ({"missing": "zero"}, {"gate": "hard"}, {"layers": 0}):
        with pytest.raises(ConfigError, match="Expected one layer or more, missing 'mask' or 'token', and the gate"):
            DynamicMetaEmbedding(8, heads=2, **choice)
    with pytest.raises(ConfigError, match="Expected a rank of at least 1, found 0"):
        Bilinear(8, rank=0)
    for fusion, found in ((FiLM(8, "text"), WIDTHS), (CrossAttention(8, heads=2), {"image": (4, 4)})):
        with pytest.raises(ConfigError, match=f"Expected two modalities or more before a {type(fusion).__name__}"):
            fusion.for_widths(found)
    with pytest.raises(ConfigError, match="Expected a width of at least 1, found 0"):
        Concatenation(0)
    assert issubclass(Mean, AbstractFusion)
