"""Tokens of a patient that attend to one another, and one that gathers them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from graphssl.encoders.base import Embedding
from graphssl.encoders.graph_transformer import Block


class PatientBlocks(nn.Module):
    """Blocks of attention over tokens of a patient with a token of its own in front, whose vector is the patient's.

    Args:
        width: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        dropout: Dropout of attention and feed-forward outputs.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.patient = nn.Parameter(0.1 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "B N D"], present: Bool[Tensor, "B N"]) -> Embedding:
        """Embed tokens; those that are not present are not attended to."""
        attended = torch.cat([present.new_ones(len(tokens), 1), present], dim=1)
        tokens = self.norm(attend_with_patient(self.patient, self.blocks, tokens, attended[:, None, None, :]))
        return Embedding(tokens[:, 1:], present, tokens[:, 0])


def attend_with_patient(
    patient: Float[Tensor, "D"], blocks: nn.ModuleList, tokens: Float[Tensor, "B N D"], mask: Tensor | None = None
) -> Float[Tensor, "B N+1 D"]:
    """Tokens after blocks of attention, behind the token of the patient that stood in front of them.

    Args:
        patient: The patient's token.
        blocks: Blocks of attention.
        tokens: Tokens of each patient.
        mask: Mask of attention over `N + 1` places; everything is attended to when left out.
    """
    tokens = torch.cat([patient.expand(len(tokens), 1, -1), tokens], dim=1)
    mask = tokens.new_zeros(1, 1, 1, tokens.shape[1]) if mask is None else mask  # zeros hide nothing
    for block in blocks:
        tokens = block(tokens, mask)
    return tokens
