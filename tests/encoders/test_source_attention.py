"""Attention over sources: what the map says, what a missing source is, and a source alone, from the equation."""

import pytest
import torch
from torch import nn

from graphssl.encoders import DynamicMetaEmbedding
from graphssl.errors import ConfigError


@pytest.mark.parametrize("form", ["attention", "attention_of_tokens", "softmax", "sigmoid"])
def test_rows_of_the_attention_map_sum_to_one(form, make_fusion, parts, presence):
    weights = make_fusion(form).attention(parts, presence)
    assert weights.shape == (5, 3, 3)
    assert torch.allclose(weights.sum(dim=2), torch.ones(5, 3), atol=1e-6)
    if form != "attention_of_tokens":
        assert bool((weights.transpose(1, 2)[~presence] == 0).all())


def test_permuting_sources_with_their_projections_changes_nothing_but_the_order_of_the_last_layer(make_fusion, parts, presence, widths):
    """The test of the facts sheet: attention knows a source by its projection alone."""
    fusion = make_fusion("attention")
    order = [2, 0, 1]
    names = [list(widths)[k] for k in order]
    other = fusion.for_widths({name: widths[name] for name in names}).eval()
    state = fusion.state_dict()
    state["out.weight"] = state["out.weight"].unflatten(1, (3, 8))[:, order].flatten(1)
    other.load_state_dict(state)
    assert torch.allclose(other(parts, presence[:, order]).pooled, fusion(parts, presence).pooled, atol=1e-6)
    assert torch.allclose(other.attention(parts, presence[:, order]), fusion.attention(parts, presence)[:, order][:, :, order], atol=1e-6)


def test_one_source_is_linear_attention_linear(make_fusion, parts, widths):
    """With one source everything it can attend to is itself: attention is its linear map of values."""
    fusion = make_fusion("attention", {"image": widths["image"]})
    block = fusion.blocks[0]
    token = fusion.of_pooled["image"](parts["image"].pooled)
    attention, width = block.attention, 8
    value = nn.functional.linear(block.norm_attention(token), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])
    token = token + attention.out_proj(value)
    expected = fusion.out(token + block.feed(block.norm_feed(token)))
    everybody = torch.ones(5, 1, dtype=torch.bool)
    assert torch.allclose(fusion({"image": parts["image"]}, everybody).pooled, expected, atol=1e-6)
    assert torch.allclose(fusion.attention({"image": parts["image"]}, everybody), torch.ones(5, 1, 1))


def test_a_missing_source_equals_masking(make_fusion, parts, widths):
    """What the other sources become is what they become where there is no such source at all."""
    fusion = make_fusion("attention")
    names = ["image", "graph"]
    without = fusion.for_widths({name: widths[name] for name in names}).eval()
    state = {name: value for name, value in fusion.state_dict().items() if "table" not in name}
    state["out.weight"] = state["out.weight"].unflatten(1, (3, 8))[:, [0, 2]].flatten(1)
    without.load_state_dict(state)
    gone = torch.tensor([[True, False, True]]).expand(5, 3)
    constant = fusion.out.weight.unflatten(1, (3, 8))[:, 1] @ fusion.absent["table"]
    alone = without({name: parts[name] for name in names}, gone[:, [0, 2]]).pooled
    assert torch.allclose(fusion(parts, gone).pooled, alone + constant, atol=1e-6)


def test_impossible_choices_are_refused():
    with pytest.raises(ConfigError, match="Expected the width to be a multiple of the 3 heads"):
        DynamicMetaEmbedding(8, heads=3)
    for choice in ({"missing": "zero"}, {"gate": "hard"}, {"layers": 0}):
        with pytest.raises(ConfigError, match="Expected one layer or more, missing 'mask' or 'token', and the gate"):
            DynamicMetaEmbedding(8, heads=2, **choice)
