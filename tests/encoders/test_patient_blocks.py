"""Tokens of a patient, and the one that gathers them."""

import torch
from torch.testing import assert_close

from graphssl.encoders.patient_blocks import PatientBlocks


def make(depth=2):
    torch.manual_seed(0)
    return PatientBlocks(8, depth, 2, 0.0).eval()


def test_absent_tokens_are_as_if_they_were_not_there():
    blocks, tokens = make(), torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    present = torch.tensor([[True, True, True, False, False]]).expand(3, 5)
    whole, cut = blocks(tokens, present), blocks(tokens[:, :3], present[:, :3])
    assert_close(whole.pooled, cut.pooled)
    assert_close(whole.tokens[:, :3], cut.tokens)
    assert whole.mask.equal(present)


def test_order_matters_to_nobody_and_no_tokens_are_a_state():
    blocks, tokens = make(), torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    present = torch.ones(2, 4, dtype=torch.bool)
    assert_close(blocks(tokens.flip(1), present).pooled, blocks(tokens, present).pooled)
    nothing = blocks(tokens[:, :0], present[:, :0])
    assert nothing.tokens.shape == (2, 0, 8)
    assert_close(nothing.pooled[0], nothing.pooled[1])
    assert_close(make(depth=0)(tokens, present).pooled[0], make(depth=0).norm(make(depth=0).patient))
