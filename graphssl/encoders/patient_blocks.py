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
        tokens = torch.cat([self.patient.expand(len(tokens), 1, -1), tokens], dim=1)
        attended = torch.cat([present.new_ones(len(tokens), 1), present], dim=1)
        for block in self.blocks:
            tokens = block(tokens, attended[:, None, None, :])
        tokens = self.norm(tokens)
        return Embedding(tokens[:, 1:], present, tokens[:, 0])
