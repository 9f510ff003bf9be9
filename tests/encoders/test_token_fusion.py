"""Fusions of tokens: modulation from the equation, and attention that knows no order of what it asks."""

import pytest
import torch

from graphssl.encoders import CrossAttention, Embedding, FiLM
from graphssl.errors import ConfigError


@pytest.mark.parametrize(("form", "modulated"), [("film", "image"), ("daft", "table")])
def test_modulation_scales_and_shifts_every_channel_of_the_tokens(form, modulated, make_fusion, parts, presence, widths):
    """One patient after the other, from the equation."""
    fusion = make_fusion(form)
    sources = fusion.sources(parts, presence)
    expected = []
    for k in range(5):
        seen = [sources.pooled[k, m] for m, name in enumerate(widths) if form == "daft" or name != modulated]
        scale, shift = fusion.condition(torch.cat(seen)).split(8)
        own = [*widths].index(modulated)
        vector = (1 + scale) * sources.pooled[k, own] + shift
        tokens = [
            (1 + scale) * token + shift for token, there in zip(sources.tokens[modulated][k], sources.masks[modulated][k], strict=True) if there
        ]
        expected.append(fusion.out(torch.cat([torch.stack(tokens).mean(dim=0) if tokens else vector, vector])))
    assert torch.allclose(fusion(parts, presence).pooled, torch.stack(expected), atol=1e-5)


def test_the_order_of_tokens_that_are_asked_says_nothing(make_fusion, parts, presence):
    fusion = make_fusion("cross_attention")
    order = torch.randperm(parts["image"].tokens.shape[1], generator=torch.Generator().manual_seed(0))
    image = Embedding(parts["image"].tokens[:, order], parts["image"].mask[:, order], parts["image"].pooled)
    fused, again = fusion(parts, presence), fusion({**parts, "image": image}, presence)
    assert torch.allclose(fused.pooled, again.pooled, atol=1e-6)
    changed = Embedding(parts["image"].tokens + 1.0 * parts["image"].mask.unsqueeze(-1), parts["image"].mask, parts["image"].pooled)
    louder = fusion({**parts, "image": changed}, presence)
    assert torch.equal((louder.pooled - fused.pooled).abs().amax(dim=1) > 1e-6, presence[:, 0])


def test_modalities_that_are_not_there_are_refused(widths):
    for fusion, found in ((FiLM(8, "text"), widths), (CrossAttention(8, heads=2), {"image": (4, 4)})):
        with pytest.raises(ConfigError, match=f"Expected two modalities or more before a {type(fusion).__name__}"):
            fusion.for_widths(found)
